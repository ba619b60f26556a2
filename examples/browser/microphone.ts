/** Sound of the microphone, mono at 16 kHz. */
const RATE = 16000;
/** Seconds that are kept. */
const LONGEST = 600;

/** A microphone that is on. */
export interface Microphone {
  /** All that it heard so far. */
  heard(): Float32Array;
  /** Turns it off. */
  stop(): void;
}

/** The processor hands on what it hears; 128 samples at a time. */
const PROCESSOR = `registerProcessor("ear", class extends AudioWorkletProcessor {
  process([[channel]]) { if (channel) this.port.postMessage(channel.slice()); return true; }
})`;

/** Turns the microphone on. Throws one line where the user or the system refuses. */
export async function openMicrophone(): Promise<Microphone> {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch((error: DOMException) => {
    const reasons: Record<string, string> = {
      NotAllowedError: "it was refused; allow it in the browser's settings of this page",
      NotFoundError: "there is none",
      NotReadableError: "another program holds it",
    };
    throw new Error(`Cannot use the microphone: ${reasons[error.name] ?? error.message}`);
  });
  const context = new AudioContext({ sampleRate: RATE });
  const module = URL.createObjectURL(new Blob([PROCESSOR], { type: "text/javascript" }));
  await context.audioWorklet.addModule(module);
  URL.revokeObjectURL(module);
  const ear = new AudioWorkletNode(context, "ear", {
    numberOfOutputs: 0,
    channelCount: 1,
    channelCountMode: "explicit",
  });
  const parts: Float32Array[] = [];
  ear.port.onmessage = ({ data }) => {
    if (parts.length * 128 < LONGEST * RATE) parts.push(data);
  };
  context.createMediaStreamSource(stream).connect(ear);
  return {
    heard: () => {
      const all = new Float32Array(parts.length * 128);
      for (const [i, part] of parts.entries()) all.set(part, i * 128);
      return all;
    },
    stop() {
      for (const track of stream.getTracks()) track.stop();
      void context.close();
    },
  };
}

/** A WAV file of the samples, for the player. */
export function wavOf(samples: Float32Array): Blob {
  const bytes = new DataView(new ArrayBuffer(44 + samples.length * 2));
  const write = (at: number, text: string) => {
    for (let i = 0; i < text.length; i++) bytes.setUint8(at + i, text.charCodeAt(i));
  };
  write(0, "RIFF");
  bytes.setUint32(4, 36 + samples.length * 2, true);
  write(8, "WAVEfmt ");
  for (const [at, value] of [
    [16, 16],
    [24, RATE],
    [28, RATE * 2],
    [40, samples.length * 2],
  ])
    bytes.setUint32(at, value, true);
  for (const [at, value] of [
    [20, 1],
    [22, 1],
    [32, 2],
    [34, 16],
  ])
    bytes.setUint16(at, value, true);
  write(36, "data");
  for (const [i, value] of samples.entries())
    bytes.setInt16(44 + i * 2, Math.max(-1, Math.min(1, value)) * 32767, true);
  return new Blob([bytes], { type: "audio/wav" });
}

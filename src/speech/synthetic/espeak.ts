/** eSpeak NG in WebAssembly. The package is GPL-3.0, and needed only for making corpora: it is loaded here only. */
import { ALL_VOICES } from "./speakers.ts";
import type { Speech, SpeechRequest } from "./synthesis.ts";

/** The package's name; a development dependency. */
export const SYNTHESISER = "@echogarden/espeak-ng-emscripten";

interface Event {
  type: string;
  text_position: number;
  word_length: number;
  audio_position: number;
}
interface Worker {
  set_voice(name: string): number;
  set_rate(value: number): void;
  set_pitch(value: number): void;
  set_range(value: number): void;
  get_samplerate(): number;
  synthesize(text: string, receive: (audio: Int16Array | null, events: Event[]) => void): void;
}
interface Espeak {
  HEAPU8: Uint8Array;
  FS: {
    readFile(path: string, options: { encoding: "utf8" }): string;
    writeFile(path: string, text: string): void;
  };
  eSpeakNGWorker: new () => Worker;
}

const VARIANTS = "/usr/share/espeak-ng-data/voices/!v";
const LONGEST_GAP = 9;

/**
 * Loads the synthesiser. Equal requests give equal samples in every process in which Date.now() is constant, since eSpeak
 * seeds its noise from the clock. Throws where the package is not installed; the returned function throws for an unknown
 * voice.
 */
export async function openEspeak(): Promise<(request: SpeechRequest) => Speech> {
  const { default: load } = (await import(SYNTHESISER)) as { default: () => Promise<Espeak> };
  const espeak = await load();
  const worker = new espeak.eSpeakNGWorker();
  // In eSpeak the pause between words is a property of the voice: one variant for each length.
  for (const voice of ALL_VOICES) {
    const variant = espeak.FS.readFile(`${VARIANTS}/${voice}`, { encoding: "utf8" });
    for (let gap = 0; gap <= LONGEST_GAP; gap++)
      espeak.FS.writeFile(`${VARIANTS}/${voice}-${gap}`, `${variant}\nwords ${gap}\n`);
  }
  worker.set_voice(`gmw/en-US+${ALL_VOICES[0]}-0`);
  // The memory is restored before every request, so that no clip depends on the one before.
  const initial = espeak.HEAPU8.slice();
  return (request) => {
    espeak.HEAPU8.set(initial);
    espeak.HEAPU8.fill(0, initial.length);
    const { voice, variant, gap } = request;
    if (variant !== undefined)
      espeak.FS.writeFile(
        `${VARIANTS}/${nameOf(voice, gap)}`,
        `${variant}\nwords ${Math.min(gap, LONGEST_GAP)}\n`,
      );
    return synthesise(worker, request);
  };
}

/** A voice with a pause between words. */
const nameOf = (voice: string, gap: number): string => `${voice}-${Math.min(gap, LONGEST_GAP)}`;

function synthesise(worker: Worker, { voice, gap, rate, pitch, range, text }: SpeechRequest): Speech {
  if (worker.set_voice(`gmw/en-US+${nameOf(voice, gap)}`) !== 0)
    throw new Error(`Cannot speak: the synthesiser has no voice ${voice}`);
  worker.set_rate(rate);
  worker.set_pitch(pitch);
  worker.set_range(range);
  const chunks: Int16Array[] = [];
  const words: { position: number; seconds: number }[] = [];
  worker.synthesize(text, (audio, events) => {
    if (audio !== null) chunks.push(audio.slice());
    for (const event of events) {
      if (event.type !== "word" || event.word_length === 0) continue;
      words.push({ position: event.text_position - 1, seconds: event.audio_position / 1000 });
    }
  });
  const samples = new Int16Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    samples.set(chunk, at);
    at += chunk.length;
  }
  return { samples, sampleRate: worker.get_samplerate(), words };
}

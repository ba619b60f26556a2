/** Sound of files, mono at 16 kHz, a piece at a time. */
import { type Host, openAudio } from "wavegate";

const RATE = 16000;
/** Seconds of the longest recording that the browser decodes, which it does as a whole. */
const LONGEST = 600;
/** Samples of a piece of what the browser has decoded. */
const PIECE = 10 * RATE;

/** What the engine reads itself, so that samples are those of Node: WAV, Ogg, FLAC and MP3 by their first bytes. */
const OWN = /^(RIFF....WAVE|RF64|BW64|OggS|fLaC|ID3|\xff[\xe2-\xef\xf2-\xf7\xfa\xfb])/s;

/** An open recording. */
export interface Recording {
  /** Its length, where that is known before it is read. */
  readonly seconds?: number;
  readonly pieces: AsyncIterable<Float32Array>;
  close(): Promise<void>;
}

/** Opens a recording: of any length where the engine reads it, at most 10 minutes long where the browser does. */
export async function openRecording(host: Host, file: Blob): Promise<Recording> {
  const head = new TextDecoder("latin1").decode(await file.slice(0, 12).arrayBuffer());
  if (!OWN.test(head)) return await decoded(file);
  const address = URL.createObjectURL(file);
  const named = (error: unknown) =>
    new Error((error as Error).message.replace(address, "the recording"), { cause: error });
  try {
    const audio = await openAudio(host, address);
    const pieces = (async function* () {
      try {
        yield* audio.pieces;
      } catch (error) {
        throw named(error);
      }
    })();
    const close = async () => {
      await audio.close();
      URL.revokeObjectURL(address);
    };
    return { seconds: audio.seconds, pieces, close };
  } catch (error) {
    URL.revokeObjectURL(address);
    throw named(error);
  }
}

async function decoded(file: Blob): Promise<Recording> {
  requireShort(await secondsOf(file));
  const context = new OfflineAudioContext(1, 1, RATE);
  const sound = await context.decodeAudioData(await file.arrayBuffer()).catch(() => {
    throw new Error(
      "Cannot read the recording: it is nothing that this browser decodes, a recording expected",
    );
  });
  requireShort(sound.duration);
  const mono = new Float32Array(sound.length);
  for (let c = 0; c < sound.numberOfChannels; c++)
    for (const [i, value] of sound.getChannelData(c).entries()) mono[i] += value / sound.numberOfChannels;
  const pieces = (async function* () {
    for (let at = 0; at < mono.length; at += PIECE) yield mono.subarray(at, at + PIECE);
  })();
  return { seconds: sound.duration, pieces, close: async () => {} };
}

/** The length of what a browser plays; 0 where it does not tell. */
async function secondsOf(file: Blob): Promise<number> {
  const player = new Audio(URL.createObjectURL(file));
  await new Promise((resolve) => {
    player.onloadedmetadata = player.onerror = resolve;
  });
  URL.revokeObjectURL(player.src);
  return Number.isFinite(player.duration) ? player.duration : 0;
}

function requireShort(seconds: number): void {
  if (seconds > LONGEST)
    throw new RangeError(
      `Cannot read the recording: it is too long, ${seconds.toFixed(0)} s, at most ${LONGEST} s of this format; WAV, MP3, FLAC and Ogg may be of any length`,
    );
}

/** Recordings of any length and format as mono samples at 16 kHz, a piece at a time. */
import type { Host, RangedFile } from "../host/host.ts";
import { type Audio, named, requireLong } from "./audio.ts";
import { requireFinite, SAMPLE_RATE } from "./samples.ts";
import { HEAD_BYTES, kindOfFile } from "./file_kinds.ts";
import { Resampler } from "./resample.ts";
import type { CompressedSound } from "./sound_decoders.ts";
import { readWavFormat, type WavFormat } from "./wav.ts";
import { channelSums, monoPieces } from "./wav_samples.ts";

/** Encodings of samples without a header. */
export const RAW_ENCODINGS = ["u8", "s16le", "s24le", "s32le", "f32le", "f64le", "mulaw", "alaw"] as const;

/** Samples without a header, frame by frame. */
export interface RawFormat {
  /** Format of a sample. */
  readonly encoding: (typeof RAW_ENCODINGS)[number];
  /** Hz. Default 16000. */
  readonly rate?: number;
  /** Default 1. */
  readonly channels?: number;
}

/** Options of openAudio(). */
export interface AudioStreamOptions {
  /** Files with fewer samples at 16 kHz are refused. Default 1. */
  readonly minSamples?: number;
  /** The file is none of the formats that say what they are, but these samples. */
  readonly raw?: RawFormat;
}

/** An open recording. */
export interface AudioStream {
  /** Length by the header; absent where that does not tell. */
  readonly seconds?: number;
  /** Of the file, in Hz; known once the first piece is read. */
  readonly sampleRate: number;
  /** Of the file; known once the first piece is read. mpg123 gives two of every MP3. */
  readonly channels: number;
  /** What is irregular about it, one line each, without its name; complete after the last piece. */
  readonly notes: readonly string[];
  /** The samples, mono at 16 kHz and not normalised; once. */
  readonly pieces: AsyncGenerator<Float32Array>;
  /** Closes the file. */
  close(): Promise<void>;
}

/** Bytes of a compressed file that are decoded at a time. */
const READ_BYTES = 1 << 15;
/** Seconds that a file may lack of what its header announces. */
const MAX_MISCOUNT = 0.1;

/**
 * Opens a recording: WAV, MP3, FLAC, Ogg (Vorbis, Opus, FLAC), or raw samples. Throws one line that names the file where it is
 * none of them, damaged or too short, as the pieces do.
 */
export async function openAudio(
  host: Host,
  path: string,
  { minSamples = 1, raw }: AudioStreamOptions = {},
): Promise<AudioStream> {
  const file = await host.open(path);
  try {
    const opened = await openSamples(file, raw);
    const about = opened.about;
    return {
      ...{ seconds: about.seconds, notes: about.notes, close: () => file.close() },
      get sampleRate() {
        return about.sampleRate;
      },
      get channels() {
        return about.channels;
      },
      pieces: resampled(path, opened, minSamples),
    };
  } catch (error) {
    await file.close();
    throw named(path, error);
  }
}

/**
 * Reads a recording to its end where it is at most `maxSeconds` long; else gives it as a stream that begins with what was read.
 * The caller closes that.
 */
export async function readAudio(
  host: Host,
  path: string,
  maxSeconds: number,
  options: AudioStreamOptions = {},
): Promise<Audio | AudioStream> {
  const stream = await openAudio(host, path, options);
  const read: Float32Array[] = [];
  let samples = 0;
  try {
    while ((stream.seconds ?? 0) <= maxSeconds && samples <= maxSeconds * SAMPLE_RATE) {
      const { value, done } = await stream.pieces.next();
      if (done) {
        await stream.close();
        const { sampleRate, channels, notes } = stream;
        const whole = joined(read);
        return { samples: whole, sampleRate, channels, seconds: whole.length / SAMPLE_RATE, notes };
      }
      read.push(value);
      samples += value.length;
    }
  } catch (error) {
    await stream.close();
    throw error;
  }
  return {
    ...{ seconds: stream.seconds, notes: stream.notes, close: () => stream.close() },
    get sampleRate() {
      return stream.sampleRate;
    },
    get channels() {
      return stream.channels;
    },
    pieces: (async function* () {
      yield* read.splice(0);
      yield* stream.pieces;
    })(),
  };
}

/** Arrays one behind the other. */
export function joined(parts: readonly Float32Array[]): Float32Array {
  if (parts.length === 1) return parts[0];
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** What is known of a file; decoders learn more as they go. */
interface About {
  sampleRate: number;
  channels: number;
  readonly seconds?: number;
  readonly notes: string[];
}

interface Opened {
  readonly about: About;
  /** The mean over the channels, at the file's rate. */
  readonly pieces: AsyncGenerator<Float32Array>;
}

async function openSamples(file: RangedFile, raw: RawFormat | undefined): Promise<Opened> {
  const head = new Uint8Array(Math.min(HEAD_BYTES, file.size));
  await file.read(head, 0);
  const kind = raw ? undefined : kindOfFile(head);
  if (kind === "MP3" || kind === "FLAC" || kind === "Ogg") {
    const { openCompressed } = await import("./sound_decoders.ts");
    const compressed = await openCompressed(file, kind, head);
    const { seconds, note } = compressed;
    const about: About = { sampleRate: 0, channels: 0, seconds, notes: note ? [note] : [] };
    return { about, pieces: decoded(file, compressed, about) };
  }
  const format = raw ? rawFormat(file, raw) : await wavFormat(file, head);
  const { sampleRate, channels, frames, note } = format;
  const about = { sampleRate, channels, seconds: frames / sampleRate, notes: note ? [note] : [] };
  return { about, pieces: monoPieces(file, format) };
}

async function wavFormat(file: RangedFile, head: Uint8Array): Promise<WavFormat> {
  if (/^(RIFF|RF64|BW64)/.test(String.fromCharCode(...head.subarray(0, 4)))) return await readWavFormat(file);
  const kind = kindOfFile(head);
  const found = file.size === 0 ? "the file is empty" : kind ? `it is ${kind}` : "it is not a sound file";
  throw new SyntaxError(`${found}, expected RIFF/WAVE, MP3, FLAC or Ogg (Vorbis, Opus)`);
}

const RAW: Record<RawFormat["encoding"], Pick<WavFormat, "encoding" | "bytesPerSample">> = {
  u8: { encoding: "integer", bytesPerSample: 1 },
  s16le: { encoding: "integer", bytesPerSample: 2 },
  s24le: { encoding: "integer", bytesPerSample: 3 },
  s32le: { encoding: "integer", bytesPerSample: 4 },
  f32le: { encoding: "float", bytesPerSample: 4 },
  f64le: { encoding: "float", bytesPerSample: 8 },
  mulaw: { encoding: "mu-law", bytesPerSample: 1 },
  alaw: { encoding: "A-law", bytesPerSample: 1 },
};

function rawFormat(
  { size }: RangedFile,
  { encoding, rate = SAMPLE_RATE, channels = 1 }: RawFormat,
): WavFormat {
  if (!(Number.isInteger(channels) && channels >= 1))
    throw new RangeError(`it has ${channels} channels, expected at least 1`);
  if (!(Number.isInteger(rate) && rate >= 1000 && rate <= 384_000))
    throw new RangeError(`its rate is ${rate} Hz, expected 1000 to 384000`);
  const step = RAW[encoding].bytesPerSample * channels;
  const frames = Math.floor(size / step);
  if (frames === 0) throw new RangeError("it holds no samples");
  const rest = size % step;
  const note = rest > 0 ? `${rest} bytes behind its last frame of ${step} bytes are not read` : undefined;
  return { ...RAW[encoding], sampleRate: rate, channels, frames, position: 0, note };
}

async function* decoded(
  file: RangedFile,
  { decoder, seconds }: CompressedSound,
  about: About,
): AsyncGenerator<Float32Array> {
  let sums: ReturnType<typeof channelSums> | undefined;
  let [frames, damaged] = [0, 0];
  const mono = ({ channelData, sampleRate, errors }: Awaited<ReturnType<typeof decoder.flush>>) => {
    damaged += errors.length;
    const length = channelData[0]?.length ?? 0;
    if (length === 0) return undefined;
    const channels = channelData.length;
    if (!sums) {
      if (sampleRate < 1000 || sampleRate > 384_000)
        throw new RangeError(`its rate is ${sampleRate} Hz, expected 1000 to 384000`);
      [about.sampleRate, about.channels] = [sampleRate, channels];
      sums = channelSums(channels);
    }
    if (sampleRate !== about.sampleRate || channels !== about.channels)
      throw new SyntaxError(
        `it changes from ${about.channels} channels at ${about.sampleRate} Hz to ${channels} at ${sampleRate} Hz`,
      );
    frames += length;
    return mixdown(channelData, sums);
  };
  try {
    for (let at = 0; at < file.size; at += READ_BYTES) {
      const bytes = new Uint8Array(Math.min(READ_BYTES, file.size - at));
      await file.read(bytes, at);
      const piece = mono(await decode(() => decoder.decode(bytes)));
      if (piece) yield piece;
    }
    const rest = mono(await decode(() => decoder.flush()));
    if (rest) yield rest;
  } finally {
    decoder.free();
  }
  if (frames === 0) throw new SyntaxError("it holds no sound that can be decoded");
  const found = frames / about.sampleRate;
  if (seconds !== undefined && seconds - found > MAX_MISCOUNT)
    throw new SyntaxError(
      `it is cut off or damaged: ${seconds.toFixed(1)} s announced, ${found.toFixed(1)} s are there`,
    );
  if (damaged > 0) about.notes.push(`${damaged} of its frames are damaged and left out`);
  sums?.check(frames);
}

/** Decoders throw what they like at bytes that are none of their format. */
async function decode<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw new SyntaxError(`it cannot be decoded: ${(error as Error).message.split("\n")[0]}`, {
      cause: error,
    });
  }
}

function mixdown(
  channelData: readonly Float32Array[],
  { sums, squares }: ReturnType<typeof channelSums>,
): Float32Array {
  const channels = channelData.length;
  const mono = new Float32Array(channelData[0].length);
  for (let i = 0; i < mono.length; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) {
      const value = channelData[c][i];
      sum += value;
      sums[c] += value;
      squares[c] += value * value;
    }
    const mean = sum / channels;
    mono[i] = mean;
    sums[channels] += mean;
    squares[channels] += mean * mean;
  }
  return mono;
}

/** Pieces at 16 kHz, of finite samples. */
async function* resampled(
  path: string,
  { about, pieces }: Opened,
  minSamples: number,
): AsyncGenerator<Float32Array> {
  try {
    if (about.seconds !== undefined) requireLong(about.seconds, minSamples);
    let resampler: Resampler | undefined;
    let [read, given] = [0, 0];
    const finite = (samples: Float32Array) => {
      requireFinite(samples, "", given); // the filter may overflow near the end of float32's range
      given += samples.length;
      return samples;
    };
    for await (const piece of pieces) {
      requireFinite(piece, "", read);
      read += piece.length;
      resampler ??= new Resampler(about.sampleRate, SAMPLE_RATE);
      const samples = finite(resampler.push(piece));
      if (samples.length > 0) yield samples;
    }
    const rest = finite(resampler?.end() ?? new Float32Array(0));
    if (rest.length > 0) yield rest;
    requireLong(read / about.sampleRate, minSamples);
  } catch (error) {
    throw named(path, error);
  }
}

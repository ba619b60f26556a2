/** Recordings from WAV files, as the models take them. */
import type { Host } from "../host/host.ts";
import { resample } from "./resample.ts";
import { requireFinite, SAMPLE_RATE } from "./samples.ts";
import { readWavFormat } from "./wav.ts";
import { readMono } from "./wav_samples.ts";

/** Default of AudioOptions.maxSeconds: a longer file is hardly an utterance. */
export const MAX_SECONDS = 300;

/** A recording in memory. */
export interface Audio {
  /** (N): mono at 16 kHz, not normalised. */
  samples: Float32Array;
  /** Of the file, in Hz. */
  sampleRate: number;
  /** Of the file. */
  channels: number;
  /** Of the file. */
  seconds: number;
  /** Irregularities of the file that did not keep it from being read, one line each, without its name. */
  notes: readonly string[];
}

/** Limits of readWav(). */
export interface AudioOptions {
  /** Longer files are refused before they are read. Default 300. */
  maxSeconds?: number;
  /** So are files with fewer samples at 16 kHz; receptiveField() of an encoder's config. Default 1. */
  minSamples?: number;
}

/**
 * Reads a WAV file, mixes it down to mono and resamples it to 16 kHz. Throws one line that names the file where it is no WAV
 * file, damaged, too short or too long, or has an unknown codec or a sample that is not finite.
 *
 * @example
 * ```ts
 * const { samples, sampleRate, channels, notes } = await readWav(host, `${bundledModel()}/clips/Ses05F_impro03_F000.wav`);
 * console.log(sampleRate, channels, notes.length); // 16000 1 0
 * console.log(samples.length); // 19210
 * ```
 */
export async function readWav(
  host: Host,
  path: string,
  { maxSeconds = MAX_SECONDS, minSamples = 1 }: AudioOptions = {},
): Promise<Audio> {
  const file = await host.open(path);
  try {
    const format = await readWavFormat(file);
    const { sampleRate, channels, frames } = format;
    const seconds = frames / sampleRate;
    requireShort(seconds, maxSeconds);
    requireLong(seconds, minSamples);
    const mono = await readMono(file, format);
    requireFinite(mono);
    const samples = resample(mono, sampleRate, SAMPLE_RATE);
    requireFinite(samples); // the filter may overflow near the end of float32's range
    return { samples, sampleRate, channels, seconds, notes: format.note ? [format.note] : [] };
  } catch (error) {
    throw named(path, error);
  } finally {
    await file.close();
  }
}

/** Throws a RangeError, without the file's name, for more seconds than `maxSeconds`. */
export function requireShort(seconds: number, maxSeconds: number): void {
  if (seconds > maxSeconds)
    throw new RangeError(`it is too long: ${seconds.toFixed(1)} s, at most ${maxSeconds} s accepted`);
}

/** Throws a RangeError, without the file's name, for fewer samples at 16 kHz than `minSamples`. */
export function requireLong(seconds: number, minSamples: number): void {
  if (Math.round(seconds * SAMPLE_RATE) >= minSamples) return;
  const least = Number(((1000 * minSamples) / SAMPLE_RATE).toFixed(1));
  throw new RangeError(`it is too short: ${(1000 * seconds).toFixed(1)} ms, at least ${least} ms needed`);
}

/** An error about what a file holds, with the file's name. */
export function named(path: string, error: unknown): unknown {
  if (error instanceof SyntaxError || error instanceof RangeError)
    error.message = `Cannot read ${path}: ${error.message}`;
  return error;
}

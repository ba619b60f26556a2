/** Audio as the models take it: mono, 16 kHz, float32, zero mean and unit variance. */

import type { Host } from "../host/host.ts";
import { resample } from "./resample.ts";
import { readWavFormat } from "./wav.ts";
import { readMono } from "./wav_samples.ts";

/** Hz, of all models. */
export const SAMPLE_RATE = 16000;
/** Default of AudioOptions.maxSeconds: a longer file is hardly an utterance. */
export const MAX_SECONDS = 300;

/**
 * Largest amplitude of a silent frame: −72 dB of full scale, the smallest step of A-law and 8 steps of 16 bits, less than the
 * noise of any microphone. Speech of −60 dB is far above.
 */
const SILENCE = 8 / 2 ** 15;
/** 25 ms. */
const FRAME = 0.025 * SAMPLE_RATE;
/** Fewest frames of speech: the shortest syllable lasts 100 ms, which a click does not. */
const SYLLABLE_FRAMES = 4;

/** Whether fewer than 100 ms of samples (N), or than a quarter of them, are above −72 dB; a constant offset does not count. */
export function isSilent(samples: Float32Array): boolean {
  const enough = Math.min(SYLLABLE_FRAMES, Math.ceil(samples.length / FRAME / 4));
  for (let at = 0, active = 0; at < samples.length; at += FRAME)
    if (isActive(samples.subarray(at, at + FRAME)) && ++active >= enough) return false;
  return true;
}

function isActive(frame: Float32Array): boolean {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of frame) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return most - least > 2 * SILENCE;
}

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

/** Throws a RangeError for a sample that is not finite; `prefix` begins its message, `first` is the index of samples[0]. */
export function requireFinite(samples: Float32Array, prefix = "", first = 0): void {
  const bad = samples.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0)
    throw new RangeError(`${prefix}sample ${first + bad} is ${samples[bad]}, expected a finite number`);
}

/**
 * (x − mean) / √(var + 1e-7) over one utterance, before any padding, as Wav2Vec2FeatureExtractor does. Throws a
 * RangeError where there is no sample, or one that is not finite.
 */
export function normalize(samples: Float32Array): Float32Array {
  if (samples.length === 0) throw new RangeError("Cannot normalize a recording: it holds no samples");
  let sum = 0;
  for (const value of samples) sum += value;
  if (!Number.isFinite(sum)) requireFinite(samples, "Cannot normalize a recording: ");
  const mean = sum / samples.length;
  let squares = 0;
  for (const value of samples) squares += (value - mean) ** 2;
  const rstd = 1 / Math.sqrt(squares / samples.length + 1e-7);
  return samples.map((value) => (value - mean) * rstd);
}

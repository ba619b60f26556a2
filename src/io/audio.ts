/** Sound as the models want it: mono, 16 kHz, float32, zero mean and unit variance. */

import type { Host } from "../host/host.ts";
import { resample } from "./resample.ts";
import { readWavFormat } from "./wav.ts";
import { readMono } from "./wav_samples.ts";

export const SAMPLE_RATE = 16000;
/** A longer file is rather a mistake than an utterance. */
export const MAX_SECONDS = 300;

/**
 * What moves no further than this from its middle, within 25 ms, holds nothing to recognise: −72 dB of full scale, the
 * smallest step of A-law and 8 steps of 16 bits, less than the noise of any microphone. Speech of −60 dB is far above.
 */
const SILENCE = 8 / 2 ** 15;
const FRAME = 0.025 * SAMPLE_RATE;
/** A click or two are no speech either: the shortest syllable lasts 100 ms. */
const SYLLABLE_FRAMES = 4;

/** Whether nothing can be heard in samples, which may have an offset: not 100 ms of them, nor a quarter, are above silence. */
export function isSilent(samples: Float32Array): boolean {
  const enough = Math.min(SYLLABLE_FRAMES, Math.ceil(samples.length / FRAME / 4));
  for (let at = 0, loud = 0; at < samples.length; at += FRAME)
    if (isLoud(samples.subarray(at, at + FRAME)) && ++loud >= enough) return false;
  return true;
}

function isLoud(frame: Float32Array): boolean {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of frame) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return most - least > 2 * SILENCE;
}

export interface Audio {
  /** Mono at 16 kHz, not normalised. */
  samples: Float32Array;
  /** Of the file. */
  sampleRate: number;
  channels: number;
  seconds: number;
  /** What was odd about the file and did not keep it from being read, a line each without the file's name. */
  notes: readonly string[];
}

export interface AudioOptions {
  /** Longer files are refused before they are read. */
  maxSeconds?: number;
  /** So are shorter ones: fewest samples at 16 kHz, as receptiveField() of an encoder's config. 1 by default. */
  minSamples?: number;
}

/** Throws one line that names the file: not WAV, damaged, unknown codec, too short, too long, not finite. */
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
    if (seconds > maxSeconds) {
      throw new RangeError(`it is too long: ${seconds.toFixed(1)} s, at most ${maxSeconds} s accepted`);
    }
    if (Math.round(seconds * SAMPLE_RATE) < minSamples) {
      const least = Number(((1000 * minSamples) / SAMPLE_RATE).toFixed(1));
      throw new RangeError(`it is too short: ${(1000 * seconds).toFixed(1)} ms, at least ${least} ms needed`);
    }
    const mono = await readMono(file, format);
    requireFinite(mono);
    const samples = resample(mono, sampleRate, SAMPLE_RATE);
    requireFinite(samples); // near the end of float32's range a filter may leave it
    return { samples, sampleRate, channels, seconds, notes: format.note ? [format.note] : [] };
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) {
      error.message = `Cannot read ${path}: ${error.message}`;
    }
    throw error;
  } finally {
    await file.close();
  }
}

/** Throws a RangeError for a sample that is not finite; `prefix` begins its message. */
export function requireFinite(samples: Float32Array, prefix = ""): void {
  const bad = samples.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new RangeError(`${prefix}sample ${bad} is ${samples[bad]}, expected a finite number`);
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

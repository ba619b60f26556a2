/** Sound as the models want it: mono, 16 kHz, float32, zero mean and unit variance. */

import type { Host } from "../host/host.ts";
import { resample } from "./resample.ts";
import { readMono, readWavFormat } from "./wav.ts";

export const SAMPLE_RATE = 16000;
/** Below this the convolutions of HuBERT yield no frame: their field is 25 ms. */
export const SHORTEST_SAMPLES = 400;
/** A longer file is rather a mistake than an utterance. */
export const LONGEST_SECONDS = 300;

export interface Audio {
  /** Mono at 16 kHz, not normalised. */
  samples: Float32Array;
  /** Of the file. */
  sampleRate: number;
  channels: number;
  seconds: number;
}

export interface AudioOptions {
  /** Longer files are refused before they are read. */
  maxSeconds?: number;
}

/** Throws one line that names the file: not WAV, damaged, unknown codec, too short, too long, not finite. */
export async function readWav(
  host: Host,
  path: string,
  { maxSeconds = LONGEST_SECONDS }: AudioOptions = {},
): Promise<Audio> {
  const file = await host.open(path);
  try {
    const format = await readWavFormat(file);
    const { sampleRate, channels, frames } = format;
    const seconds = frames / sampleRate;
    if (seconds > maxSeconds) {
      throw new RangeError(`it is too long: ${seconds.toFixed(1)} s, at most ${maxSeconds} s accepted`);
    }
    if (Math.round(seconds * SAMPLE_RATE) < SHORTEST_SAMPLES) {
      throw new RangeError(`it is too short: ${(1000 * seconds).toFixed(1)} ms, at least 25 ms needed`);
    }
    const mono = await readMono(file, format);
    const bad = mono.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) throw new RangeError(`sample ${bad} is ${mono[bad]}, expected a finite number`);
    return { samples: resample(mono, sampleRate, SAMPLE_RATE), sampleRate, channels, seconds };
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) {
      error.message = `Cannot read ${path}: ${error.message}`;
    }
    throw error;
  } finally {
    await file.close();
  }
}

/** (x − mean) / √(var + 1e-7) over one utterance, before any padding, as Wav2Vec2FeatureExtractor does. */
export function normalize(samples: Float32Array): Float32Array {
  let sum = 0;
  for (const value of samples) sum += value;
  const mean = sum / samples.length;
  let squares = 0;
  for (const value of samples) squares += (value - mean) ** 2;
  const rstd = 1 / Math.sqrt(squares / samples.length + 1e-7);
  return samples.map((value) => (value - mean) * rstd);
}

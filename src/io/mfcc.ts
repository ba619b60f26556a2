/**
 * Mel-frequency cepstral coefficients as Kaldi computes them (torchaudio.compliance.kaldi.mfcc with its defaults, no dither, and
 * use_energy=False), with their first and second differences (torchaudio.functional.compute_deltas): the features from which
 * HuBERT's first units are clustered.
 */
import { SAMPLE_RATE } from "./samples.ts";

/** Coefficients of a frame: 13, their differences, and the differences of those. */
export const MFCC_SIZE = 39;
/** Samples of a frame: 25 ms. */
export const MFCC_WINDOW = 400;
/** Samples from one frame to the next: 10 ms. */
export const MFCC_HOP = 160;

const COEFFICIENTS = 13;
const POINTS = 512;
const FILTERS = 23;
const LOWEST = 20;
const PREEMPHASIS = 0.97;
const LIFTER = 22;
/** Of torch.float32. */
const EPSILON = 2 ** -23;

const mel = (hertz: number): number => 1127 * Math.log(1 + hertz / 700);

/** Triangles on the mel scale, (FILTERS, POINTS/2): as Kaldi's, without the highest frequency. */
const filters = (() => {
  const bins = POINTS / 2;
  const [low, high] = [mel(LOWEST), mel(SAMPLE_RATE / 2)];
  const step = (high - low) / (FILTERS + 1);
  const weights = new Float64Array(FILTERS * bins);
  for (let m = 0; m < FILTERS; m++) {
    const left = low + m * step;
    for (let k = 0; k < bins; k++) {
      const at = mel((k * SAMPLE_RATE) / POINTS);
      const height = Math.min((at - left) / step, (left + 2 * step - at) / step);
      weights[m * bins + k] = Math.max(0, height);
    }
  }
  return weights;
})();

/** The orthonormal DCT-II times the lifter, (COEFFICIENTS, FILTERS). */
const cosines = Float64Array.from({ length: COEFFICIENTS * FILTERS }, (_, i) => {
  const [c, m] = [Math.floor(i / FILTERS), i % FILTERS];
  const norm = Math.sqrt((c === 0 ? 1 : 2) / FILTERS);
  const lifter = 1 + 0.5 * LIFTER * Math.sin((Math.PI * c) / LIFTER);
  return lifter * norm * Math.cos((Math.PI / FILTERS) * (m + 0.5) * c);
});

/** Povey's window. */
const povey = Float64Array.from(
  { length: MFCC_WINDOW },
  (_, i) => (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (MFCC_WINDOW - 1))) ** 0.85,
);

/** Samples (N) at 16 kHz → (frames, 39), row by row; fewer samples than a frame has are one frame, with zeros behind them. */
export function mfcc(samples: Float32Array): Float32Array {
  const frames = 1 + Math.max(0, Math.floor((samples.length - MFCC_WINDOW) / MFCC_HOP));
  const base = new Float64Array(frames * COEFFICIENTS);
  const [re, im] = [new Float64Array(POINTS), new Float64Array(POINTS)];
  for (let t = 0; t < frames; t++) {
    windowed(samples, t * MFCC_HOP, re);
    im.fill(0);
    transform(re, im);
    const energies = Array.from({ length: FILTERS }, (_, m) => {
      let energy = 0;
      for (let k = 0; k < POINTS / 2; k++)
        energy += filters[(m * POINTS) / 2 + k] * (re[k] ** 2 + im[k] ** 2);
      return Math.log(Math.max(energy, EPSILON));
    });
    for (let c = 0; c < COEFFICIENTS; c++)
      base[t * COEFFICIENTS + c] = energies.reduce((s, e, m) => s + cosines[c * FILTERS + m] * e, 0);
  }
  const first = differences(base, frames);
  const second = differences(first, frames);
  const out = new Float32Array(frames * MFCC_SIZE);
  for (let t = 0; t < frames; t++)
    for (const [part, values] of [base, first, second].entries())
      out.set(values.subarray(t * COEFFICIENTS, (t + 1) * COEFFICIENTS), t * MFCC_SIZE + part * COEFFICIENTS);
  return out;
}

/** A frame without its mean, pre-emphasised and windowed, with zeros behind it. */
function windowed(samples: Float32Array, from: number, out: Float64Array): void {
  let mean = 0;
  for (let i = 0; i < MFCC_WINDOW; i++) mean += samples[from + i] ?? 0;
  mean /= MFCC_WINDOW;
  out.fill(0);
  let before = (samples[from] ?? 0) - mean;
  for (let i = 0; i < MFCC_WINDOW; i++) {
    const value = (samples[from + i] ?? 0) - mean;
    out[i] = (value - PREEMPHASIS * before) * povey[i];
    before = value;
  }
}

const turns = Array.from({ length: POINTS / 2 }, (_, k) => {
  const angle = (-2 * Math.PI * k) / POINTS;
  return [Math.cos(angle), Math.sin(angle)] as const;
});

/** The fast Fourier transform (Cooley and Tukey) of POINTS numbers, in place. */
function transform(re: Float64Array, im: Float64Array): void {
  for (let i = 1, j = 0; i < POINTS; i++) {
    let bit = POINTS >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let size = 2; size <= POINTS; size *= 2) {
    const [half, step] = [size / 2, POINTS / size];
    for (let from = 0; from < POINTS; from += size)
      for (let k = 0; k < half; k++) {
        const [c, s] = turns[k * step];
        const [a, b] = [from + k, from + k + half];
        const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        re[a] += x;
        im[a] += y;
      }
  }
}

/** Σ n·(x[t+n] − x[t−n]) / Σ 2n² over n = 1, 2, the ends repeated; x (frames, COEFFICIENTS). */
function differences(x: Float64Array, frames: number): Float64Array {
  const at = (t: number, c: number) => x[Math.min(frames - 1, Math.max(0, t)) * COEFFICIENTS + c];
  return Float64Array.from({ length: x.length }, (_, i) => {
    const [t, c] = [Math.floor(i / COEFFICIENTS), i % COEFFICIENTS];
    return (at(t + 1, c) - at(t - 1, c) + 2 * (at(t + 2, c) - at(t - 2, c))) / 10;
  });
}

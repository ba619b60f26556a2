/** Augmentation of recordings in the time domain, and of the words that are read beside them. */

/** Strength of each augmentation; 0: none. */
export interface Augmentation {
  /** Largest change of speed, and with it of pitch and formants: 0.1 for 0.9 to 1.1 (Ko et al. 2015). */
  readonly speed: number;
  /** Largest change of pitch and formants at the same tempo, as of a longer or shorter vocal tract: 0.1 for 0.9 to 1.1. */
  readonly pitchFormantShift: number;
  /** Largest |a| of a filter 1 + a·z⁻¹, which tilts the spectrum. */
  readonly tilt: number;
  /** Largest RMS of white noise relative to that of the recording. */
  readonly noise: number;
  /** Share of the words read that are misspelled, as those that are recognised will be. Default 0. */
  readonly wordErrors?: number;
}

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** `text`, of which that share of the words has up to one letter in two replaced, left out or added, as a CTC head errs. */
export function misspelled(text: string, share: number, next: () => number): string {
  const below = (n: number) => Math.floor(n * next());
  const misspell = (word: string) => {
    let out = word;
    for (let edits = 1 + below(Math.ceil(word.length / 2)); edits > 0; edits--) {
      const at = below(out.length);
      const kind = next();
      const letter = kind < 0.75 ? LETTERS[below(LETTERS.length)] : "";
      out = out.slice(0, at) + letter + out.slice(kind < 0.5 || kind >= 0.75 ? at + 1 : at);
    }
    return out;
  };
  return text
    .split(" ")
    .map((word) => (word !== "" && next() < share ? misspell(word) : word))
    .filter((word) => word !== "")
    .join(" ");
}

/** An augmented copy (its length may differ) of samples (N); `next` gives uniform numbers in [0, 1). */
export function augmented(
  samples: Float32Array,
  { speed, pitchFormantShift, tilt, noise }: Augmentation,
  next: () => number,
): Float32Array {
  const between = (most: number) => most * (2 * next() - 1);
  let out = samples;
  if (speed > 0) out = speedUp(out, 1 + between(speed));
  if (pitchFormantShift > 0) out = shiftPitchAndFormants(out, 1 + between(pitchFormantShift));
  if (tilt > 0) out = tiltSpectrum(out, between(tilt));
  if (noise > 0) out = addNoise(out, noise * next(), next);
  return out;
}

/** Speed times `factor`, by linear interpolation, which attenuates only frequencies above the formants. */
function speedUp(samples: Float32Array, factor: number): Float32Array {
  const out = new Float32Array(Math.max(1, Math.floor((samples.length - 1) / factor)));
  for (let i = 0; i < out.length; i++) {
    const at = i * factor;
    const left = Math.floor(at);
    out[i] = samples[left] + (at - left) * (samples[left + 1] - samples[left]);
  }
  return out;
}

/** Pitch and formants times `factor` at the same tempo and length. */
export function shiftPitchAndFormants(samples: Float32Array, factor: number): Float32Array {
  const out = new Float32Array(samples.length);
  out.set(speedUp(timeStretch(samples, factor), factor).subarray(0, out.length));
  return out;
}

/** Half of a window in samples: 15 ms. */
const HOP = 240;
/** How far a window may be displaced to continue the one before: 7.5 ms, a period of a low voice. */
const MAX_SHIFT = 120;

/** `factor` times as long with the same pitch, by waveform-similarity overlap-add (WSOLA, Verhelst & Roelands 1993). */
function timeStretch(samples: Float32Array, factor: number): Float32Array {
  const out = new Float32Array(Math.ceil(samples.length * factor));
  let continuation = 0;
  for (let at = 0; at < out.length; at += HOP) {
    const from = at === 0 ? 0 : mostSimilar(samples, Math.round(at / factor), continuation);
    for (let i = 0; i < 2 * HOP; i++) {
      const rise = at === 0 && i < HOP ? 1 : 0.5 - 0.5 * Math.cos((Math.PI * i) / HOP);
      if (at + i < out.length) out[at + i] += rise * (samples[from + i] ?? 0);
    }
    continuation = from + HOP;
  }
  return out;
}

/** The position near `wanted` with the greatest correlation to the samples at `continuation`; every second sample suffices. */
function mostSimilar(samples: Float32Array, wanted: number, continuation: number): number {
  let [best, greatest] = [wanted, Number.NEGATIVE_INFINITY];
  for (let from = Math.max(0, wanted - MAX_SHIFT); from <= wanted + MAX_SHIFT; from += 2) {
    let [product, power] = [0, 1e-9];
    const count = Math.min(HOP, samples.length - Math.max(from, continuation));
    for (let i = 0; i < count; i += 2) {
      product += samples[from + i] * samples[continuation + i];
      power += samples[from + i] ** 2;
    }
    const correlation = product / Math.sqrt(power);
    if (correlation > greatest) [best, greatest] = [from, correlation];
  }
  return best;
}

function tiltSpectrum(samples: Float32Array, a: number): Float32Array {
  return samples.map((x, i) => x + (i > 0 ? a * samples[i - 1] : 0));
}

function addNoise(samples: Float32Array, share: number, next: () => number): Float32Array {
  let squares = 0;
  for (const x of samples) squares += x * x;
  // Uniform noise in [−1, 1) has an RMS of 1/√3.
  const level = share * Math.sqrt((3 * squares) / samples.length);
  return samples.map((x) => x + level * (2 * next() - 1));
}

/** The primitives of every random number in the project, and the values that parameters begin with. */
import { SAMPLE_RATE } from "../io/audio.ts";
import type { Init } from "./parameter.ts";

/** Uniform numbers in [0, 1) from a seed: mulberry32. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** FNV-1a of a text's UTF-16 units, 32 bits: a stream of its own for everything that has a name. */
export function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** A normal number of mean 0 from two uniform ones (Box and Muller); 1 - u keeps the logarithm finite. */
export const normal = (next: () => number, std = 1): number =>
  std * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());

/** A shuffled copy (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], next: () => number): T[] {
  const out = items.slice();
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** `size` fresh values of a parameter: the same for the same rule, seed and key. */
export function draw(init: Init, size: number, seed: number, key: string): Float32Array {
  const values = new Float32Array(size);
  if (init.kind === "zeros") return values;
  if (init.kind === "ones") return values.fill(1);
  if (init.kind === "gabor") return gabor(values, init.taps);
  const next = uniform(hash(key) ^ Math.imul(seed + 1, 0x9e3779b1));
  if (init.kind === "uniform") return values.map(() => (2 * next() - 1) * init.bound);
  const { std } = init;
  return values.map(() => normal(next, std));
}

/**
 * Gabor filters on the mel scale, 60 to 7600 Hz, as time-domain filterbanks begin with (Zeghidour et al. 2018). Each
 * rises with its frequency, which evens out the fall of speech's spectrum.
 */
function gabor(values: Float32Array, taps: number): Float32Array {
  const mel = (f: number) => 2595 * Math.log10(1 + f / 700);
  const hertz = (m: number) => 700 * (10 ** (m / 2595) - 1);
  const filters = values.length / taps;
  const pairs = Math.ceil(filters / 2);
  for (let i = 0; i < filters; i++) {
    const place = pairs > 1 ? (i >> 1) / (pairs - 1) : 0;
    const f = hertz(mel(60) + (mel(7600) - mel(60)) * place);
    const width = Math.min(taps / 5, (1.2 * SAMPLE_RATE) / (2 * Math.PI * Math.max(100, 0.18 * f)));
    let squares = 0;
    for (let t = 0; t < taps; t++) {
      const x = t - (taps - 1) / 2;
      const phase = (2 * Math.PI * f * x) / SAMPLE_RATE;
      const value = Math.exp(-0.5 * (x / width) ** 2) * (i % 2 === 0 ? Math.cos(phase) : Math.sin(phase));
      values[i * taps + t] = value;
      squares += value * value;
    }
    const gain = (Math.SQRT2 * (0.3 + f / 2000)) / Math.sqrt(squares);
    for (let t = 0; t < taps; t++) values[i * taps + t] *= gain;
  }
  return values;
}

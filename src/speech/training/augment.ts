/** Changes of a clip that leave its words and its emotion alone: other voices, other rooms. */

export interface Augmentation {
  /** Largest change of speed, and with it of pitch and formants: 0.1 for 0.9 to 1.1 (Ko et al. 2015). */
  readonly speed: number;
  /** Largest change of pitch and formants alone, the tempo kept, as of a longer vocal tract or a shorter one. */
  readonly pitchFormantShift: number;
  /** Largest coefficient of a filter 1 + a·z⁻¹ that tilts the spectrum either way. */
  readonly tilt: number;
  /** Most white noise, as a share of the clip's own level. */
  readonly noise: number;
}

/** A changed copy; `next` gives uniform numbers in [0, 1). */
export function augmented(
  samples: Float32Array,
  { speed, pitchFormantShift, tilt, noise }: Augmentation,
  next: () => number,
): Float32Array {
  const between = (most: number) => most * (2 * next() - 1);
  let out = samples;
  if (speed > 0) out = faster(out, 1 + between(speed));
  if (pitchFormantShift > 0) out = pitchFormantShifted(out, 1 + between(pitchFormantShift));
  if (tilt > 0) out = tilted(out, between(tilt));
  if (noise > 0) out = noisy(out, noise * next(), next);
  return out;
}

/** Straight lines between samples: what that loses lies above the formants. */
function faster(samples: Float32Array, factor: number): Float32Array {
  const out = new Float32Array(Math.max(1, Math.floor((samples.length - 1) / factor)));
  for (let i = 0; i < out.length; i++) {
    const at = i * factor;
    const left = Math.floor(at);
    out[i] = samples[left] + (at - left) * (samples[left + 1] - samples[left]);
  }
  return out;
}

/** Pitch and formants times `factor` at the same tempo and length. */
export function pitchFormantShifted(samples: Float32Array, factor: number): Float32Array {
  const out = new Float32Array(samples.length);
  out.set(faster(stretched(samples, factor), factor).subarray(0, out.length));
  return out;
}

/** Half of a grain, and how far it may move to fit what goes before: 15 and 7.5 ms, a period of a low voice. */
const HOP = 240;
const REACH = 120;

/** A clip at 1/factor of its tempo, by overlapping grains that continue each other (WSOLA, Verhelst & Roelands 1993). */
function stretched(samples: Float32Array, factor: number): Float32Array {
  const out = new Float32Array(Math.ceil(samples.length * factor));
  let follows = 0;
  for (let at = 0; at < out.length; at += HOP) {
    const from = at === 0 ? 0 : bestGrain(samples, Math.round(at / factor), follows);
    for (let i = 0; i < 2 * HOP; i++) {
      const rise = at === 0 && i < HOP ? 1 : 0.5 - 0.5 * Math.cos((Math.PI * i) / HOP);
      if (at + i < out.length) out[at + i] += rise * (samples[from + i] ?? 0);
    }
    follows = from + HOP;
  }
  return out;
}

/** Where near `wanted` the clip is most like what stands at `follows`; every second sample is enough to tell. */
function bestGrain(samples: Float32Array, wanted: number, follows: number): number {
  let [best, most] = [wanted, Number.NEGATIVE_INFINITY];
  for (let from = Math.max(0, wanted - REACH); from <= wanted + REACH; from += 2) {
    let [product, power] = [0, 1e-9];
    const count = Math.min(HOP, samples.length - Math.max(from, follows));
    for (let i = 0; i < count; i += 2) {
      product += samples[from + i] * samples[follows + i];
      power += samples[from + i] ** 2;
    }
    const likeness = product / Math.sqrt(power);
    if (likeness > most) [best, most] = [from, likeness];
  }
  return best;
}

function tilted(samples: Float32Array, a: number): Float32Array {
  return samples.map((x, i) => x + (i > 0 ? a * samples[i - 1] : 0));
}

function noisy(samples: Float32Array, share: number, next: () => number): Float32Array {
  let squares = 0;
  for (const x of samples) squares += x * x;
  // Uniform noise in [−1, 1) has a level of 1/√3.
  const level = share * Math.sqrt((3 * squares) / samples.length);
  return samples.map((x) => x + level * (2 * next() - 1));
}

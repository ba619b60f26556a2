/** Changes of a clip that leave its words and its emotion alone: other throats, other rooms. */

export interface Augmentation {
  /** Largest change of speed, and with it of pitch and formants: 0.1 for 0.9 to 1.1 (Ko et al. 2015). */
  readonly speed: number;
  /** Largest coefficient of a filter 1 + a·z⁻¹ that tilts the spectrum either way. */
  readonly tilt: number;
  /** Most white noise, as a share of the clip's own level. */
  readonly noise: number;
}

/** A changed copy; `next` gives uniform numbers in [0, 1). */
export function augmented(
  samples: Float32Array,
  { speed, tilt, noise }: Augmentation,
  next: () => number,
): Float32Array {
  const between = (most: number) => most * (2 * next() - 1);
  let out = samples;
  if (speed > 0) out = faster(out, 1 + between(speed));
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

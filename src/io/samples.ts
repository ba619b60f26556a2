/** Samples as the models take them: mono, 16 kHz, float32, zero mean and unit variance. */

/** Hz, of all models. */
export const SAMPLE_RATE = 16000;

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

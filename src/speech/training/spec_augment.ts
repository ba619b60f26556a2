/** SpecAugment (Park et al. 2019), with spans as transformers' `_compute_mask_indices` draws them. */
import type { HubertConfig } from "../../models/config.ts";

/** Options of maskSpans(). */
export interface SpanOptions {
  /** Share of the steps that are masked, if spans do not overlap. */
  readonly probability: number;
  /** Steps of a span. */
  readonly length: number;
  /** Fewest spans of a row. */
  readonly minimum: number;
}

/**
 * A mask (rows, `width`), 1 = masked; `lengths`: the steps of each row that may be masked. A row of fewer steps than a span has
 * no mask; a row of few steps has as many spans as fit. `next` gives uniform numbers in [0, 1).
 */
export function maskSpans(
  lengths: readonly number[],
  width: number,
  { probability, length, minimum }: SpanOptions,
  next: () => number,
): Uint8Array {
  const mask = new Uint8Array(lengths.length * width);
  lengths.forEach((steps, row) => {
    if (steps < length) return;
    let spans = Math.max(Math.floor((probability * steps) / length + next()), minimum);
    if (spans * length > steps) spans = Math.floor(steps / length);
    if (steps - (length - 1) < spans) spans = Math.max(steps - (length - 1), 0);
    for (const start of distinct(spans, steps - (length - 1), next)) {
      mask.fill(1, row * width + start, row * width + start + length);
    }
  });
  return mask;
}

/** `count` different numbers below `limit`. */
function distinct(count: number, limit: number, next: () => number): number[] {
  const numbers = Array.from({ length: limit }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(next() * (limit - i));
    [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
  }
  return numbers.slice(0, count);
}

/** Masks of a batch, see HubertInput. */
export interface SpecMasks {
  /** (B, T): 0 = a frame that is masked. Absent where none is. */
  readonly keepFrames?: Uint32Array;
  /** (B, C): 0 = a channel that is masked. Absent where none is. */
  readonly keepFeatures?: Uint32Array;
}

/** Draws the masks of a batch; `frames`: real frames of each utterance, T: frames with padding. */
export function specAugment(
  config: HubertConfig,
  frames: readonly number[],
  T: number,
  next: () => number,
): SpecMasks {
  const spec = config.specAugment;
  if (!spec) return {};
  const flip = (mask: Uint8Array) =>
    mask.includes(1) ? Uint32Array.from(mask, (masked) => 1 - masked) : undefined;
  const time = { probability: spec.timeProb, length: spec.timeLength, minimum: spec.timeMin };
  const feature = { probability: spec.featureProb, length: spec.featureLength, minimum: spec.featureMin };
  const C = config.hiddenSize;
  return {
    keepFrames: spec.timeProb > 0 ? flip(maskSpans(frames, T, time, next)) : undefined,
    keepFeatures:
      spec.featureProb > 0
        ? flip(
            maskSpans(
              frames.map(() => C),
              C,
              feature,
              next,
            ),
          )
        : undefined,
  };
}

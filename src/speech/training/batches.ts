/** Batches of training: utterances of similar length, shuffled by seed and epoch. */
import { shuffled } from "../../nn/random.ts";
import { uniformStream } from "../../train/seeds.ts";

/** Most that a batch holds. */
export interface BatchSize {
  /** Most items of a batch. */
  readonly items: number;
  /** Most seconds of a batch with padding: items times the longest. A longer item is a batch of its own. */
  readonly seconds?: number;
}

/** Utterances are sorted by length within pools of so many batches, so that epochs combine them differently. */
const POOL = 16;

/** The batches of an epoch, as lists of indices into `seconds`. Equal seed parts give equal batches. */
export function planEpoch(
  seconds: readonly number[],
  size: BatchSize,
  ...seed: readonly (number | string)[]
): number[][] {
  const next = uniformStream("batches", ...seed);
  const order = shuffled(
    seconds.map((_, i) => i),
    next,
  );
  const batches: number[][] = [];
  for (let from = 0; from < order.length; from += POOL * size.items)
    batches.push(...cut(order.slice(from, from + POOL * size.items), seconds, size));
  return shuffled(batches, next);
}

/** Batches in the order of length, for evaluation, as lists of indices into `seconds`. */
export const planInOrder = (seconds: readonly number[], size: BatchSize): number[][] =>
  cut(
    seconds.map((_, i) => i),
    seconds,
    size,
  );

/** Divides items into batches, the shortest first. */
function cut(
  indices: readonly number[],
  seconds: readonly number[],
  { items, seconds: most = Number.POSITIVE_INFINITY }: BatchSize,
): number[][] {
  const batches: number[][] = [];
  for (const i of [...indices].sort((a, b) => seconds[a] - seconds[b] || a - b)) {
    // Ascending: the newest is the longest.
    const last = batches.at(-1);
    if (last && last.length < items && (last.length + 1) * seconds[i] <= most) last.push(i);
    else batches.push([i]);
  }
  return batches;
}

/**
 * Rounds a length up to one of 16 steps per octave, for at most 6 % of padding: batches then repeat their shapes, so that
 * buffers and bind groups are reused.
 */
export function roundLength(length: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(Math.max(1, length - 1))) - 4));
  return Math.ceil(length / step) * step;
}

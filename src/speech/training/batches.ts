/** Which utterances go together: buckets of like length, shuffled by seed and epoch. */
import { shuffled } from "../../nn/random.ts";
import { uniformStream } from "../../train/seeds.ts";

export interface BatchPlan {
  /** Most items of a batch. */
  readonly items: number;
  /** Most padded seconds of a batch: items times the longest. A longer item goes alone. */
  readonly seconds?: number;
}

/** Batches of like length are drawn from pools of this many, so that epochs differ in who meets whom. */
const POOL = 16;

/**
 * The batches of one epoch, as lists of indices into `seconds`. Equal seed parts give equal batches.
 */
export function planEpoch(
  seconds: readonly number[],
  plan: BatchPlan,
  ...seed: readonly (number | string)[]
): number[][] {
  const next = uniformStream("batches", ...seed);
  const order = shuffled(
    seconds.map((_, i) => i),
    next,
  );
  const batches: number[][] = [];
  for (let from = 0; from < order.length; from += POOL * plan.items)
    batches.push(...cut(order.slice(from, from + POOL * plan.items), seconds, plan));
  return shuffled(batches, next);
}

/** Batches in the order of length, for evaluation. */
export const planInOrder = (seconds: readonly number[], plan: BatchPlan): number[][] =>
  cut(
    seconds.map((_, i) => i),
    seconds,
    plan,
  );

/** Cuts items into batches, the shortest first. */
function cut(
  indices: readonly number[],
  seconds: readonly number[],
  { items, seconds: most = Number.POSITIVE_INFINITY }: BatchPlan,
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
 * Rounds a length up to one of sixteen steps per power of two: batches repeat their shapes, so that buffers and bind
 * groups are found again, for at most 6 % of padding.
 */
export function roundLength(length: number): number {
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(Math.max(1, length - 1))) - 4));
  return Math.ceil(length / step) * step;
}

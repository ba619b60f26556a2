/**
 * Random numbers as a pure function of what they are for: seed, stage, step, micro-batch. No generator carries state
 * from one step to the next, so a run that goes on from any step draws what the unbroken run drew.
 */
import { hash, uniform } from "../nn/random.ts";
import type { Training } from "../nn/mode.ts";

/** The finaliser of MurmurHash3: every bit of x reaches every bit of the result. */
function mix(x: number): number {
  let h = x >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** One number from several: `seedOf(7, "order", 1, 12)`. */
export function seedOf(...parts: readonly (number | string)[]): number {
  return parts.reduce<number>(
    (state, part) => mix(state ^ (typeof part === "string" ? hash(part) : Math.imul(part + 1, 0x9e3779b1))),
    0x6a09e667,
  );
}

/** Numbers for one forward: dropout and LayerDrop take the next, one after the other. */
export function trainingStream(...parts: readonly (number | string)[]): Training {
  const state = seedOf(...parts);
  let counter = 0;
  return { next: () => mix(state ^ Math.imul(++counter, 0x9e3779b1)) };
}

/** Uniform numbers in [0, 1). */
export const uniformStream = (...parts: readonly (number | string)[]): (() => number) =>
  uniform(seedOf(...parts));

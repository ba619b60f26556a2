/** Named streams of random numbers. */
import { hash, normal, shuffled } from "../../nn/random.ts";

/** A stream of random numbers, equal for equal seeds on every platform. */
export interface Random {
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Uniform in [low, high). */
  between(low: number, high: number): number;
  /** Normal with mean 0 and standard deviation 1. */
  normal(): number;
  /** Integer in [0, n). */
  below(n: number): number;
  pick<T>(items: readonly T[]): T;
  /** A shuffled copy. */
  shuffled<T>(items: readonly T[]): T[];
}

/**
 * sfc32 (Chris Doty-Humphrey), seeded by any parts: `random(7, "Ses01F_impro01_F000")`. With a stream of its own a clip does
 * not depend on those before it.
 */
export function random(...parts: (string | number)[]): Random {
  const seed = parts.join("/");
  let a = hash(seed);
  let b = hash(`${seed}:b`);
  let c = hash(`${seed}:c`);
  let d = 1;
  const next = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 16; i++) next();

  const uniform = () => next() / 2 ** 32;
  const below = (n: number) => Math.floor(uniform() * n);
  return {
    uniform,
    below,
    between: (low, high) => low + (high - low) * uniform(),
    normal: () => normal(uniform),
    pick(items) {
      if (items.length === 0) throw new RangeError("Cannot pick an item: the list is empty");
      return items[below(items.length)];
    },
    shuffled: (items) => shuffled(items, uniform),
  };
}

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

/** FNV-1a of a text, so that every parameter has a stream of its own whatever the order of the layers. */
export function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** `size` fresh values of a parameter: the same for the same rule, seed and key. */
export function draw(init: Init, size: number, seed: number, key: string): Float32Array {
  const values = new Float32Array(size);
  if (init.kind === "zeros") return values;
  if (init.kind === "ones") return values.fill(1);
  const next = uniform(hash(key) ^ Math.imul(seed + 1, 0x9e3779b1));
  if (init.kind === "uniform") return values.map(() => (2 * next() - 1) * init.bound);
  // Box and Muller; 1 - u keeps the logarithm finite.
  return values.map(() => init.std * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()));
}

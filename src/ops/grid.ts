import type { Grid } from "../gpu/kernel.ts";

/** Workgroups for `threads` threads in workgroups of `size`, folded where one dimension is too short. */
export function gridFor(threads: number, size: number): Grid {
  const groups = Math.ceil(threads / size);
  if (groups <= 65535) return [groups];
  const x = Math.ceil(Math.sqrt(groups));
  return [x, Math.ceil(groups / x)];
}

import { checkNumber } from "../io/checks.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { elementFlags, type Tensor } from "../tensor/tensor.ts";
import { columnSum } from "./reduce.ts";

// FLOPs of an element as layer_norm's, in tiles shared out: 4 for the moments and 4 to normalise, 5 for the sums of a backward
// and 6 for its result. Moments that are combined take about 10 each, Chan's formula.
const k = twin("group_norm", {
  forward: ({ dims: { B, T, C }, bytes }) => ({
    flops: 8 * B * T * C,
    bytes: moved(bytes, "x", "w", "b", "y", "mean", "rstd"),
  }),
  backward: ({ dims: { B, T, C }, bytes }) => ({
    flops: 11 * B * T * C,
    bytes: moved(bytes, "x", "dy", "w", "savedMean", "savedRstd", "dx"),
  }),
  backward_params: ({ dims: { B, T, C }, bytes }) => ({
    flops: 5 * B * T * C,
    bytes: moved(bytes, "x", "dy", "savedMean", "savedRstd", "dw", "db"),
  }),
  measure: ({ dims: { B, T, C }, bytes }) => ({
    flops: 4 * B * T * C,
    bytes: moved(bytes, "x", "momentsOut"),
  }),
  combine: ({ dims: { B, C, splits }, bytes }) => ({
    flops: 10 * B * C * splits,
    bytes: moved(bytes, "moments", "mean", "rstd"),
  }),
  normalise: ({ dims: { B, T, C }, bytes }) => ({
    flops: 4 * B * T * C,
    bytes: moved(bytes, "x", "w", "b", "y", "savedMean", "savedRstd"),
  }),
  correlate: ({ dims: { B, T, C }, bytes }) => ({
    flops: 5 * B * T * C,
    bytes: moved(bytes, "x", "dy", "savedMean", "savedRstd", "slopesOut"),
  }),
  gather: ({ dims: { B, C, splits }, bytes }) => ({
    flops: 4 * B * C * splits,
    bytes: moved(bytes, "slopes", "w", "dw", "db", "shareOut"),
  }),
  input: ({ dims: { B, T, C }, bytes }) => ({
    flops: 6 * B * T * C,
    bytes: moved(bytes, "x", "w", "dy", "dx", "share", "savedMean", "savedRstd"),
  }),
});

/**
 * Group norm over time and the channels of a group: y = (x − mean)·rstd·w + b.
 *
 *   x (B, T, C) f32 or f16   w, b (C) f32   →   y (B, T, C) as x      saved: mean (B, G, 2), rstd (B, G)
 */
export function groupNorm(x: Tensor, w: Tensor, b: Tensor, groups: number, eps: number): Tensor {
  checkShape("groupNorm", "x", x.shape, [-1, -1, -1]);
  const [B, T, C] = x.shape;
  checkShape("groupNorm", "w", w.shape, [C]);
  checkShape("groupNorm", "b", b.shape, [C]);
  checkNumber("run groupNorm", "eps", eps);
  if (C % groups !== 0)
    throw new RangeError(`Cannot run groupNorm: ${C} channels do not divide into ${groups} groups`);
  const chosen = launch(x.device, "group_norm");
  const vec = chosen.flags.tiled && C % 4 === 0;
  const flags = { ...chosen.flags, ...elementFlags(x), vec };
  const variant = { flags, overrides: { WG: chosen.WG } };
  const rows = chosen.tile.WG / flags.LANES;
  const splits = Math.ceil(T / (rows * flags.HELD));
  const dims = { B, T, C, G: groups, splits, eps };
  const across = Math.ceil(C / (vec ? 4 : 1) / flags.LANES);
  const tiles = [across, splits, B] as const;
  const halfTiles = [across, Math.ceil(T / (2 * rows)), B] as const;
  const tile = { flags, overrides: chosen.tile };
  const y = x.like(x.shape, x.dtype);
  const mean = x.like([B, groups, 2]);
  const rstd = x.like([B, groups]);
  const saved = { savedMean: mean, savedRstd: rstd };
  if (flags.tiled) {
    const moments = x.like([B, C, splits, 4]);
    k.run("measure", { x, momentsOut: moments }, dims, tiles, tile);
    k.run("combine", { moments, mean, rstd }, dims, [groups, B], variant);
    k.run("normalise", { x, w, b, y, ...saved }, dims, halfTiles, tile);
  } else k.run("forward", { x, w, b, y, mean, rstd }, dims, [groups, B], variant);
  return record("groupNorm", [x, w, b], y, [x, w, mean, rstd], (dy, needs) => {
    const dx = needs[0] ? x.like(x.shape, x.dtype) : undefined;
    const parameters = needs[1] || needs[2];
    const dw = x.like([B, C]);
    const db = x.like([B, C]);
    if (flags.tiled) {
      const slopes = x.like([B, C, splits, 2]);
      const share = x.like([B, groups, 2]);
      k.run("correlate", { x, dy, ...saved, slopesOut: slopes }, dims, tiles, tile);
      k.run("gather", { slopes, w, dw, db, shareOut: share }, dims, [groups, B], variant);
      if (dx) k.run("input", { x, w, dy, dx, share, ...saved }, dims, halfTiles, tile);
    } else {
      if (dx) k.run("backward", { x, w, dy, dx, ...saved }, dims, [groups, B], variant);
      const grid = [Math.ceil(C / chosen.WG), B] as const;
      if (parameters) k.run("backward_params", { x, dy, dw, db, ...saved }, dims, grid, variant);
    }
    return parameters ? [dx, columnSum(dw), columnSum(db)] : [dx, undefined, undefined];
  });
}

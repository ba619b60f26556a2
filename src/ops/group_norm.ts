import { checkNumber } from "../io/checks.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { columnSum } from "./reduce.ts";

// FLOPs of an element as layer_norm's.
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
});

/**
 * Group norm over time and the channels of a group: y = (x − mean)·rstd·w + b.
 *
 *   x (B, T, C)   w, b (C)   →   y (B, T, C)      saved: mean (B, G, 2), rstd (B, G)
 */
export function groupNorm(x: Tensor, w: Tensor, b: Tensor, groups: number, eps: number): Tensor {
  checkShape("groupNorm", "x", x.shape, [-1, -1, -1]);
  const [B, T, C] = x.shape;
  checkShape("groupNorm", "w", w.shape, [C]);
  checkShape("groupNorm", "b", b.shape, [C]);
  checkNumber("run groupNorm", "eps", eps);
  if (C % groups !== 0)
    throw new RangeError(`Cannot run groupNorm: ${C} channels do not divide into ${groups} groups`);
  const dims = { B, T, C, G: groups, eps };
  const overrides = launch(x.device, "group_norm");
  const variant = { overrides };
  const y = x.like();
  const mean = x.like([B, groups, 2]);
  const rstd = x.like([B, groups]);
  k.run("forward", { x, w, b, y, mean, rstd }, dims, [groups, B], variant);
  return record("groupNorm", [x, w, b], y, [x, w, mean, rstd], (dy, needs) => {
    const saved = { savedMean: mean, savedRstd: rstd };
    const dx = needs[0] ? x.like() : undefined;
    if (dx) k.run("backward", { x, w, dy, dx, ...saved }, dims, [groups, B], variant);
    if (!needs[1] && !needs[2]) return [dx, undefined, undefined];
    const dw = x.like([B, C]);
    const db = x.like([B, C]);
    k.run("backward_params", { x, dy, dw, db, ...saved }, dims, [Math.ceil(C / overrides.WG), B], variant);
    return [dx, columnSum(dw), columnSum(db)];
  });
}

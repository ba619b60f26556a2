import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { columnSum } from "./reduce.ts";

const kernel = twin("weight_norm", {
  // Of one tensor with itself it is read once.
  dots: ({ dims: { R, k }, bytes, same }) => ({
    flops: 2 * R * k,
    bytes: moved(bytes, "v", "y") + (same("v", "u") ? 0 : bytes("u")),
  }),
  // g/‖v‖ once a column, then a product.
  forward: ({ dims: { R, k }, bytes }) => ({
    flops: R * k + 2 * k,
    bytes: moved(bytes, "v", "g", "squares", "y"),
  }),
  backward: ({ dims: { R, k }, bytes }) => ({
    flops: 3 * R * k + 3 * k,
    bytes: moved(bytes, "v", "u", "g", "squares", "along", "y"),
  }),
  gain: ({ dims: { k }, bytes }) => ({ flops: 2 * k, bytes: moved(bytes, "squares", "along", "y") }),
});

/**
 * w = g·v/‖v‖, the norm taken over every axis but the last (torch's weight_norm with dim = 2).
 *
 *   v (O, C, k)   g (1, 1, k)   →   w (O, C, k)
 */
export function weightNorm(v: Tensor, g: Tensor): Tensor {
  const [O, C, k] = v.shape;
  checkShape("weightNorm", "g", g.shape, [1, 1, k]);
  const R = O * C;
  const { parts } = launch(v.device, "weight_norm.dots", { rows: R });
  const dims = { R, k, step: Math.ceil(R / parts) };
  const overrides = launch(v.device, "weight_norm");
  const variant = { overrides };
  const { WG } = overrides;
  const dots = (a: Tensor, b: Tensor): Tensor => {
    const y = v.like([parts, k]);
    kernel.run("dots", { v: a, u: b, y }, dims, [Math.ceil(k / WG), parts], variant);
    return columnSum(y);
  };
  const squares = dots(v, v);
  const w = v.like();
  kernel.run("forward", { v, g, squares, y: w }, dims, gridFor(v.size, WG), variant);
  return record("weightNorm", [v, g], w, [v, g, squares], (dy) => {
    const along = dots(v, dy);
    const dv = v.like();
    kernel.run("backward", { v, u: dy, g, squares, along, y: dv }, dims, gridFor(v.size, WG), variant);
    const dg = v.like([1, 1, k]);
    kernel.run("gain", { squares, along, y: dg }, dims, [Math.ceil(k / WG)], variant);
    return [dv, dg];
  });
}

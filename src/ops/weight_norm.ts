import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { columnSum } from "./reduce.ts";

const kernel = twin("weight_norm");

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

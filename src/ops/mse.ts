import { checkChoice, checkOptions } from "../io/checks.ts";
import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch, overQuads } from "../gpu/launch.ts";
import { checkShape, showShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { checkFloat, elementFlags, type Tensor } from "../tensor/tensor.ts";
import { REDUCTIONS, type Reduction } from "./ctc.ts";
import { rowSums } from "./reduce.ts";

const k = twin("mse", {
  forward: pointwise(2, "x", "truth", "y"),
  sums: pointwise(3, "x", "truth", "splitsOut"),
  backward: pointwise(3, "x", "truth", "dy", "dx"),
});

/** As torch.nn.functional.mse_loss's. */
export interface MseOptions {
  /** "mean" over all elements by default; the mean over none throws. */
  readonly reduction?: Reduction;
}

const OPTIONS: readonly (keyof MseOptions)[] = ["reduction"];

/**
 * Mean squared error, as PyTorch's mse_loss: (x − target)².
 *
 *   x, target (…) f32 or f16   →   loss (), or (…) with reduction "none", f32
 */
export function mse(x: Tensor, target: Tensor, options: MseOptions = {}): Tensor {
  checkOptions("run mse", options, OPTIONS);
  const { reduction = "mean" } = options;
  checkShape("mse", "target", target.shape, x.shape);
  checkFloat("mse", { x, target });
  checkChoice("run mse", "reduction", reduction, REDUCTIONS);
  const N = x.size;
  if (reduction === "mean" && N === 0)
    throw new RangeError(`Cannot run mse: x is ${showShape(x.shape)}, which leaves nothing to average`);
  const quads = Math.ceil(N / 4);
  const none = reduction === "none";
  const divisor = reduction === "mean" ? N : 1;
  const { device } = x;
  const { step } = launch(device, "mse.sums");
  const dims = { N, quads, step, dyStride: none ? 1 : 0, factor: 2 / divisor };
  const given = { x, truth: target };
  const { grid, variant } = overQuads(quads, launch(device, "mse", { quads }), elementFlags(x));
  const squares = () => {
    const y = x.like();
    k.run("forward", { ...given, y }, dims, grid, variant);
    return y;
  };
  const total = () => {
    const splits = Math.max(1, Math.ceil(quads / step));
    const splitsOut = x.like([splits]);
    const summing = { ...variant, overrides: launch(device, "reduce") };
    k.run("sums", { ...given, splitsOut }, dims, gridFor(splits, 1), summing);
    return rowSums(splitsOut, 1, splits, divisor).reshaped([]);
  };
  return record("mse", [x, target], none ? squares() : total(), [x, target], (dy, needs) => {
    const gradient = (sign: number) => {
      const dx = x.like(x.shape, x.dtype);
      const scaled = { ...dims, factor: sign * dims.factor };
      k.run("backward", { ...given, dy, dx }, scaled, grid, variant);
      return dx;
    };
    return [needs[0] ? gradient(1) : undefined, needs[1] ? gradient(-1) : undefined];
  });
}

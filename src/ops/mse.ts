import { checkChoice, checkOptions } from "../io/checks.ts";
import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, showShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { checkF32, type Tensor } from "../tensor/tensor.ts";
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
 *   x, target (…)   →   loss (), or (…) with reduction "none"
 */
export function mse(x: Tensor, target: Tensor, options: MseOptions = {}): Tensor {
  checkOptions("run mse", options, OPTIONS);
  const { reduction = "mean" } = options;
  checkShape("mse", "target", target.shape, x.shape);
  checkF32("mse", { x, target });
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
  const overrides = launch(device, "mse");
  const squares = () => {
    const y = x.like();
    k.run("forward", { ...given, y }, dims, gridFor(quads, overrides.WG), { overrides });
    return y;
  };
  const total = () => {
    const splits = Math.max(1, Math.ceil(quads / step));
    const splitsOut = x.like([splits]);
    k.run("sums", { ...given, splitsOut }, dims, gridFor(splits, 1), { overrides: launch(device, "reduce") });
    return rowSums(splitsOut, 1, splits, divisor).reshaped([]);
  };
  return record("mse", [x, target], none ? squares() : total(), [x, target], (dy, needs) => {
    const gradient = (sign: number) => {
      const dx = x.like();
      const scaled = { ...dims, factor: sign * dims.factor };
      k.run("backward", { ...given, dy, dx }, scaled, gridFor(quads, overrides.WG), { overrides });
      return dx;
    };
    return [needs[0] ? gradient(1) : undefined, needs[1] ? gradient(-1) : undefined];
  });
}

import { checkNumber } from "../io/checks.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, rowsOf } from "../tensor/shape.ts";
import { isRecording, isTracked, record } from "../tensor/tape.ts";
import { elementFlags, type Tensor } from "../tensor/tensor.ts";
import {
  activation as activate,
  type ActivationKind,
  activationCode,
  activationFlops,
  codeOfFlag,
} from "./activation.ts";
import { columnSum } from "./reduce.ts";

// FLOPs of an element: 1 for the mean, 3 for the variance, 4 to normalise; those of a backward likewise by its formula.
const k = twin("layer_norm", {
  forward: ({ dims: { N, width }, variant, bytes }) => ({
    shape: { N, C: width },
    flops: (8 + activationFlops(codeOfFlag(variant))) * N * width,
    bytes: moved(bytes, "x", "w", "b", "y", "mean", "rstd"),
  }),
  backward: ({ dims: { N, width }, bytes }) => ({
    shape: { N, C: width },
    flops: 11 * N * width,
    bytes: moved(bytes, "x", "dy", "w", "savedMean", "savedRstd", "dx"),
  }),
  backward_params: ({ dims: { N, width }, bytes }) => ({
    shape: { N, C: width },
    flops: 5 * N * width,
    bytes: moved(bytes, "x", "dy", "savedMean", "savedRstd", "dw", "db"),
  }),
});

/**
 * Layer norm over the last axis: y = act((x − mean)·rstd·w + b).
 *
 *   x (…, C) f32 or f16   w, b (C) f32   →   y (…, C) as x      saved: mean (N, 2), rstd (N)
 *
 * eps is the model's: 1e-12 for BERT, 1e-5 for HuBERT. The fused activation serves the conv stack.
 */
export function layerNorm(x: Tensor, w: Tensor, b: Tensor, eps: number, activation?: ActivationKind): Tensor {
  const C = x.shape.at(-1) ?? 1;
  checkShape("layerNorm", "w", w.shape, [C]);
  checkShape("layerNorm", "b", b.shape, [C]);
  checkNumber("run layerNorm", "eps", eps);
  const code = activationCode("layerNorm", activation);
  if (activation && isRecording(x.device) && [x, w, b].some(isTracked))
    return activate(layerNorm(x, w, b, eps), activation);
  const N = rowsOf(x.shape);
  const { flags, overrides } = launch(x.device, "layer_norm", { N, C });
  const variant = { flags: { ACTIVATION: code, ...flags, ...elementFlags(x) }, overrides };
  const dims = { N, C: flags.vec ? C / 4 : C, width: C, eps, step: 0 };
  const y = x.like(x.shape, x.dtype);
  const mean = x.like([N, 2]);
  const rstd = x.like([N]);
  k.run("forward", { x, w, b, y, mean, rstd }, dims, gridFor(N, 1), variant);
  return record("layerNorm", [x, w, b], y, [x, w, mean, rstd], (dy, needs) => {
    const saved = { savedMean: mean, savedRstd: rstd };
    const dx = needs[0] ? x.like(x.shape, x.dtype) : undefined;
    if (dx) k.run("backward", { x, w, dy, dx, ...saved }, dims, gridFor(N, 1), variant);
    if (!needs[1] && !needs[2]) return [dx, undefined, undefined];
    const { parts } = launch(x.device, "layer_norm.backward_params", { N });
    const dw = x.like([parts, C]);
    const db = x.like([parts, C]);
    const grid = [Math.ceil(dims.C / overrides.WG), parts] as const;
    k.run(
      "backward_params",
      { x, dy, dw, db, ...saved },
      { ...dims, step: Math.ceil(N / parts) },
      grid,
      variant,
    );
    return [dx, columnSum(dw), columnSum(db)];
  });
}

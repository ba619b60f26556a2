import { checkChoice, checkOptions } from "../io/checks.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { elementFlags, Tensor } from "../tensor/tensor.ts";
import { REDUCTIONS, type Reduction } from "./ctc.ts";

const k = twin("cross_entropy", {
  // Of a class: max, −, exp, +, and its share of q·v.
  rows: ({ dims: { N, V }, bytes }) => ({
    flops: 6 * N * V,
    bytes: moved(bytes, "logits", "targets", "w", "lossesOut", "statsOut"),
  }),
  reduce: ({ dims: { N }, bytes }) => ({
    flops: 2 * N,
    bytes: moved(bytes, "losses", "stats", "loss", "totalOut"),
  }),
  // −, exp, /, then (p·mass − q)·seed.
  backward: ({ dims: { N, V }, bytes }) => ({
    flops: 6 * N * V,
    bytes: moved(bytes, "logits", "targets", "w", "stats", "total", "dy", "dlogits"),
  }),
});

/** As torch.nn.functional.cross_entropy's. */
export interface CrossEntropyOptions {
  /** Weights of the classes (V). A mean divides by the sum of the targets' weights. */
  readonly weight?: Tensor;
  /** Part of each target that is spread over all classes; 0 by default. */
  readonly labelSmoothing?: number;
  /** Target of rows that do not count; −100 by default. */
  readonly ignoreIndex?: number;
  /** "mean" by default; the mean over no row that counts is NaN, with a gradient of 0. */
  readonly reduction?: Reduction;
}

const OPTIONS: readonly (keyof CrossEntropyOptions)[] = [
  "weight",
  "labelSmoothing",
  "ignoreIndex",
  "reduction",
];

/**
 * Cross-entropy of class ids after a softmax, as PyTorch's cross_entropy.
 *
 *   logits (N, V) f32 or f16   targets (N), i32   →   loss (), or (N) with reduction "none"      saved: logits, row statistics
 *
 * Targets given as numbers are checked and throw; one on the GPU that is out of range makes the loss NaN.
 *
 * @example
 * ```ts
 * const logits = Tensor.from(device, Float32Array.of(2, 0, 0, 0, 0, 3), [2, 3]);
 * console.log(await ops.crossEntropy(logits, [0, 2]).item()); // 0.1672
 * console.log(await ops.crossEntropy(logits, [0, -100], { reduction: "none" }).read()); // [0.2395, 0]
 * ```
 */
export function crossEntropy(
  logits: Tensor,
  targets: Tensor | readonly number[],
  options: CrossEntropyOptions = {},
): Tensor {
  checkOptions("run crossEntropy", options, OPTIONS);
  const { weight, labelSmoothing = 0, ignoreIndex = -100, reduction = "mean" } = options;
  checkChoice("run crossEntropy", "reduction", reduction, REDUCTIONS);
  checkShape("crossEntropy", "logits", logits.shape, [-1, -1]);
  const [N, V] = logits.shape;
  if (weight) checkShape("crossEntropy", "weight", weight.shape, [V]);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1))
    throw new RangeError(`Cannot run crossEntropy: labelSmoothing is ${labelSmoothing}, expected 0 to 1`);
  const ids = targets instanceof Tensor ? targets : upload(logits, targets, ignoreIndex);
  checkShape("crossEntropy", "targets", ids.shape, [N]);
  if (ids.dtype !== "i32")
    throw new TypeError(`Cannot run crossEntropy: targets are ${ids.dtype}, expected i32`);

  const scalar = reduction !== "none";
  const dims = {
    N,
    V,
    smoothing: labelSmoothing,
    ignored: ignoreIndex,
    mean: reduction === "mean" ? 1 : 0,
    dyStride: scalar ? 0 : 1,
  };
  const overrides = launch(logits.device, "cross_entropy", { V });
  const variant = { flags: { weighted: weight !== undefined, ...elementFlags(logits) }, overrides };
  const inputs = { logits, targets: ids, ...(weight && { w: weight }) };
  const losses = logits.like([N]);
  const stats = logits.like([N, 4]);
  k.run("rows", { ...inputs, lossesOut: losses, statsOut: stats }, dims, gridFor(N, 1), variant);
  const loss = scalar ? logits.like([]) : losses;
  const total = logits.like([]);
  if (scalar) k.run("reduce", { losses, stats, loss, totalOut: total }, dims, [1], variant);
  return record(
    "crossEntropy",
    [logits],
    loss,
    [logits, ids, stats, total, ...(weight ? [weight] : [])],
    (dy) => {
      const dlogits = logits.like(logits.shape, logits.dtype);
      k.run("backward", { ...inputs, stats, total, dy, dlogits }, dims, gridFor(N, 1), variant);
      return [dlogits];
    },
  );
}

function upload(logits: Tensor, targets: readonly number[], ignoreIndex: number): Tensor {
  const V = logits.shape[1];
  targets.forEach((id, n) => {
    if (id !== ignoreIndex && !(Number.isInteger(id) && id >= 0 && id < V)) {
      throw new RangeError(
        `Cannot run crossEntropy: target ${n} is ${id}, expected a class from 0 to ${V - 1} or ${ignoreIndex}`,
      );
    }
  });
  return Tensor.from(logits.device, Int32Array.from(targets), [targets.length]);
}

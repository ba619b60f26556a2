import { checkChoice, checkOptions } from "../io/checks.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, rowsOf, sameShape, showShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { elementFlags, type Tensor } from "../tensor/tensor.ts";

const k = twin("softmax", {
  // Of an element: the factor, max, −, exp, + and / (of a logarithm −).
  forward: ({ dims: { N, scale }, variant, bytes, size }) => ({
    shape: { N, C: size("logits") / N },
    flops: (5 + Number(scale !== 1)) * size("logits"),
    bytes: moved(bytes, "logits", "probsOut") + (variant.flags?.masked ? bytes("mask") : 0),
  }),
  // p·dp and its sum, −, ·; of a logarithm exp of what was saved.
  backward: ({ dims: { N, scale }, bytes, size }) => ({
    shape: { N, C: size("probs") / N },
    flops: (4 + Number(scale !== 1)) * size("probs"),
    bytes: moved(bytes, "probs", "dprobs", "dlogits"),
  }),
});

/** How a softmax is masked, and whether its logarithm is wanted. */
export interface SoftmaxOptions {
  /**
   * u32, 1 = masked out, as masked_fill's; the mask of attention has 1 = keep. The shape of x, or of its last axes, then the
   * same for all before them.
   */
  readonly mask?: Tensor;
  /**
   * What masked elements count as. "-inf": nothing, without a gradient; a row masked wholly is NaN. "finfo.min": the
   * lowest f32 added; a row masked wholly is uniform. "-inf" by default.
   */
  readonly fill?: "-inf" | "finfo.min";
  /** Return log-probabilities. */
  readonly log?: boolean;
}

interface Mask {
  readonly tensor: Tensor;
  /** Row n of x reads row n / share % rows of the mask. */
  readonly share: number;
  readonly rows: number;
  /** The value that excludes. */
  readonly excludes: 0 | 1;
  readonly blocking: boolean;
}

const OPTIONS: readonly (keyof SoftmaxOptions)[] = ["mask", "fill", "log"];
const FILLS: readonly NonNullable<SoftmaxOptions["fill"]>[] = ["-inf", "finfo.min"];

/** Softmax over the last axis.   x (…, C) → y (…, C)      saved: y */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  checkOptions("run softmax", options, OPTIONS);
  const { mask, fill = "-inf", log = false } = options;
  checkChoice("run softmax", "fill", fill, FILLS);
  if (!mask) return run(x, 1, log);
  if (
    mask.shape.length > x.shape.length ||
    !sameShape(mask.shape, x.shape.slice(x.shape.length - mask.shape.length))
  ) {
    throw new TypeError(
      `Cannot run softmax: mask is ${showShape(mask.shape)} but should have the last axes of x ${showShape(x.shape)}`,
    );
  }
  return run(x, 1, log, {
    tensor: mask,
    share: 1,
    rows: rowsOf(mask.shape),
    excludes: 1,
    blocking: fill === "-inf",
  });
}

/** log(softmax(x)) over the last axis. */
export const logSoftmax = (x: Tensor): Tensor => softmax(x, { log: true });

/**
 * softmax(scale·scores) over the keys, for attention whose probabilities are kept in memory.
 *
 *   scores (B, H, Tq, Tk)   keyMask (B, Tk), u32, 1 = keep   →   probabilities (B, H, Tq, Tk)
 *
 * Where no key is kept the distribution is uniform, as after adding the lowest f32 to every score.
 */
export function attentionProbabilities(scores: Tensor, keyMask: Tensor | undefined, scale: number): Tensor {
  checkShape("attentionProbabilities", "scores", scores.shape, [-1, -1, -1, -1]);
  const [B, H, Tq, Tk] = scores.shape;
  if (!keyMask) return run(scores, scale, false);
  checkShape("attentionProbabilities", "keyMask", keyMask.shape, [B, Tk]);
  return run(scores, scale, false, { tensor: keyMask, share: H * Tq, rows: B, excludes: 0, blocking: false });
}

function run(x: Tensor, scale: number, log: boolean, mask?: Mask): Tensor {
  const N = rowsOf(x.shape);
  const C = x.shape.at(-1) ?? 1;
  const { flags, overrides } = launch(x.device, "softmax", { N, C });
  const dims = {
    N,
    C: flags.vec ? C / 4 : C,
    scale,
    maskShare: mask?.share ?? 1,
    maskRows: mask?.rows ?? 1,
    excludes: mask?.excludes ?? 0,
    blocking: mask?.blocking ? 1 : 0,
  };
  const variant = {
    flags: {
      masked: mask !== undefined,
      logarithm: log,
      half: x.dtype === "f16",
      ...flags,
      ...elementFlags(x),
    },
    overrides,
  };
  const y = x.like(x.shape, x.dtype);
  k.run(
    "forward",
    { logits: x, probsOut: y, ...(mask && { mask: mask.tensor }) },
    dims,
    gridFor(N, 1),
    variant,
  );
  return record(log ? "logSoftmax" : "softmax", [x], y, [y], (dy) => {
    const dx = x.like(x.shape, x.dtype);
    k.run("backward", { probs: y, dprobs: dy, dlogits: dx }, dims, gridFor(N, 1), variant);
    return [dx];
  });
}

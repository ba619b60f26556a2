/** Sums and means: the twin of kernels/reduce.wgsl. Every sum is in a fixed order: the same bits every run. */
import { checkOptions } from "../io/checks.ts";
import { moved, pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, rowsOf, type Shape, showShape } from "../tensor/shape.ts";
import { notDifferentiable, record } from "../tensor/tape.ts";
import { checkFloat, type DType, type Tensor } from "../tensor/tensor.ts";

const k = twin("reduce", {
  columns: pointwise(1, "x", "y"),
  sums: pointwise(1, "x", "y"),
  dots: ({ dims: { rows }, bytes, same }) => ({
    flops: 2 * rows,
    bytes: moved(bytes, "x", "y") + (same("x", "m") ? 0 : bytes("m")),
  }),
  repeat: pointwise(1, "y", "x"),
  mean_time: pointwise(1, "x", "mask", "y"),
  // The quotient is that of a column of a sample.
  spread: pointwise(1, "x", "mask", "y"),
});

const zero = { rows: 0, C: 0, step: 0, B: 0, T: 0, splits: 1, divisor: 1 };

/** Flags for x and y of these dtypes; what is neither f32 nor f16 the bindings then refuse as no f32. */
function flagsOf(x: DType, y: DType = "f32") {
  const [X, Y] = [x, y].map((dtype) => (dtype === "f16" ? "f16" : "f32"));
  return { enables: X === "f16" || Y === "f16" ? "enable f16;" : "", X, Y };
}

/** What is summed over. */
export interface SumOptions {
  /** The axis that goes away: the last, −1. All of them by default. */
  readonly axis?: -1;
}

/** Elements that one workgroup adds up: rounding errors stay those of a short sum however many there are. */
const SPLIT = 4096;

/** Sums of rows, over `divisor`.   x (rows, C) → y (rows)   Has no gradient of its own. */
export function rowSums(x: Tensor, rows: number, C: number, divisor = 1): Tensor {
  const splits = Math.max(1, Math.ceil(C / SPLIT));
  const last = splits === 1;
  const y = x.like([rows, splits]);
  const dims = { ...zero, rows, C, step: SPLIT, splits, divisor: last ? divisor : 1 };
  const variant = { flags: flagsOf(x.dtype), overrides: launch(x.device, "reduce") };
  k.run("sums", { x, y }, dims, gridFor(rows * splits, 1), variant);
  return last ? y.reshaped([rows]) : rowSums(y, rows, splits, divisor);
}

const OPTIONS: readonly (keyof SumOptions)[] = ["axis"];

function total(name: string, x: Tensor, options: SumOptions, mean: boolean): Tensor {
  checkOptions(`run ${name}`, options, OPTIONS);
  const { axis } = options;
  checkFloat(name, { x });
  if (axis !== undefined && axis !== -1)
    throw new RangeError(`Cannot run ${name}: axis is ${axis} but should be -1 or absent, for all`);
  if (axis === -1 && x.shape.length === 0)
    throw new TypeError(`Cannot run ${name}: x is (), which has no last axis`);
  const [rows, C] = axis === -1 ? [rowsOf(x.shape), x.shape[x.shape.length - 1]] : [1, x.size];
  if (mean && C === 0)
    throw new RangeError(`Cannot run ${name}: x is ${showShape(x.shape)}, which leaves nothing to average`);
  const shape: Shape = axis === -1 ? x.shape.slice(0, -1) : [];
  const divisor = mean ? C : 1;
  return record(name, [x], rowSums(x, rows, C, divisor).reshaped(shape), [], (dy) => {
    const dx = x.like(x.shape, x.dtype);
    const dims = { ...zero, rows, C, divisor };
    const overrides = launch(x.device, "reduce");
    const variant = { flags: flagsOf(dy.dtype, x.dtype), overrides };
    k.run("repeat", { x: dy, y: dx }, dims, gridFor(x.size, overrides.WG), variant);
    return [dx];
  });
}

/** The sum of all elements, or over the last axis.   x (…, C) → y (), or (…) with axis −1; f32, also of an f16 x */
export const sum = (x: Tensor, options: SumOptions = {}): Tensor => total("sum", x, options, false);

/** The mean of all elements, or over the last axis, as sum() gives it.   Throws for a mean of none. */
export const mean = (x: Tensor, options: SumOptions = {}): Tensor => total("mean", x, options, true);

/**
 * Sum over rows: many rows go in two passes, the first of which leaves f32.   x (rows, C) → y (C) of `dtype`
 *
 * Used inside backwards; has no gradient of its own.
 */
export function columnSum(x: Tensor, dtype: DType = "f32"): Tensor {
  const [rows, C] = x.shape;
  const overrides = launch(x.device, "reduce");
  const [groupsX, groupsZ] = gridFor(C, overrides.WG);
  const pass = (from: Tensor, n: number, parts: number, y: Tensor) =>
    k.run(
      "columns",
      { x: from, y },
      { ...zero, rows: n, C, step: Math.ceil(n / parts) },
      [groupsX, parts, groupsZ],
      { flags: flagsOf(from.dtype, y.dtype), overrides },
    );
  const { parts } = launch(x.device, "reduce.columns", { rows });
  const y = x.like([C], dtype);
  if (parts === 1) {
    pass(x, rows, 1, y);
    return y;
  }
  const partial = x.like([parts, C]);
  pass(x, rows, parts, partial);
  pass(partial, parts, 1, y);
  return y;
}

/**
 * Mean over the real frames.   x (B, T, C)   mask (B, T) u32, 1 = real   →   y (B, C) of x's dtype
 *
 * A sample without a real frame gives zeros.
 */
export function maskedMean(x: Tensor, mask: Tensor): Tensor {
  checkShape("maskedMean", "x", x.shape, [-1, -1, -1]);
  const [B, T, C] = x.shape;
  checkShape("maskedMean", "mask", mask.shape, [B, T]);
  const overrides = launch(x.device, "reduce");
  const grid = [Math.ceil(C / overrides.WG), B] as const;
  const dims = { ...zero, B, T, C };
  const variant = { flags: flagsOf(x.dtype, x.dtype), overrides };
  const y = x.like([B, C], x.dtype);
  k.run("mean_time", { x, mask, y }, dims, grid, variant);
  return record("maskedMean", [x], y, [mask], (dy) => {
    const dx = x.like(x.shape, x.dtype);
    k.run("spread", { x: dy, mask, y: dx }, dims, grid, variant);
    return [dx];
  });
}

/** Σ a·b over all elements.   a, b (…) → () of `dtype` */
export function dot(a: Tensor, b: Tensor, dtype: DType = "f32"): Tensor {
  checkShape("dot", "b", b.shape, a.shape);
  const overrides = launch(a.device, "reduce");
  const rows = a.size;
  const { parts } = launch(a.device, "reduce.dots", { size: rows });
  const partial = a.like([parts, 1]);
  const dims = { ...zero, rows, step: Math.ceil(rows / parts) };
  k.run("dots", { x: a, m: b, y: partial }, dims, [parts], { flags: flagsOf(a.dtype), overrides });
  const y = columnSum(partial, dtype).reshaped([]);
  return record(
    "dot",
    [a, b],
    y,
    [a, b],
    notDifferentiable("dot", "its gradient is its other factor; start from that"),
  );
}

/** Sums and means: the twin of kernels/reduce.wgsl. Every sum is in a fixed order: the same bits every run. */
import { twin } from "../gpu/kernel.ts";
import { checkShape, rowsOf, type Shape, showShape } from "../tensor/shape.ts";
import { notDifferentiable, record } from "../tensor/tape.ts";
import { checkF32, type Tensor } from "../tensor/tensor.ts";
import { gridFor } from "./grid.ts";

const k = twin("reduce");

const width = (x: Tensor) => (x.device.info.cpu ? 8 : 64);
const zero = { rows: 0, C: 0, step: 0, B: 0, T: 0, splits: 1, divisor: 1 };

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
  k.run("sums", { x, y }, dims, gridFor(rows * splits, 1), { overrides: { WG: width(x) } });
  return last ? y.reshaped([rows]) : rowSums(y, rows, splits, divisor);
}

function total(name: string, x: Tensor, { axis }: SumOptions, mean: boolean): Tensor {
  checkF32(name, { x });
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
    const dx = x.like();
    const dims = { ...zero, rows, C, divisor };
    k.run("repeat", { x: dy, y: dx }, dims, gridFor(x.size, width(x)), { overrides: { WG: width(x) } });
    return [dx];
  });
}

/** The sum of all elements, or over the last axis.   x (…, C) → y (), or (…) with axis −1 */
export const sum = (x: Tensor, options: SumOptions = {}): Tensor => total("sum", x, options, false);

/** The mean of all elements, or over the last axis.   x (…, C) → y (), or (…) with axis −1   Throws for a mean of none. */
export const mean = (x: Tensor, options: SumOptions = {}): Tensor => total("mean", x, options, true);

/**
 * Sum over rows: many rows go in two passes.   x (rows, C) → y (C)
 *
 * Used inside backwards; has no gradient of its own.
 */
export function columnSum(x: Tensor): Tensor {
  const [rows, C] = x.shape;
  const WG = width(x);
  const [groupsX, groupsZ] = gridFor(C, WG);
  const pass = (from: Tensor, n: number, splits: number, y: Tensor) =>
    k.run(
      "columns",
      { x: from, y },
      { ...zero, rows: n, C, step: Math.ceil(n / splits) },
      [groupsX, splits, groupsZ],
      { overrides: { WG } },
    );
  const splits = rows > 256 ? Math.min(64, Math.ceil(rows / 64)) : 1;
  const y = x.like([C]);
  if (splits === 1) {
    pass(x, rows, 1, y);
    return y;
  }
  const partial = x.like([splits, C]);
  pass(x, rows, splits, partial);
  pass(partial, splits, 1, y);
  return y;
}

/**
 * Mean over the real frames.   x (B, T, C)   mask (B, T) u32, 1 = real   →   y (B, C)
 *
 * A sample without a real frame gives zeros.
 */
export function maskedMean(x: Tensor, mask: Tensor): Tensor {
  checkShape("maskedMean", "x", x.shape, [-1, -1, -1]);
  const [B, T, C] = x.shape;
  checkShape("maskedMean", "mask", mask.shape, [B, T]);
  const WG = width(x);
  const dims = { ...zero, B, T, C };
  const y = x.like([B, C]);
  k.run("mean_time", { x, mask, y }, dims, [Math.ceil(C / WG), B], { overrides: { WG } });
  return record("maskedMean", [x], y, [mask], (dy) => {
    const dx = x.like();
    k.run("spread", { x: dy, mask, y: dx }, dims, [Math.ceil(C / WG), B], { overrides: { WG } });
    return [dx];
  });
}

/** Σ a·b over all elements.   a, b (…) → () */
export function dot(a: Tensor, b: Tensor): Tensor {
  checkShape("dot", "b", b.shape, a.shape);
  const WG = width(a);
  const rows = a.size;
  const splits = Math.max(1, Math.min(256, Math.ceil(rows / 4096)));
  const partial = a.like([splits, 1]);
  k.run("dots", { x: a, m: b, y: partial }, { ...zero, rows, step: Math.ceil(rows / splits) }, [splits], {
    overrides: { WG },
  });
  const y = columnSum(partial).reshaped([]);
  return record(
    "dot",
    [a, b],
    y,
    [a, b],
    notDifferentiable("dot", "its gradient is its other factor; start from that"),
  );
}

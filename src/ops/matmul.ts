/** Matrix products: the twin of kernels/matmul.wgsl, and the ops that are one product with a fused tail. */
import type { Costed } from "../gpu/cost.ts";
import { type Grid, twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkChoice, checkOptions } from "../io/checks.ts";
import { scope } from "../tensor/scope.ts";
import { checkShape, rowsOf, sameShape, showShape, sizeOf } from "../tensor/shape.ts";
import { isRecording, isTracked, record } from "../tensor/tape.ts";
import { Tensor, unread, WEIGHT_DTYPES, type WeightDType } from "../tensor/tensor.ts";
import { activation as activate, type ActivationKind, activationCode } from "./activation.ts";
import { mul } from "./elementwise.ts";
import { type Gemm, type Layout, operandBytes, sizeOfFlag, tailCost } from "./gemm.ts";
import { matrices, usesMatrices } from "./matmul_matrices.ts";
import { columnSum } from "./reduce.ts";
import { transposed } from "./transpose.ts";

/** Bytes of the sums of all slices of K. */
const partialBytes = ({ M, N, splits }: Costed["dims"], batch: number): number =>
  16 * batch * splits * M * Math.ceil(N / 4);

const k = twin("matmul", {
  forward: (given) => {
    const { dims, grid } = given;
    const { M, N, K, splits } = dims;
    const batch = grid[2] / splits;
    const rest =
      splits > 1
        ? { flops: 0, bytes: partialBytes(dims, batch) }
        : tailCost(given, batch, sizeOfFlag(given, "Y"));
    return {
      flops: 2 * batch * M * N * K + rest.flops,
      bytes: operandBytes(given, batch) + rest.bytes,
      shape: { ...(batch > 1 && { batch }), M, N, K, ...(splits > 1 && { splits }) },
    };
  },
  total: (given) => {
    const { dims, grid } = given;
    const { M, N, splits } = dims;
    const batch = grid[2];
    const tail = tailCost(given, batch, sizeOfFlag(given, "Y"));
    return {
      flops: (splits - 1) * batch * M * N + tail.flops,
      bytes: partialBytes(dims, batch) + tail.bytes,
      shape: { ...(batch > 1 && { batch }), M, N, splits },
    };
  },
});

/**
 * Dispatches Y = act(alpha·op(A)·op(B) + bias) + residual into `y`, for each product of the batch. Has no gradient.
 *
 * Where b is f16 and the device has matrices, `a` is rounded to f16 as well, beyond 65504 to infinity; sums and all that
 * follows them are f32.
 */
export function gemm(y: Tensor, a: Tensor, b: Tensor, p: Gemm): void {
  const { M, N, K, batch = 1, transA = false, transB = false } = p;
  const code = activationCode("linear", p.activation);
  if (M === 0 || N === 0 || batch === 0) return;
  const mappedB = p.b.segmentRows !== undefined && p.b.segmentRows < K;
  if ((transA && p.a.segmentRows !== undefined) || (transB && p.b.segmentRows !== undefined))
    throw new Error(
      "Cannot multiply a transposed operand whose rows come in segments: it is read as it is stored",
    );
  const placed = ({ start, groupStride }: Layout) => start !== undefined || groupStride !== undefined;
  if ((transA && placed(p.a)) || (p.heads === undefined && [p.a, p.b, p.y].some(placed)))
    throw new Error("Cannot multiply from a start or by groups without heads, or of a transposed operand");
  const heads = p.heads ?? batch;
  const groupOf = ({ start = 0, batchStride = 0, groupStride = heads * batchStride }: Layout) => [
    start,
    groupStride,
  ];
  const [[aStart, aGroupStride], [bStart, bGroupStride], [yStart, yGroupStride]] = [p.a, p.b, p.y].map(
    groupOf,
  );
  const groups = { aStart, aGroupStride, bStart, bGroupStride, yStart, yGroupStride };
  const strides = {
    aRowStride: p.a.rowStride,
    aBatchStride: p.a.batchStride ?? 0,
    aSegmentStride: p.a.segmentStride ?? 0,
    bRowStride: p.b.rowStride,
    bBatchStride: p.b.batchStride ?? 0,
    bSegmentStride: p.b.segmentStride ?? 0,
    yRowStride: p.y.rowStride,
    yBatchStride: p.y.batchStride ?? 0,
  };
  const lanes = y.device.info.path === "subgroups";
  const contiguous = [N, transA ? M : p.paddedA && lanes ? 0 : K, transB ? K : N];
  const vec = [...Object.values(strides), ...Object.values(groups), ...contiguous].every((n) => n % 4 === 0);
  const dims = {
    M,
    N,
    K,
    ...strides,
    aSegmentRows: p.a.segmentRows ?? M,
    bSegmentRows: p.b.segmentRows ?? K,
    activation: code,
    hasBias: p.bias ? 1 : 0,
    hasResidual: p.residual ? 1 : 0,
    biasBatchStride: p.bias && batch > 1 ? N : 0,
    accumulate: p.accumulate ? 1 : 0,
    alpha: p.alpha ?? 1,
  };
  const given = { vec, transA, transB, mappedB, slope: p.slopes !== undefined };
  const plainB = vec && !transA && !transB && !mappedB;

  const slopes = p.slopes && { slopes: p.slopes };
  const tail = { bias: p.bias ?? unread(a), residual: p.residual ?? unread(a), y, ...slopes };
  const sizes = { M, N, K, batch, transA, transB, W: b.dtype };
  if (p.heads === undefined && usesMatrices(y.device, b, p)) {
    const { rows, columns, flags } = launch(y.device, "matmul_matrices", sizes);
    matrices.run("forward", { a, b, ...tail }, dims, [Math.ceil(N / columns), Math.ceil(M / rows), batch], {
      flags: { ...given, wholeQuads: vec && !transA, X: a.dtype, W: b.dtype, Y: y.dtype, ...flags },
    });
    return;
  }

  if (transA && lanes) {
    gemmOfColumns(y, a, b, p);
    return;
  }
  const tile = launch(y.device, "matmul", { ...sizes, tile: p.tile });
  const { splits, sliceK } = tile;
  const flags = {
    ...given,
    enables: enables([...tile.enables, ...([a, b, y].some(isHalf) ? ["f16"] : [])]),
    ...{ X: elementOf(a), W: elementOf(b), Y: elementOf(y) },
    rare: code > 1,
    plainB,
    shortB: mappedB && dims.bSegmentRows < tile.flags.BK,
    // By lanes all of them, so that no product of heads costs a module.
    grouped: tile.flags.subgroups || p.heads !== undefined,
    ...tile.flags,
  };
  const sliced = { ...dims, splits, sliceK, heads, ...groups };
  const [across, down] = [Math.ceil(N / tile.columns), Math.ceil(M / tile.rows)];
  const layers = batch * splits;
  const grid: Grid = tile.flags.subgroups ? [down, across, layers] : [across, down, layers];
  if (splits === 1) {
    k.run("forward", { a, b, ...tail }, sliced, grid, { flags });
    return;
  }
  scope(y.device, () => {
    const quads = Math.ceil(N / 4);
    const partial = Tensor.empty(y.device, [batch, splits, M, 4 * quads]);
    k.run("forward", { a, b, partial }, sliced, grid, { flags });
    const [gx, gy = 1] = gridFor(M * quads, 64);
    k.run("total", { partial, ...tail }, sliced, [gx, gy, batch], { flags });
  });
}

/** gemm() of a stored (K,M) A by lanes, which hand out rows: columns become rows first. The terms are added in the same order. */
function gemmOfColumns(y: Tensor, a: Tensor, b: Tensor, p: Gemm): void {
  const { M, K, batch = 1 } = p;
  const rowStride = 4 * Math.ceil(K / 4);
  // Whole quads where the rows have them.
  const C = Math.min(4 * Math.ceil(M / 4), p.a.rowStride);
  const stored = { xRowStride: p.a.rowStride, xBatchStride: p.a.batchStride ?? 0 };
  scope(y.device, () => {
    const rows = transposed(a, batch, { R: K, C, Ry: rowStride, ...stored });
    const turned = { transA: false, paddedA: true, a: { rowStride, batchStride: C * rowStride } };
    gemm(y, rows, b, { ...p, ...turned });
  });
}

const enables = (extensions: readonly string[]): string => extensions.map((e) => `enable ${e};`).join("");

const isHalf = ({ dtype }: Tensor): boolean => dtype === "f16";
/** What is neither f32 nor f16 the bindings then refuse as no f32. */
const elementOf = (t: Tensor): WeightDType => (isHalf(t) ? "f16" : "f32");

const LINEAR_OPTIONS: readonly (keyof LinearOptions)[] = ["activation", "residual", "dtype"];
const MATMUL_OPTIONS: readonly (keyof MatmulOptions)[] = ["transB", "alpha"];

/** What follows the product, in the same dispatch. */
export interface LinearOptions {
  /** None by default. */
  readonly activation?: ActivationKind;
  /** Added after the activation; of the shape and the dtype of the result. */
  readonly residual?: Tensor;
  /** Of the result; that of x by default. */
  readonly dtype?: WeightDType;
}

/**
 * y = act(x·wᵀ + b) + residual.   x (…, K) f32 or f16   w (N, K) f32 or f16   b (N) f32   →   y (…, N) of x's dtype
 *
 * Where w is f16 and the device has matrices (device.info), x is rounded to f16 too, and in the backward the gradient of y:
 * 2^-11 of each value, and what is beyond 65504 becomes infinite. Sums are f32 in any case.
 *
 * All of it is one dispatch, unless a gradient must pass the activation: that needs the value before it. Of an f16 result it
 * needs the slope alone, which the same dispatch stores. The gradients of w and b are f32.
 */
export function linear(x: Tensor, w: Tensor, b?: Tensor, options: LinearOptions = {}): Tensor {
  checkOptions("run linear", options, LINEAR_OPTIONS);
  const [N, K] = w.shape;
  if (w.shape.length !== 2 || x.shape.at(-1) !== K) {
    throw new TypeError(
      `Cannot run linear: w is ${showShape(w.shape)} but the last axis of x ${showShape(x.shape)} is ${x.shape.at(-1)}`,
    );
  }
  if (b) checkShape("linear", "b", b.shape, [N]);
  const shape = [...x.shape.slice(0, -1), N];
  const { activation, residual, dtype = elementOf(x) } = options;
  checkChoice("run linear", "dtype", dtype, WEIGHT_DTYPES);
  if (residual) {
    checkShape("linear", "residual", residual.shape, shape);
    if (residual.dtype !== dtype)
      throw new TypeError(
        `Cannot run linear: residual is ${residual.dtype} but should be ${dtype}, as the result is`,
      );
  }
  const passed = activation && isRecording(x.device) && [x, w, b].some((t) => t && isTracked(t));
  if (passed && residual)
    throw new TypeError("Cannot run linear: a residual after an activation has no backward; add it apart");
  if (passed && dtype === "f32") return activate(linear(x, w, b, { dtype }), activation);
  const M = rowsOf(x.shape);
  const y = x.like(shape, dtype);
  const slopes = passed ? y.like(shape, dtype) : undefined;
  gemm(y, x, w, {
    M,
    N,
    K,
    transB: true,
    a: { rowStride: K },
    b: { rowStride: K },
    y: { rowStride: N },
    bias: b,
    activation,
    slopes,
    residual,
  });
  const inputs = [x, w, ...(b ? [b] : []), ...(residual ? [residual] : [])];
  return record("linear", inputs, y, [x, w, ...(slopes ? [slopes] : [])], (given, needs) => {
    const dy = slopes ? mul(given, slopes) : given;
    const dx = needs[0] ? x.like(x.shape, x.dtype) : undefined;
    if (dx) gemm(dx, dy, w, { M, N: K, K: N, a: { rowStride: N }, b: { rowStride: K }, y: { rowStride: K } });
    const dw = needs[1] ? x.like(w.shape) : undefined;
    if (dw)
      gemm(dw, dy, x, {
        M: N,
        N: K,
        K: M,
        transA: true,
        a: { rowStride: N },
        b: { rowStride: K },
        y: { rowStride: K },
        allowF16: w.dtype === "f16",
      });
    const db = b && needs[2] ? columnSum(dy.reshaped([M, N])) : undefined;
    return [dx, dw, ...(b ? [db] : []), ...(residual ? [dy] : [])];
  });
}

/** How two matrices are multiplied. */
export interface MatmulOptions {
  /** b is stored transposed, (…, N, K). */
  readonly transB?: boolean;
  /** A factor; 1 by default. */
  readonly alpha?: number;
}

/**
 * y = alpha·a·b.   a (…, M, K)   b (…, K, N) or (K, N), (…, N, K) or (N, K) if `transB`   →   y (…, M, N) of a's dtype
 *
 * The axes before the last two are those of a batch: the same for both, or none for b, which then serves all of a.
 *
 * @example
 * ```ts
 * const a = Tensor.from(device, Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
 * const b = Tensor.from(device, Float32Array.of(1, 0, 0, 1, 1, 1), [3, 2]);
 * console.log(await ops.matmul(a, b).read()); // [4, 5, 10, 11]
 * console.log(ops.matmul(a, a, { transB: true }).shape); // [2, 2]
 * ```
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  checkOptions("run matmul", options, MATMUL_OPTIONS);
  const { transB = false, alpha = 1 } = options;
  const [lead, leadB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const shared = leadB.length === 0;
  const [rows, K] = a.shape.slice(-2);
  const [N, Kb] = transB ? b.shape.slice(-2) : b.shape.slice(-2).reverse();
  if (a.shape.length < 2 || b.shape.length < 2 || K !== Kb || !(shared || sameShape(lead, leadB))) {
    throw new TypeError(
      `Cannot run matmul: a is ${showShape(a.shape)} and b is ${showShape(b.shape)}${transB ? " (transposed)" : ""}, expected (…, M, K) and ${transB ? "(…, N, K)" : "(…, K, N)"}`,
    );
  }
  // One b for all: the rows of all products are the rows of one.
  const [batch, M] = shared ? [1, rowsOf(a.shape)] : [sizeOf(lead), rows];
  const y = a.like([...lead, rows, N], elementOf(a));
  const aLayout = { rowStride: K, batchStride: M * K };
  const bLayout = { rowStride: transB ? K : N, batchStride: N * K };
  const yLayout = { rowStride: N, batchStride: M * N };
  gemm(y, a, b, { M, N, K, batch, transB, alpha, a: aLayout, b: bLayout, y: yLayout });
  return record("matmul", [a, b], y, [a, b], (dy, needs) => {
    const da = needs[0] ? a.like(a.shape, a.dtype) : undefined;
    if (da)
      gemm(da, dy, b, {
        ...{ M, N: K, K: N, batch, transB: !transB, alpha },
        ...{ a: yLayout, b: bLayout, y: aLayout },
      });
    // Beside an f32 a, an f16 b is a weight: its gradient is f32, as in linear().
    const db = needs[1] ? b.like(b.shape, isHalf(a) ? b.dtype : "f32") : undefined;
    // b (K, N): db = aᵀ·dy.   b (N, K): db = dyᵀ·a.
    if (db && transB)
      gemm(db, dy, a, {
        ...{ M: N, N: K, K: M, batch, transA: true, alpha },
        ...{ a: yLayout, b: aLayout, y: bLayout },
        allowF16: b.dtype === "f16",
      });
    else if (db)
      gemm(db, a, dy, {
        ...{ M: K, N, K: M, batch, transA: true, alpha },
        ...{ a: aLayout, b: yLayout, y: bLayout },
        allowF16: b.dtype === "f16",
      });
    return [da, db];
  });
}

/** Matrix products: the twin of kernels/matmul.wgsl, and the ops that are one product with a fused tail. */
import { twin } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape, rowsOf, showShape } from "../tensor/shape.ts";
import { isRecording, isTracked, record } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { activation as activate, type ActivationKind, activationCode } from "./activation.ts";
import { columnSum } from "./reduce.ts";

const k = twin("matmul");

/** Where the rows of an operand begin: row r at (r / rows)·batch + (r % rows)·row, independent product z at z·each. */
export interface Rows {
  readonly row: number;
  readonly rows?: number;
  readonly batch?: number;
  readonly each?: number;
}

export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Independent products along the grid's z. */
  readonly Z?: number;
  /** A is stored (K, M). */
  readonly transA?: boolean;
  /** B is stored (N, K), as a Linear weight. */
  readonly transB?: boolean;
  readonly a: Rows;
  readonly b: Rows;
  readonly y: Rows;
  readonly alpha?: number;
  readonly bias?: Tensor;
  readonly activation?: ActivationKind;
  readonly residual?: Tensor;
  /** Adds to what y holds. */
  readonly accumulate?: boolean;
}

/** Dispatches Y = act(alpha·op(A)·op(B) + bias) + residual into `y`; no gradient. Strides count elements. */
export function product(y: Tensor, a: Tensor, b: Tensor, p: Product): void {
  const { M, N, K, Z = 1 } = p;
  if (M === 0 || N === 0 || Z === 0) return;
  const strides = [
    p.a.row,
    p.a.batch ?? 0,
    p.a.each ?? 0,
    p.b.row,
    p.b.batch ?? 0,
    p.b.each ?? 0,
    p.y.row,
    p.y.each ?? 0,
  ];
  const contiguous = [N, p.transA ? M : K, p.transB ? K : N];
  const vec = [...strides, ...contiguous].every((n) => n % 4 === 0);
  const f16 = b.dtype === "f16";
  const tile = launch(y.device, "matmul", p);
  const flags = {
    enables: `${tile.flags.subgroups ? "enable subgroups;" : ""}${f16 ? "enable f16;" : ""}`,
    vec,
    W: f16 ? "f16" : "f32",
    rare: activationCode(p.activation) > 1,
    transA: p.transA ?? false,
    transB: p.transB ?? false,
    mappedB: p.b.rows !== undefined,
    ...tile.flags,
  };
  k.run(
    "forward",
    { a, b, bias: p.bias ?? a, residual: p.residual ?? a, y },
    {
      M,
      N,
      K,
      aRow: p.a.row,
      aRows: p.a.rows ?? M,
      aBatch: p.a.batch ?? 0,
      aZ: p.a.each ?? 0,
      bRow: p.b.row,
      bRows: p.b.rows ?? K,
      bBatch: p.b.batch ?? 0,
      bZ: p.b.each ?? 0,
      yRow: p.y.row,
      yZ: p.y.each ?? 0,
      activation: activationCode(p.activation),
      hasBias: p.bias ? 1 : 0,
      hasResidual: p.residual ? 1 : 0,
      biasZ: p.bias && Z > 1 ? N : 0,
      accumulate: p.accumulate ? 1 : 0,
      alpha: p.alpha ?? 1,
    },
    [Math.ceil(N / tile.columns), Math.ceil(M / tile.rows), Z],
    { flags },
  );
}

export interface LinearOptions {
  readonly activation?: ActivationKind;
  /** Added after the activation; the shape of the result. */
  readonly residual?: Tensor;
}

/**
 * y = act(x·wᵀ + b) + residual.   x (…, K)   w (N, K) f32 or f16   b (N)   →   y (…, N)
 *
 * All of it is one dispatch, unless a gradient must pass the activation: that needs the value before it.
 */
export function linear(x: Tensor, w: Tensor, b?: Tensor, options: LinearOptions = {}): Tensor {
  const [N, K] = w.shape;
  if (w.shape.length !== 2 || x.shape.at(-1) !== K) {
    throw new TypeError(
      `Cannot run linear: w is ${showShape(w.shape)} but the last axis of x ${showShape(x.shape)} is ${x.shape.at(-1)}`,
    );
  }
  if (b) checkShape("linear", "b", b.shape, [N]);
  const shape = [...x.shape.slice(0, -1), N];
  const { activation, residual } = options;
  if (residual) checkShape("linear", "residual", residual.shape, shape);
  if (activation && isRecording(x.device) && [x, w, b].some((t) => t && isTracked(t))) {
    if (residual)
      throw new TypeError("Cannot run linear: a residual after an activation has no backward; add it apart");
    return activate(linear(x, w, b), activation);
  }
  const M = rowsOf(x.shape);
  const y = x.like(shape);
  product(y, x, w, {
    M,
    N,
    K,
    transB: true,
    a: { row: K },
    b: { row: K },
    y: { row: N },
    bias: b,
    activation,
    residual,
  });
  const inputs = [x, w, ...(b ? [b] : []), ...(residual ? [residual] : [])];
  return record("linear", inputs, y, [x, w], (dy, needs) => {
    const dx = needs[0] ? x.like() : undefined;
    if (dx) product(dx, dy, w, { M, N: K, K: N, a: { row: N }, b: { row: K }, y: { row: K } });
    const dw = needs[1] ? x.like(w.shape) : undefined;
    if (dw)
      product(dw, dy, x, { M: N, N: K, K: M, transA: true, a: { row: N }, b: { row: K }, y: { row: K } });
    const db = b && needs[2] ? columnSum(dy.reshaped([M, N])) : undefined;
    return [dx, dw, ...(b ? [db] : []), ...(residual ? [dy] : [])];
  });
}

/**
 * y = alpha·a·b.   a (Z, M, K)   b (Z, K, N), or (Z, N, K) if `transB`   →   y (Z, M, N)
 *
 * Without a Z axis both are plain matrices.
 */
export function matmul(a: Tensor, b: Tensor, options: { transB?: boolean; alpha?: number } = {}): Tensor {
  const { transB = false, alpha = 1 } = options;
  const batched = a.shape.length === 3;
  const [Z, M, K] = batched ? a.shape : [1, ...a.shape];
  const [Zb, B0, B1] = b.shape.length === 3 ? b.shape : [1, ...b.shape];
  const [N, Kb] = transB ? [B0, B1] : [B1, B0];
  if (a.shape.length !== b.shape.length || (a.shape.length !== 2 && !batched) || Z !== Zb || K !== Kb) {
    throw new TypeError(
      `Cannot run matmul: a is ${showShape(a.shape)} and b is ${showShape(b.shape)}${transB ? " (transposed)" : ""}`,
    );
  }
  const y = a.like(batched ? [Z, M, N] : [M, N]);
  const each = { a: M * K, b: N * K, y: M * N };
  product(y, a, b, {
    M,
    N,
    K,
    Z,
    transB,
    alpha,
    a: { row: K, each: each.a },
    b: { row: transB ? K : N, each: each.b },
    y: { row: N, each: each.y },
  });
  return record("matmul", [a, b], y, [a, b], (dy, needs) => {
    const da = needs[0] ? a.like() : undefined;
    const aRows = { row: N, each: each.y };
    if (da)
      product(da, dy, b, {
        M,
        N: K,
        K: N,
        Z,
        transB: !transB,
        alpha,
        a: aRows,
        b: { row: transB ? K : N, each: each.b },
        y: { row: K, each: each.a },
      });
    const db = needs[1] ? b.like() : undefined;
    // b (K,N): db = aᵀ·dy.   b (N,K): db = dyᵀ·a.
    if (db && transB)
      product(db, dy, a, {
        M: N,
        N: K,
        K: M,
        Z,
        transA: true,
        alpha,
        a: aRows,
        b: { row: K, each: each.a },
        y: { row: K, each: each.b },
      });
    else if (db)
      product(db, a, dy, {
        M: K,
        N,
        K: M,
        Z,
        transA: true,
        alpha,
        a: { row: K, each: each.a },
        b: aRows,
        y: { row: N, each: each.b },
      });
    return [da, db];
  });
}

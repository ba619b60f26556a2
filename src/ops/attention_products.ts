/** The backward of attention by products of matrices, for paths without its tiles: all scores of some queries at a time. */
import { scope } from "../tensor/scope.ts";
import { Tensor } from "../tensor/tensor.ts";
import { gemm } from "./matmul.ts";

/** Bytes of scores at a time, which bounds what long recordings take. */
const MOST = 2 ** 24;

/** A slice of packed rows: `tensor` (B, T, row), head 0 at float `start`. */
export interface Slice {
  readonly tensor: Tensor;
  readonly start: number;
}

/** B samples of H heads of D numbers, all f32. */
export interface Heads {
  readonly q: Slice;
  readonly k: Slice;
  readonly v: Slice;
  readonly dims: { readonly [name in "B" | "H" | "Tq" | "Tk" | "D" | "scale"]: number };
}

/** Where the heads of a slice lie, from row `first` on. */
function headsOf({ tensor, start }: Slice, D: number, first = 0) {
  const [, T, row] = tensor.shape;
  return { rowStride: row, batchStride: D, groupStride: T * row, start: start + first * row };
}

/**
 * Writes the gradients of q, k and v, all of their rows, by that of the result: dO (B, Tq, H·D). Has no gradient of its own.
 *
 * `between` is given the scores of `count` queries from `first` on and the products of dO with v, both (B, H, count, quads of
 * keys): it makes of them the weights after dropout, and the gradient of the scores times scale, with zeros past the last key.
 */
export function backwardByProducts(
  { q, k, v, dims }: Heads,
  dO: Tensor,
  gradients: { readonly dq: Slice; readonly dk: Slice; readonly dv: Slice },
  between: (scores: Tensor, dP: Tensor, first: number, count: number) => void,
): void {
  const { B, H, Tq, Tk, D, scale } = dims;
  const { device } = dO;
  const heads = { batch: B * H, heads: H };
  const N = 4 * Math.ceil(Tk / 4);
  const most = Math.max(32, Math.floor(MOST / (4 * B * H * N) / 32) * 32);
  const out = { tensor: dO, start: 0 };
  const ofQueries = (first: number, count: number) => {
    const rows = { rowStride: N, batchStride: count * N };
    const product = (x: Slice, y: Slice, alpha: number) => {
      const xy = Tensor.empty(device, [B, H, count, N]);
      const layout = { a: headsOf(x, D, first), b: headsOf(y, D), y: rows };
      gemm(xy, x.tensor, y.tensor, { M: count, N, K: D, transB: true, alpha, ...layout, ...heads });
      return xy;
    };
    const scores = product(q, k, scale);
    const dP = product(out, v, 1);
    between(scores, dP, first, count);
    const { dq, dk, dv } = gradients;
    const layout = { a: rows, b: headsOf(k, D), y: headsOf(dq, D, first) };
    gemm(dq.tensor, dP, k.tensor, { M: count, N: D, K: Tk, paddedA: true, ...layout, ...heads });
    for (const [to, weights, from] of [
      [dk, dP, q],
      [dv, scores, out],
    ] as const)
      gemm(to.tensor, weights, from.tensor, {
        ...{ M: Tk, N: D, K: count, transA: true, accumulate: first > 0, ...heads },
        ...{ a: rows, b: headsOf(from, D, first), y: headsOf(to, D) },
      });
  };
  for (let first = 0; first < Tq; first += most)
    scope(device, () => ofQueries(first, Math.min(most, Tq - first)));
}

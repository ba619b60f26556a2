import { checkChoice, checkOptions, describeValue } from "../io/checks.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, showShape, sizeOf } from "../tensor/shape.ts";
import { isTracked, record } from "../tensor/tape.ts";
import { Tensor, unread, type WeightDType } from "../tensor/tensor.ts";

const k = twin("embedding", {
  // Rows that occur twice are read twice; what the table holds besides is not.
  forward: ({ dims: { N, V, C, hasPlus }, bytes }) => ({
    flops: hasPlus ? N * C : 0,
    bytes: Math.min(1, N / V) * bytes("w") + bytes("ids") + (1 + hasPlus) * bytes("y"),
  }),
  backward: ({ dims: { N, C }, bytes }) => ({
    flops: N * C,
    bytes: moved(bytes, "dy", "order", "start", "dw"),
  }),
});

/** Positions sorted by id, and where each id's run starts: (N) and (V + 1). */
function index(ids: readonly number[], V: number): { order: Uint32Array; start: Uint32Array } {
  const start = new Uint32Array(V + 1);
  for (const id of ids) start[id + 1]++;
  for (let v = 0; v < V; v++) start[v + 1] += start[v];
  const next = start.slice();
  const order = new Uint32Array(ids.length);
  ids.forEach((id, n) => {
    order[next[id]++] = n;
  });
  return { order, start };
}

/** How rows are looked up. */
export interface EmbeddingOptions {
  /** Added to the result; its shape. */
  readonly plus?: Tensor;
  /** Of the result: that of `plus`, or f32, by default. */
  readonly dtype?: WeightDType;
  /** The row that gets no gradient, as torch's padding_idx. */
  readonly paddingIndex?: number;
}

const OPTIONS: readonly (keyof EmbeddingOptions)[] = ["plus", "paddingIndex", "dtype"];

/**
 * y[n] = w[ids[n]] + plus[n].   w (V, C) f32 or f16   ids: N numbers   →   y (…shape, C)
 *
 * Throws RangeError for an id outside 0 … V − 1.
 */
export function embedding(
  w: Tensor,
  ids: readonly number[],
  shape: readonly number[],
  options: EmbeddingOptions = {},
): Tensor {
  checkOptions("run embedding", options, OPTIONS);
  if (!Array.isArray(ids))
    throw new TypeError(
      `Cannot run embedding: ids are ${describeValue(ids)} but should be an array of numbers`,
    );
  const [V, C] = w.shape;
  const N = ids.length;
  if (sizeOf(shape) !== N)
    throw new TypeError(`Cannot run embedding: ${N} ids do not fill the shape ${showShape(shape)}`);
  const bad = ids.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < V));
  if (bad >= 0)
    throw new RangeError(
      `Cannot run embedding: id ${ids[bad]} at position ${bad} is outside the vocabulary of ${V}`,
    );
  const { plus, paddingIndex = -1, dtype = plus?.dtype === "f16" ? "f16" : "f32" } = options;
  checkChoice("run embedding", "dtype", dtype, ["f32", "f16"]);
  const y = Tensor.empty(w.device, [...shape, C], dtype);
  if (plus) checkShape("embedding", "plus", plus.shape, y.shape);
  const W = w.dtype === "f16" ? "f16" : "f32";
  const variant = {
    flags: { enables: W === "f16" || dtype === "f16" ? "enable f16;" : "", W, X: dtype },
    overrides: launch(w.device, "embedding"),
  };
  const dims = { N, V, C, hasPlus: plus ? 1 : 0, skip: paddingIndex };
  const idsTensor = Tensor.from(w.device, Int32Array.from(ids), [N]);
  k.run("forward", { w, ids: idsTensor, plus: plus ?? unread(w), y }, dims, gridFor(N, 1), variant);
  const inputs = plus ? [w, plus] : [w];
  const both = (dw: Tensor | undefined, dy: Tensor) => (plus ? [dw, dy] : [dw]);
  if (!isTracked(w)) return record("embedding", inputs, y, [], (dy) => both(undefined, dy));
  const { order, start } = index(ids, V);
  const orderTensor = Tensor.from(w.device, order, [N]);
  const startTensor = Tensor.from(w.device, start, [V + 1]);
  return record("embedding", inputs, y, [orderTensor, startTensor], (dy) => {
    const dw = w.like();
    k.run("backward", { dy, order: orderTensor, start: startTensor, dw }, dims, gridFor(V, 1), variant);
    return both(dw, dy);
  });
}

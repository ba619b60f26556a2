/** Fused attention over packed projections: the twin of kernels/attention.wgsl. */
import { checkOptions } from "../io/checks.ts";
import { varies } from "../gpu/capture.ts";
import type { Costed } from "../gpu/cost.ts";
import { twin, type Variant } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape, showShape } from "../tensor/shape.ts";
import { notDifferentiable, noteSeed, record } from "../tensor/tape.ts";
import { Tensor, unread } from "../tensor/tensor.ts";
import { checkRate, dropping } from "./dropout.ts";

/** What the costs of attention are made of. */
function parts({ dims: { B, H, Tq, Tk, D, hasMask, dropBelow }, variant, bytes }: Costed) {
  const scores = B * H * Tq * Tk;
  const element = variant.flags?.X === "f16" ? 2 : 4;
  return {
    scores,
    shape: { B, H, Tq, Tk, D },
    /** A product of every query with every key, or of the like. */
    product: 2 * D * scores,
    dropout: dropBelow ? scores : 0,
    // q is often packed with k and v: their tensors say nothing of how much is read.
    queries: element * B * Tq * H * D,
    keys: element * B * Tk * H * D,
    /** One f32 a query and head. */
    statistic: 4 * B * H * Tq,
    mask: hasMask ? bytes("mask") : 0,
  };
}

const k = twin("attention", {
  // Two products; factor, max, −, exp and + of a score, / of an output.
  forward: (given) => {
    const { shape, scores, product, dropout, queries, keys, statistic, mask } = parts(given);
    const { B, H, Tq, D } = given.dims;
    return {
      shape,
      flops: 2 * product + 5 * scores + dropout + B * H * Tq * D,
      bytes: 2 * queries + 2 * keys + statistic + mask,
    };
  },
  backward_delta: (given) => {
    const { shape, queries, statistic } = parts(given);
    const { B, H, Tq, D } = given.dims;
    return { shape, flops: 2 * B * H * Tq * D, bytes: 2 * queries + statistic };
  },
  // q·k and dO·v again, then ds·k; a score's factor, −, exp, and −, · and · for ds.
  backward_q: (given) => {
    const { shape, scores, product, dropout, queries, keys, statistic, mask } = parts(given);
    return {
      shape,
      flops: 3 * product + 6 * scores + dropout,
      bytes: 3 * queries + 2 * keys + 2 * statistic + mask,
    };
  },
  // The same, with dsᵀ·q and pᵀ·dO.
  backward_kv: (given) => {
    const { shape, scores, product, dropout, queries, keys, statistic, mask } = parts(given);
    return {
      shape,
      flops: 4 * product + 6 * scores + 2 * dropout,
      bytes: 2 * queries + 4 * keys + 2 * statistic + mask,
    };
  },
  probabilities: (given) => {
    const { shape, scores, product, queries, keys, statistic, mask } = parts(given);
    return { shape, flops: product + 3 * scores, bytes: queries + keys + statistic + mask + 4 * scores };
  },
});

/** How attention is computed. */
export interface AttentionOptions {
  /** They divide C. */
  readonly heads: number;
  /** Default 1/√D. */
  readonly scale?: number;
  /**
   * (B, Tk) u32, 1 = a key that may be looked at, as Hugging Face's attention_mask; softmax()'s mask has 1 = masked out. A
   * sample with no such key spreads its weight evenly.
   */
  readonly mask?: Tensor;
  /**
   * Dropout of the probabilities: the same seed drops the same ones, forward and backward. A function, as redrawn() makes, is
   * asked for it anew where the call is captured and replayed.
   */
  readonly dropout?: { readonly rate: number; readonly seed: number | (() => number) };
}

const OPTIONS: readonly (keyof AttentionOptions)[] = ["heads", "scale", "mask", "dropout"];

/** A slice of a packed row: `tensor` (B, T, row), head 0 at float `start`. */
interface Slice {
  readonly tensor: Tensor;
  readonly start: number;
}

/**
 * Self-attention.   qkv (B, T, 3·C), each row q, k, v one after the other   →   y (B, T, C)
 */
export function selfAttention(qkv: Tensor, options: AttentionOptions): Tensor {
  const C = widthOf(qkv);
  return run(
    "selfAttention",
    C,
    { tensor: qkv, start: 0 },
    { tensor: qkv, start: C },
    { tensor: qkv, start: 2 * C },
    options,
  ).y;
}

/**
 * Cross-attention.   q (B, Tq, C)   kv (B, Tk, 2·C), each row k, then v   →   y (B, Tq, C)
 */
export function crossAttention(q: Tensor, kv: Tensor, options: AttentionOptions): Tensor {
  checkShape("crossAttention", "q", q.shape, [-1, -1, -1]);
  const C = q.shape[2];
  checkShape("crossAttention", "kv", kv.shape, [q.shape[0], -1, 2 * C]);
  return run(
    "crossAttention",
    C,
    { tensor: q, start: 0 },
    { tensor: kv, start: 0 },
    { tensor: kv, start: C },
    options,
  ).y;
}

/** Self-attention and its probabilities (B, H, T, T), for those who compare them: these have no gradient. */
export function selfAttentionWithProbabilities(
  qkv: Tensor,
  options: AttentionOptions,
): { y: Tensor; probabilities: Tensor } {
  const C = widthOf(qkv);
  const r = run(
    "selfAttention",
    C,
    { tensor: qkv, start: 0 },
    { tensor: qkv, start: C },
    { tensor: qkv, start: 2 * C },
    options,
  );
  return { y: r.y, probabilities: r.probabilities() };
}

/** Cross-attention and its probabilities (B, H, Tq, Tk), which have no gradient. */
export function crossAttentionWithProbabilities(
  q: Tensor,
  kv: Tensor,
  options: AttentionOptions,
): { y: Tensor; probabilities: Tensor } {
  const C = q.shape[2];
  const r = run(
    "crossAttention",
    C,
    { tensor: q, start: 0 },
    { tensor: kv, start: 0 },
    { tensor: kv, start: C },
    options,
  );
  return { y: r.y, probabilities: r.probabilities() };
}

/** C of a packed (B, T, 3·C). */
function widthOf(qkv: Tensor): number {
  checkShape("selfAttention", "qkv", qkv.shape, [-1, -1, -1]);
  if (qkv.shape[2] % 3 !== 0)
    throw new RangeError(
      `Cannot run selfAttention: qkv is ${showShape(qkv.shape)} but its last axis should be q, k and v of one width`,
    );
  return qkv.shape[2] / 3;
}

function run(
  op: string,
  C: number,
  q: Slice,
  key: Slice,
  value: Slice,
  options: AttentionOptions,
): { y: Tensor; probabilities: () => Tensor } {
  checkOptions(`run ${op}`, options, OPTIONS);
  const { heads: H, mask, dropout } = options;
  if (dropout) checkRate(op, dropout.rate);
  const [B, Tq, qRow] = q.tensor.shape;
  const [, Tk, kRow] = key.tensor.shape;
  const D = C / H;
  if (!(Number.isInteger(H) && H > 0 && Number.isInteger(D)))
    throw new RangeError(`Cannot run ${op}: a width of ${C} does not divide into ${H} heads`);
  if (mask) checkShape(op, "mask", mask.shape, [B, Tk]);
  if (Tq === 0 || Tk === 0)
    throw new RangeError(`Cannot run ${op}: ${Tq} queries meet ${Tk} keys, both must be at least 1`);
  const device = q.tensor.device;
  const vec = D % 4 === 0;
  const sizes = { D, heads: B * H, Tq, Tk };
  const { rows, slices, kv, overrides, enables, flags } = launch(device, "attention", sizes);
  const variant: Variant = {
    flags: { enables: enables.map((name) => `enable ${name};`).join(" "), vec, X: "f32", ...flags },
    overrides,
  };
  const drawn = dropout?.seed ?? 0;
  const seed = typeof drawn === "function" ? drawn() : drawn;
  const dims = {
    B,
    H,
    Tq,
    Tk,
    D,
    quads: vec || flags.tiled ? Math.ceil(D / 4) : D,
    qRow,
    qStart: q.start,
    kRow,
    kStart: key.start,
    vRow: kRow,
    vStart: value.start,
    hasMask: mask ? 1 : 0,
    scale: options.scale ?? 1 / Math.sqrt(D),
    seed,
    ...dropping(dropout?.rate ?? 0),
  };
  if (typeof drawn === "function") varies(device, dims, { seed: drawn });
  const y = Tensor.empty(device, [B, Tq, C]);
  const lse = Tensor.empty(device, [B, H, Tq]);
  const given = { q: q.tensor, k: key.tensor, v: value.tensor, mask: mask ?? unread(q.tensor) };
  const queries = [Math.ceil(Tq / rows), H * slices, B] as const;
  k.run("forward", { ...given, o: y, lse }, dims, queries, variant);
  if (dropout) noteSeed(device, op, seed);
  const packed = q.tensor === key.tensor;
  const inputs = packed ? [q.tensor] : [q.tensor, key.tensor];
  record(op, inputs, y, [...inputs, y, lse, ...(mask ? [mask] : [])], (dO) => {
    const delta = Tensor.empty(device, [B, H, Tq]);
    k.run("backward_delta", { savedO: y, dO, delta }, dims, [queries[0], H, B], variant);
    const saved = { ...given, savedLse: lse, savedDelta: delta, dO };
    const dq = q.tensor.like();
    const dkv = packed ? dq : key.tensor.like();
    k.run("backward_q", { ...saved, dq }, dims, queries, variant);
    k.run("backward_kv", { ...saved, dkv }, dims, [Math.ceil(Tk / rows), H * slices, kv * B], variant);
    return packed ? [dq] : [dq, dkv];
  });
  return {
    y,
    probabilities: () => {
      const p = Tensor.empty(device, [B, H, Tq, Tk]);
      const { q: queriesTensor, k: keys, mask: m } = given;
      k.run(
        "probabilities",
        { q: queriesTensor, k: keys, mask: m, savedLse: lse, p },
        dims,
        [Math.ceil(Tk / rows), flags.tiled ? queries[0] : Tq, B * H],
        variant,
      );
      const reason = "the probabilities are for show; attentionProbabilities() has a gradient";
      return record(
        "attention.probabilities",
        inputs,
        p,
        [],
        notDifferentiable("attention.probabilities", reason),
      );
    },
  };
}

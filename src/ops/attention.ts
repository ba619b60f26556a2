/** Fused attention over packed projections: the twin of kernels/attention.wgsl. */
import { checkOptions } from "../io/checks.ts";
import { redrawn, varies } from "../gpu/capture.ts";
import type { Costed } from "../gpu/cost.ts";
import { twin, type Variant } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape, showShape } from "../tensor/shape.ts";
import { notDifferentiable, noteSeed, record } from "../tensor/tape.ts";
import { checkFloat, elementFlags, Tensor, unread } from "../tensor/tensor.ts";
import { backwardByProducts, type Slice } from "./attention_products.ts";
import { cast } from "./convert.ts";
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
  // −, exp, keep, · and + into the sum; keep, −, · and · for ds. Whole quads of keys, read and written twice.
  backward_scores: ({ dims: { B, H, Tk, quads, hasMask, dropBelow, count }, bytes }) => {
    const rows = B * H * count;
    const mask = hasMask ? bytes("mask") : 0;
    return {
      shape: { B, H, Tq: count, Tk },
      flops: (7 + (dropBelow ? 3 : 0)) * rows * Tk,
      bytes: 4 * rows * (4 * 4 * quads + 1) + mask,
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

/**
 * Self-attention.   qkv (B, T, 3·C) f32 or f16, each row q, k, v one after the other   →   y (B, T, C) of its dtype
 */
export function selfAttention(qkv: Tensor, options: AttentionOptions): Tensor {
  return runSelf(qkv, options).y;
}

/**
 * Cross-attention.   q (B, Tq, C) f32 or f16   kv (B, Tk, 2·C) alike, each row k, then v   →   y (B, Tq, C) of their dtype
 */
export function crossAttention(q: Tensor, kv: Tensor, options: AttentionOptions): Tensor {
  return runCross(q, kv, options).y;
}

/** Self-attention and its probabilities (B, H, T, T), for those who compare them: these have no gradient. */
export function selfAttentionWithProbabilities(
  qkv: Tensor,
  options: AttentionOptions,
): { y: Tensor; probabilities: Tensor } {
  return shown(runSelf(qkv, options));
}

/** Cross-attention and its probabilities (B, H, Tq, Tk), which have no gradient. */
export function crossAttentionWithProbabilities(
  q: Tensor,
  kv: Tensor,
  options: AttentionOptions,
): { y: Tensor; probabilities: Tensor } {
  return shown(runCross(q, kv, options));
}

const shown = ({ y, probabilities }: Attended) => ({ y, probabilities: probabilities() });

function runSelf(qkv: Tensor, options: AttentionOptions): Attended {
  checkShape("selfAttention", "qkv", qkv.shape, [-1, -1, -1]);
  const C = qkv.shape[2] / 3;
  if (!Number.isInteger(C))
    throw new RangeError(
      `Cannot run selfAttention: qkv is ${showShape(qkv.shape)} but its last axis should be q, k and v of one width`,
    );
  const at = (start: number) => ({ tensor: qkv, start });
  return run("selfAttention", C, at(0), at(C), at(2 * C), options);
}

function runCross(q: Tensor, kv: Tensor, options: AttentionOptions): Attended {
  checkShape("crossAttention", "q", q.shape, [-1, -1, -1]);
  const [B, , C] = q.shape;
  checkShape("crossAttention", "kv", kv.shape, [B, -1, 2 * C]);
  const at = (tensor: Tensor, start: number) => ({ tensor, start });
  return run("crossAttention", C, at(q, 0), at(kv, 0), at(kv, C), options);
}

interface Attended {
  readonly y: Tensor;
  readonly probabilities: () => Tensor;
}

/** By f32 copies of q, k and v: of the two bodies the one without tiles adds up in what it stores. */
function inFull(op: string, C: number, q: Slice, key: Slice, value: Slice, options: AttentionOptions) {
  const tensor = cast(q.tensor, "f32");
  const other = key.tensor === q.tensor ? tensor : cast(key.tensor, "f32");
  const slices = [
    { ...q, tensor },
    { ...key, tensor: other },
    { ...value, tensor: other },
  ] as const;
  const { y, probabilities } = run(op, C, ...slices, options);
  return { y: cast(y, "f16"), probabilities };
}

function run(op: string, C: number, q: Slice, key: Slice, value: Slice, options: AttentionOptions): Attended {
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
  const packed = q.tensor === key.tensor;
  checkFloat(op, packed ? { qkv: q.tensor } : { q: q.tensor, kv: key.tensor });
  const { device } = q.tensor;
  const { X } = elementFlags(q.tensor);
  const vec = D % 4 === 0;
  const sizes = { D, heads: B * H, Tq, Tk };
  const { rows, slices, kv, overrides, enables, flags } = launch(device, "attention", sizes);
  if (X === "f16" && !flags.tiled) return inFull(op, C, q, key, value, options);
  const variant: Variant = {
    flags: {
      enables: [...enables, ...(X === "f16" ? ["f16"] : [])].map((e) => `enable ${e};`).join(" "),
      vec,
      X,
      ...flags,
    },
    overrides,
  };
  const drawn = dropout?.seed ?? 0;
  // One number for all dispatches, also of a replay.
  const draw = typeof drawn === "function" ? redrawn(device, drawn) : () => drawn;
  const vary = (sized: Readonly<Record<string, number>>) => {
    if (typeof drawn === "function") varies(device, sized, { seed: draw });
  };
  const seed = draw();
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
    ...{ first: 0, count: Tq },
  };
  vary(dims);
  const y = Tensor.empty(device, [B, Tq, C], X);
  const lse = Tensor.empty(device, [B, H, Tq]);
  const given = { q: q.tensor, k: key.tensor, v: value.tensor, mask: mask ?? unread(q.tensor) };
  const queries = [Math.ceil(Tq / rows), H * slices, B] as const;
  k.run("forward", { ...given, o: y, lse }, dims, queries, variant);
  if (dropout) noteSeed(device, op, seed);
  const inputs = packed ? [q.tensor] : [q.tensor, key.tensor];
  const saved = [...inputs, ...(flags.tiled ? [y] : []), lse, ...(mask ? [mask] : [])];
  record(op, inputs, y, saved, (dO) => {
    const dq = q.tensor.like(q.tensor.shape, X);
    const dkv = packed ? dq : key.tensor.like(key.tensor.shape, X);
    if (!flags.tiled) {
      const [dk, dv] = [key, value].map((each) => ({ ...each, tensor: dkv }));
      const heads = { q, k: key, v: value, dims };
      backwardByProducts(heads, dO, { dq: { ...q, tensor: dq }, dk, dv }, (scores, dP, first, count) => {
        const some = { ...dims, quads: scores.shape[3] / 4, first, count };
        vary(some);
        const bound = { scores, dP, mask: given.mask, savedLse: lse };
        k.run("backward_scores", bound, some, [Math.ceil(count / rows), H, B], variant);
      });
      return packed ? [dq] : [dq, dkv];
    }
    const delta = Tensor.empty(device, [B, H, Tq]);
    k.run("backward_delta", { savedO: y, dO, delta }, dims, [queries[0], H, B], variant);
    const bound = { ...given, savedLse: lse, savedDelta: delta, dO };
    k.run("backward_q", { ...bound, dq }, dims, queries, variant);
    k.run("backward_kv", { ...bound, dkv }, dims, [Math.ceil(Tk / rows), H * slices, kv * B], variant);
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

import {
  type AttentionOptions,
  crossAttention,
  crossAttentionWithProbabilities,
  selfAttention,
  selfAttentionWithProbabilities,
} from "../ops/attention.ts";
import { reshape } from "../ops/elementwise.ts";
import { concat } from "../ops/frames.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type Array64, kept, type Numbers } from "./float64.ts";
import { type Arrays, type BenchSpec, defineOp, inHalf, type InputSpec, type SampleSpec } from "./op_info.ts";
import type { StoredCall } from "./stored.ts";

type Arguments = Omit<AttentionOptions, "mask">;

interface Sizes {
  readonly B: number;
  readonly H: number;
  readonly Tq: number;
  readonly Tk: number;
  readonly D: number;
}

/** q (B, Tq, H·D), k and v (B, Tk, H·D), dy as the output. All keys masked: all weigh the same, as in transformers. */
function attend(
  [q, k, v]: readonly Numbers[],
  dy: Numbers,
  { B, H, Tq, Tk, D }: Sizes,
  args: Arguments,
  mask?: Numbers,
) {
  const { scale = 1 / Math.sqrt(D), dropout = { rate: 0, seed: 0 } } = args;
  const C = H * D;
  const y = new Float64Array(B * Tq * C);
  const p = new Float64Array(B * H * Tq * Tk);
  const [dq, dk, dv] = [q, k, v].map((x) => new Float64Array(x.length));
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let i = 0; i < Tq; i++) {
        const qAt = (b * Tq + i) * C + h * D;
        const kAt = (j: number) => (b * Tk + j) * C + h * D;
        const pAt = ((b * H + h) * Tq + i) * Tk;
        const scores = Array.from({ length: Tk }, (_, j) => {
          if (mask && !mask[b * Tk + j]) return -Number.MAX_VALUE;
          let s = 0;
          for (let e = 0; e < D; e++) s += q[qAt + e] * k[kAt(j) + e];
          return s * scale;
        });
        const most = Math.max(...scores);
        const raised = scores.map((s) => Math.exp(s - most));
        const total = raised.reduce((x, e) => x + e, 0);
        const weights = raised.map((e) => e / total);
        const dWeights = weights.map((weight, j) => {
          p[pAt + j] = weight;
          const keep = kept(dropout.rate, dropout.seed as number, pAt + j);
          let along = 0;
          for (let e = 0; e < D; e++) {
            y[qAt + e] += weight * keep * v[kAt(j) + e];
            dv[kAt(j) + e] += weight * keep * dy[qAt + e];
            along += keep * v[kAt(j) + e] * dy[qAt + e];
          }
          return along;
        });
        const mean = dWeights.reduce((x, d, j) => x + d * weights[j], 0);
        for (let j = 0; j < Tk; j++) {
          const ds = weights[j] * (dWeights[j] - mean) * scale;
          for (let e = 0; e < D; e++) {
            dq[qAt + e] += ds * k[kAt(j) + e];
            dk[kAt(j) + e] += ds * q[qAt + e];
          }
        }
      }
  return { y, p, dq, dk, dv };
}

/** Part `n` of rows that hold several of width C. */
function part({ data, shape }: Array64, C: number, n: number): Float64Array {
  const row = shape[2];
  return data.filter((_, i) => Math.floor((i % row) / C) === n);
}

/** The parts' rows one after the other. */
function pack(parts: readonly Float64Array[], C: number): Float64Array {
  const row = parts.length * C;
  return Float64Array.from(
    { length: parts[0].length * parts.length },
    (_, i) => parts[Math.floor((i % row) / C)][Math.floor(i / row) * C + (i % C)],
  );
}

function self({ qkv, mask }: Arrays, args: Arguments, dy: Numbers = []) {
  const [B, T, row] = qkv.shape;
  const C = row / 3;
  const sizes = { B, H: args.heads, Tq: T, Tk: T, D: C / args.heads };
  const parts = [0, 1, 2].map((n) => part(qkv, C, n));
  const r = attend(parts, dy, sizes, args, mask?.data);
  return {
    y: { shape: [B, T, C], data: r.y },
    probabilities: { shape: [B, args.heads, T, T], data: r.p },
    gradients: { qkv: pack([r.dq, r.dk, r.dv], C) },
  };
}

function cross({ q, kv, mask }: Arrays, args: Arguments, dy: Numbers = []) {
  const [B, Tq, C] = q.shape;
  const Tk = kv.shape[1];
  const sizes = { B, H: args.heads, Tq, Tk, D: C / args.heads };
  const r = attend([q.data, part(kv, C, 0), part(kv, C, 1)], dy, sizes, args, mask?.data);
  return {
    y: { shape: q.shape, data: r.y },
    probabilities: { shape: [B, args.heads, Tq, Tk], data: r.p },
    gradients: { q: r.dq, kv: pack([r.dk, r.dv], C) },
  };
}

const keys = (B: number, T: number, open: (b: number, t: number) => boolean): InputSpec => ({
  ...{ shape: [B, T], dtype: "u32" },
  fill: (_, i) => (open(Math.floor(i / T), i % T) ? 1 : 0),
});
/** Sample 0 whole, the others ever shorter, with a hole in each. */
const holes = (B: number, T: number) => keys(B, T, (b, t) => t < T - 2 * b && t !== b + 1);

type Case = Omit<SampleSpec<Arguments>, "inputs" | "args"> & {
  readonly mask?: InputSpec;
  readonly args?: Omit<Arguments, "heads">;
};

/** Queries and keys times `spread`. */
const selfCase = (B: number, T: number, heads: number, D: number, c: Case = {}, spread = 1) => {
  const { mask, args, ...rest } = c;
  const row = 3 * heads * D;
  const fill = (v: number, i: number) => (i % row < 2 * heads * D ? spread * v : v);
  return {
    inputs: { qkv: { shape: [B, T, row], fill }, ...(mask && { mask }) },
    args: { heads, ...args },
    ...rest,
  };
};

const crossCase = (B: number, Tq: number, Tk: number, heads: number, D: number, c: Case = {}) => {
  const { mask, args, ...rest } = c;
  return {
    inputs: { q: [B, Tq, heads * D], kv: [B, Tk, 2 * heads * D], ...(mask && { mask }) },
    args: { heads, ...args },
    ...rest,
  };
};

const dropped = (rate: number, seed: number): Case => ({
  args: { dropout: { rate, seed } },
  name: "dropout",
});

/** Forward: two products of T × T × C; a backward has five of them. */
const model = (name: string, T: number, heads: number, D: number): BenchSpec<Arguments> => ({
  ...{ name, inputs: { qkv: [1, T, 3 * heads * D] }, args: { heads } },
  ...{ flop: 4 * T * T * heads * D, trainingFlop: 14 * T * T * heads * D },
});

/** Every head is a sample of its own with one head. */
const stored: StoredCall = {
  op: /^softmax\(q k\^T/,
  run: (i) => {
    const [B, H, Tq, D] = i.tensor("q").shape;
    const Tk = i.tensor("k").shape[2];
    const split = (t: Tensor, T: number) => reshape(t, [B * H, T, D]);
    const { values } = i.integers("key_mask");
    const mask = Tensor.from(
      i.device,
      Uint32Array.from({ length: B * H * Tk }, (_, n) => values[Math.floor(n / (H * Tk)) * Tk + (n % Tk)]),
      [B * H, Tk],
    );
    const q = split(i.tensor("q"), Tq);
    const kv = concat([split(i.tensor("k"), Tk), split(i.tensor("v"), Tk)]);
    const options = { heads: 1, mask, scale: i.number("scale", 1 / Math.sqrt(D)) };
    const y = reshape(crossAttention(q, kv, options), [B, H, Tq, D]);
    const probs = noGrad(i.device, () =>
      crossAttentionWithProbabilities(q, kv, options).probabilities.reshaped([B, H, Tq, Tk]),
    );
    return { out: y, probs };
  },
};

export const records = [
  defineOp<Arguments>({
    name: "selfAttention",
    gradientTolerance: 5e-6,
    run: ({ qkv, mask }, args) => selfAttention(qkv, { ...args, mask }),
    reference: (inputs, args) => self(inputs, args).y,
    gradients: (inputs, args, dy) => self(inputs, args, dy).gradients,
    samples: [
      selfCase(3, 33, 2, 20, { mask: holes(3, 33) }),
      selfCase(1, 1, 1, 1),
      selfCase(1, 1, 1, 4),
      selfCase(2, 7, 3, 7),
      selfCase(1, 17, 2, 16),
      selfCase(1, 129, 1, 64),
      selfCase(1, 149, 2, 64, { mask: holes(1, 149) }),
      selfCase(2, 65, 2, 16, { mask: holes(2, 65), ...dropped(0.3, 77) }),
      // More scores than a backward by products takes at a time.
      selfCase(1, 598, 12, 4, { mask: holes(1, 598), ...dropped(0.3, 77), differences: false }),
      selfCase(1, 5, 1, 128),
      selfCase(3, 19, 2, 8, {
        mask: keys(3, 19, (b, t) => b !== 1 && t !== 2),
        name: "a sample without keys",
        differences: false, // as PyTorch's, the gradient of its uniform rows is that of a softmax
      }),
      // Scores are products of two values near ±100; neighbours differ by far more than f32 rounds.
      selfCase(
        2,
        20,
        2,
        4,
        {
          ...{ mask: holes(2, 20), args: { scale: 1 }, name: "scores of ±1e4" },
          ...{ tolerance: 1e-5, gradientTolerance: 2e-3, step: 1e-6 },
        },
        70,
      ),
      inHalf(selfCase(2, 33, 2, 20, { mask: holes(2, 33) }), ["qkv"]),
      selfCase(1, 70, 16, 4),
      selfCase(1, 70, 2, 16, { mask: keys(1, 70, (_, t) => t >= 40), name: "the first tile masked" }),
      selfCase(2, 40, 1, 80, {
        mask: keys(2, 40, (b, t) => b === 1 && t !== 2),
        name: "a sample without keys, in two tiles",
        differences: false,
      }),
      selfCase(2, 9, 2, 8, dropped(0.3, 12345)),
      selfCase(2, 9, 2, 7, { mask: holes(2, 9), ...dropped(0.3, 12345) }),
      selfCase(1, 6, 1, 4, dropped(0.3, 9)),
    ],
    bench: [
      model("BERT-base", 128, 12, 64),
      model("HuBERT-large, 3 s", 149, 16, 64),
      model("CmGI, one head", 149, 1, 768),
    ],
    stored: [stored],
  }),
  defineOp<Arguments>({
    name: "crossAttention",
    gradientTolerance: 5e-6,
    run: ({ q, kv, mask }, args) => crossAttention(q, kv, { ...args, mask }),
    reference: (inputs, args) => cross(inputs, args).y,
    gradients: (inputs, args, dy) => cross(inputs, args, dy).gradients,
    samples: [
      crossCase(3, 17, 7, 1, 80, { mask: holes(3, 7) }),
      crossCase(2, 1, 149, 2, 16),
      crossCase(2, 5, 1, 2, 8),
      crossCase(1, 149, 1, 4, 7),
      crossCase(2, 7, 65, 2, 4),
      crossCase(2, 7, 33, 1, 1, { mask: holes(2, 33) }),
      crossCase(1, 19, 9, 1, 768),
      crossCase(2, 3, 18, 1, 1024, { mask: holes(2, 18) }),
      crossCase(2, 9, 21, 2, 8, dropped(0.3, 12345)),
      crossCase(1, 64, 32, 2, 16),
      crossCase(2, 33, 70, 1, 144, { mask: holes(2, 70), ...dropped(0.2, 5) }),
      inHalf(crossCase(2, 17, 40, 2, 7, { mask: holes(2, 40), ...dropped(0.3, 77) }), ["q", "kv"]),
    ],
    bench: [
      {
        ...{ name: "CmGI", inputs: { q: [1, 149, 768], kv: [1, 40, 1536] }, args: { heads: 1 } },
        ...{ flop: 4 * 149 * 40 * 768, trainingFlop: 14 * 149 * 40 * 768 },
      },
    ],
  }),
  defineOp<Arguments>({
    name: "selfAttentionWithProbabilities",
    differentiable: false,
    run: ({ qkv, mask }, args) => selfAttentionWithProbabilities(qkv, { ...args, mask }).probabilities,
    reference: (inputs, args) => self(inputs, args).probabilities,
    samples: [selfCase(2, 17, 2, 7, { mask: holes(2, 17) })],
    bench: [{ inputs: { qkv: [1, 128, 2304] }, args: { heads: 12 } }],
  }),
  defineOp<Arguments>({
    name: "crossAttentionWithProbabilities",
    differentiable: false,
    run: ({ q, kv, mask }, args) => crossAttentionWithProbabilities(q, kv, { ...args, mask }).probabilities,
    reference: (inputs, args) => cross(inputs, args).probabilities,
    samples: [
      crossCase(2, 5, 21, 1, 16, {
        mask: keys(2, 21, (b, t) => b === 1 && t !== 1),
        name: "a sample without keys",
      }),
    ],
    bench: [{ inputs: { q: [1, 149, 768], kv: [1, 40, 1536] }, args: { heads: 1 } }],
  }),
];

import { reshape } from "../ops/elementwise.ts";
import { concat } from "../ops/frames.ts";
import { lstm } from "../ops/lstm.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Array64, sigmoid } from "./float64.ts";
import { type Arrays, defineOp, type InputSpec, type SampleSpec, type Tensors } from "./op_info.ts";

interface Arguments {
  readonly lengths?: readonly number[];
  readonly reverse?: boolean;
}

const none = (size: number): Array64 => ({ shape: [size], data: new Float64Array(size) });

/** Sizes, and what is left out as zeros. */
function parts({ x, weightIh, weightHh, biasIh, biasHh, h, c }: Arrays) {
  const [B, T, K] = x.shape;
  const [N, H] = weightHh.shape;
  const D = N / (4 * H);
  const bias = Float64Array.from({ length: N }, (_, n) => (biasIh?.data[n] ?? 0) + (biasHh?.data[n] ?? 0));
  const [h0, c0] = [h ?? none(D * B * H), c ?? none(D * B * H)];
  return {
    B,
    T,
    K,
    N,
    H,
    D,
    bias,
    x: x.data,
    wi: weightIh.data,
    wh: weightHh.data,
    h0: h0.data,
    c0: c0.data,
  };
}

/** The step of one sample in one direction, with what the way back needs. */
interface Step {
  readonly t: number;
  readonly before: { readonly h: readonly number[]; readonly c: readonly number[] };
  /** i, f, g and o of every unit. */
  readonly gates: readonly (readonly number[])[];
  readonly c: readonly number[];
  readonly h: readonly number[];
}

/** All steps of sample b in direction d, one frame after the other. */
function walk(inputs: Arrays, { lengths, reverse }: Arguments, b: number, d: number): Step[] {
  const { B, T, K, H, D, bias, x, wi, wh, h0, c0 } = parts(inputs);
  const length = lengths?.[b] ?? T;
  const own = (data: Float64Array) => [...data.subarray((d * B + b) * H, (d * B + b + 1) * H)];
  let [h, c] = [own(h0), own(c0)];
  const steps: Step[] = [];
  for (let s = 0; s < length; s++) {
    const t = d === 1 || (D === 1 && reverse) ? length - 1 - s : s;
    const before = { h, c };
    const sums = Array.from({ length: 4 * H }, (_, j) => {
      const n = d * 4 * H + j;
      let sum = bias[n];
      for (let k = 0; k < K; k++) sum += x[(b * T + t) * K + k] * wi[n * K + k];
      for (let k = 0; k < H; k++) sum += before.h[k] * wh[n * H + k];
      return sum;
    });
    const gates = [0, 1, 2, 3].map((g) =>
      sums.slice(g * H, (g + 1) * H).map((v) => (g === 2 ? Math.tanh(v) : sigmoid(v))),
    );
    const [i, f, g, o] = gates;
    c = before.c.map((v, j) => f[j] * v + i[j] * g[j]);
    h = c.map((v, j) => o[j] * Math.tanh(v));
    steps.push({ t, before, gates, c, h });
  }
  return steps;
}

/** y, h and c one after the other: (1, B·T·D·H + 2·D·B·H). */
function reference(inputs: Arrays, args: Arguments): Array64 {
  const { B, T, H, D } = parts(inputs);
  const state = D * B * H;
  const data = new Float64Array(B * T * D * H + 2 * state);
  for (let d = 0; d < D; d++)
    for (let b = 0; b < B; b++) {
      const steps = walk(inputs, args, b, d);
      for (const { t, h } of steps) data.set(h, ((b * T + t) * D + d) * H);
      const last = steps[steps.length - 1];
      const end = B * T * D * H + (d * B + b) * H;
      data.set(last.h, end);
      data.set(last.c, end + state);
    }
  return { shape: [1, data.length], data };
}

/** Backpropagation through time. */
function gradients(inputs: Arrays, args: Arguments, dout: Float64Array) {
  const { B, T, K, N, H, D, x, wi, wh } = parts(inputs);
  const state = D * B * H;
  const dx = new Float64Array(x.length);
  const dwi = new Float64Array(wi.length);
  const dwh = new Float64Array(wh.length);
  const dbias = new Float64Array(N);
  const [dh0, dc0] = [new Float64Array(state), new Float64Array(state)];
  for (let d = 0; d < D; d++)
    for (let b = 0; b < B; b++) {
      const end = B * T * D * H + (d * B + b) * H;
      let dh = [...dout.subarray(end, end + H)];
      let dc = [...dout.subarray(end + state, end + state + H)];
      for (const { t, before, gates, c } of walk(inputs, args, b, d).toReversed()) {
        const [i, f, g, o] = gates;
        const all = dh.map((v, j) => v + dout[((b * T + t) * D + d) * H + j]);
        const dcAll = all.map((v, j) => dc[j] + v * o[j] * (1 - Math.tanh(c[j]) ** 2));
        const sums = [
          dcAll.map((v, j) => v * g[j] * i[j] * (1 - i[j])),
          dcAll.map((v, j) => v * before.c[j] * f[j] * (1 - f[j])),
          dcAll.map((v, j) => v * i[j] * (1 - g[j] ** 2)),
          all.map((v, j) => v * Math.tanh(c[j]) * o[j] * (1 - o[j])),
        ].flat();
        dc = dcAll.map((v, j) => v * f[j]);
        dh = before.h.map(() => 0);
        for (const [j, v] of sums.entries()) {
          const n = d * 4 * H + j;
          dbias[n] += v;
          for (let k = 0; k < K; k++) {
            dx[(b * T + t) * K + k] += v * wi[n * K + k];
            dwi[n * K + k] += v * x[(b * T + t) * K + k];
          }
          for (let k = 0; k < H; k++) {
            dh[k] += v * wh[n * H + k];
            dwh[n * H + k] += v * before.h[k];
          }
        }
      }
      dh0.set(dh, (d * B + b) * H);
      dc0.set(dc, (d * B + b) * H);
    }
  return { x: dx, weightIh: dwi, weightHh: dwh, biasIh: dbias, biasHh: dbias, h: dh0, c: dc0 };
}

const flat = (...tensors: Tensor[]) => concat(tensors.map((t) => reshape(t, [1, t.size])));

function run({ x, weightIh, weightHh, biasIh, biasHh, h, c }: Tensors, args: Arguments): Tensor {
  const out = lstm(x, { weightIh, weightHh, biasIh, biasHh }, { ...args, state: h && { h, c } });
  return flat(out.y, out.h, out.c);
}

type Sizes = { B: number; T: number; K: number; H: number; D?: number };

const weight = (shape: number[]): InputSpec => ({ shape, fill: (v) => (1.5 * v) / Math.sqrt(shape[1]) });

/** Inputs of a layer, with a state and biases unless they are left out. */
const inputsOf = (
  { B, T, K, H, D = 1 }: Sizes,
  { state = true, biases = true } = {},
): SampleSpec<Arguments>["inputs"] => ({
  ...{ x: [B, T, K], weightIh: weight([D * 4 * H, K]), weightHh: weight([D * 4 * H, H]) },
  ...(biases && { biasIh: [D * 4 * H], biasHh: [D * 4 * H] }),
  ...(state && { h: [D, B, H], c: [D, B, H] }),
});

export const records = [
  defineOp<Arguments>({
    name: "lstm",
    run,
    reference,
    gradients,
    samples: [
      { inputs: inputsOf({ B: 3, T: 7, K: 5, H: 9, D: 2 }), args: { lengths: [7, 2, 5] }, name: "ragged" },
      {
        inputs: inputsOf({ B: 5, T: 6, K: 8, H: 20 }),
        args: { lengths: [1, 4, 2, 5, 3] },
        name: "shorter than T",
      },
      { inputs: inputsOf({ B: 2, T: 4, K: 3, H: 12 }), args: { reverse: true, lengths: [3, 4] } },
      { inputs: inputsOf({ B: 9, T: 3, K: 4, H: 68, D: 2 }, { state: false }), name: "no state" },
      { inputs: inputsOf({ B: 1, T: 1, K: 6, H: 8 }), name: "one step of one sample" },
      { inputs: inputsOf({ B: 4, T: 1, K: 6, H: 7 }, { biases: false }), name: "one step, no bias" },
      { inputs: inputsOf({ B: 2, T: 2, K: 70, H: 132 }), name: "more units than a tile" },
    ],
    bench: [
      {
        inputs: inputsOf({ B: 4, T: 100, K: 64, H: 128, D: 2 }, { state: false }),
        flop: 2 * 4 * 100 * 8 * 128 * (64 + 128),
        name: "two directions",
      },
    ],
  }),
];

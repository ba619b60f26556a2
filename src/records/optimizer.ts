import { type AdamStep, adamStep, clipNorm, clipped, sgdStep } from "../ops/optimizer.ts";
import { array64, map } from "./float64.ts";
import { type Arrays, defineOp, type InputSpec } from "./op_info.ts";

/** [scale, norm, 1 if all finite], as clipNorm() gives it. */
const clip: InputSpec = { shape: [3], fill: (_, i) => [0.5, 2, 1][i] };
const positive = (shape: readonly number[]): InputSpec => ({ shape, fill: (v) => v * v });
const state = (shape: readonly number[]) => ({ p: shape, g: shape, m: shape, v: positive(shape), clip });

const rule = { rate: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, decay: 0.1 };
const sgd = { rate: 0.1, momentum: 0.9, decay: 0.01 };

const shapes = [[1023], [1], [17], [257, 513]];

export const records = [
  defineOp<AdamStep>({
    name: "adamStep",
    tolerance: 1e-6,
    differentiable: false,
    run: ({ p, g, m, v, clip }, args) => {
      adamStep(p, g, m, v, clip, args);
      return p;
    },
    reference: ({ p, g, m, v, clip }: Arrays, { rate, beta1, beta2, eps, decay, step, decoupled }) =>
      map(p, (w, i) => {
        const d = g.data[i] * clip.data[0] + (decoupled ? 0 : decay * w);
        const mean = (beta1 * m.data[i] + (1 - beta1) * d) / (1 - beta1 ** step);
        const square = (beta2 * v.data[i] + (1 - beta2) * d * d) / (1 - beta2 ** step);
        return w * (decoupled ? 1 - rate * decay : 1) - (rate * mean) / (Math.sqrt(square) + eps);
      }),
    samples: [true, false].flatMap((decoupled) =>
      shapes.map((shape) => ({ inputs: state(shape), args: { ...rule, decoupled, step: 3 } })),
    ),
    bench: [{ inputs: state([3072, 768]), args: { ...rule, decoupled: true, step: 3 } }],
  }),
  defineOp<{ rate: number; momentum: number; decay: number; step: number }>({
    name: "sgdStep",
    tolerance: 1e-6,
    differentiable: false,
    run: ({ p, g, m, clip }, args) => {
      sgdStep(p, g, m, clip, args);
      return p;
    },
    reference: ({ p, g, m, clip }, { rate, momentum, decay, step }) =>
      map(p, (w, i) => {
        const d = g.data[i] * clip.data[0] + decay * w;
        return w - rate * (step === 1 ? d : momentum * m.data[i] + d);
      }),
    samples: [1, 2].flatMap((step) =>
      shapes.map((shape) => ({ inputs: { p: shape, g: shape, m: shape, clip }, args: { ...sgd, step } })),
    ),
    bench: [{ inputs: { p: [3072, 768], g: [3072, 768], m: [3072, 768], clip }, args: { ...sgd, step: 2 } }],
  }),
  defineOp({
    name: "clipped",
    tolerance: 0,
    differentiable: false,
    run: ({ gradient, clip }) => clipped(gradient, clip),
    reference: ({ gradient, clip }) => map(gradient, (v) => v * clip.data[0]),
    samples: shapes.map((shape) => ({ inputs: { gradient: shape, clip } })),
    bench: [{ inputs: { gradient: [3072, 768], clip } }],
  }),
  defineOp<{ maxNorm?: number; unscale?: number }>({
    name: "clipNorm",
    tolerance: 1e-6,
    differentiable: false,
    run: (gradients, { maxNorm, unscale }, device) =>
      clipNorm(device, Object.values(gradients), maxNorm, unscale),
    reference: (gradients, { maxNorm = Number.POSITIVE_INFINITY, unscale = 1 }) => {
      const squares = Object.values(gradients).map(({ data }) => data.reduce((sum, v) => sum + v * v, 0));
      const norm = unscale * Math.sqrt(squares.reduce((a, b) => a + b, 0));
      return array64([3], (i) => [Math.min(1, maxNorm / (norm + 1e-6)) * unscale, norm, 1][i]);
    },
    samples: [
      { inputs: { a: [1001], b: [7] }, args: { maxNorm: 2 } },
      { inputs: { a: [1001], b: [7] } },
      { inputs: { a: [1001], b: [7] }, args: { maxNorm: 2, unscale: 0.25 } },
      { inputs: { a: [50_001] } },
      { inputs: { a: [257, 513], b: [5] } },
    ],
    bench: [{ inputs: { a: [3072, 768], b: [768, 3072] }, args: { maxNorm: 1 } }],
  }),
];

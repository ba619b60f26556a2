import type { ActivationKind } from "../ops/activation.ts";
import { full, reshape } from "../ops/elementwise.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { activations, normalise } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type SampleSpec } from "./op_info.ts";

interface Arguments {
  readonly eps: number;
  readonly activation?: ActivationKind;
}

function norm({ x, w, b }: Arrays, eps: number, dy: Float64Array) {
  const C = w.data.length;
  return normalise(x.data, w.data, b.data, dy, { B: x.data.length / C, T: 1, C, G: 1, eps });
}

/** What the activation is given. */
const inside = (inputs: Arrays, eps: number) => norm(inputs, eps, new Float64Array(inputs.x.data.length)).y;

const sample = (
  shape: readonly number[],
  args: Arguments,
  fill: (v: number, i: number) => number = (v) => v,
  more: Omit<SampleSpec<Arguments>, "inputs" | "args"> = {},
) => {
  const C = shape.at(-1) ?? 1;
  return { inputs: { x: { shape, fill }, w: [C], b: [C] }, args, ...more };
};

const outlier = (N: number, C: number, first: number) =>
  sample([N, C], { eps: 1e-5 }, (v, i) => v + (i % C === 0 ? first : 0), {
    ...{ name: `rows begin with an outlier of ${first}`, tolerance: 2e-7, gradientTolerance: 2e-6 },
  });

const frames = { x: [3199, 512], w: [512], b: [512] };

export const records = [
  defineOp<Arguments>({
    name: "layerNorm",
    run: ({ x, w, b }, { eps, activation }) => layerNorm(x, w, b, eps, activation),
    reference: (inputs, { eps, activation }) => {
      const y = inside(inputs, eps);
      return { shape: inputs.x.shape, data: activation ? y.map(activations[activation].f) : y };
    },
    gradients: (inputs, { eps, activation }, dy) => {
      if (!activation) return norm(inputs, eps, dy).gradients;
      const { slope } = activations[activation];
      const d = inside(inputs, eps).map((v, i) => slope(v) * dy[i]);
      return norm(inputs, eps, d).gradients;
    },
    samples: [
      sample([7, 1023], { eps: 1e-5 }, (v) => v + 3),
      sample([1, 1], { eps: 1e-5 }),
      sample([1, 7], { eps: 1e-5 }),
      sample([7, 17], { eps: 1e-5 }),
      sample([2, 3, 5], { eps: 1e-5 }),
      sample([1023, 7], { eps: 1e-5 }),
      sample([300, 65], { eps: 1e-5 }),
      sample([3, 1023], { eps: 1e-12 }),
      sample([3, 1000], { eps: 1e-5 }),
      sample([7, 1024], { eps: 1e-5 }),
      sample([17, 768], { eps: 1e-12 }),
      sample([259, 12], { eps: 1e-5 }),
      sample([9, 65], { eps: 1e-12 }, (v) => v + 1e4, { name: "a mean of 1e4" }),
      sample([9, 64], { eps: 1e-12 }, (v) => v + 1e4, { name: "a mean of 1e4" }),
      sample([5, 20], { eps: 1e-5, activation: "gelu" }),
      sample([5, 21], { eps: 1e-5, activation: "tanh" }),
      sample([3, 1280], { eps: 1e-5 }, (v) => v + 3, { name: "more than a GPU's thread holds" }),
      inHalf(
        sample([7, 768], { eps: 1e-5 }, (v) => v + 3),
        ["x"],
      ),
      inHalf(
        sample([3, 1280], { eps: 1e-5 }, (v) => v + 3),
        ["x"],
      ),
      inHalf(sample([5, 21], { eps: 1e-5, activation: "gelu" }), ["x"]),
      outlier(200, 1023, 30),
      outlier(500, 768, 200),
    ],
    bench: [
      { inputs: frames, args: { eps: 1e-5 } },
      { inputs: frames, args: { eps: 1e-5, activation: "gelu" } },
    ],
    stored: [
      {
        op: /^layer_norm$/,
        run: (i) => ({ out: layerNorm(i.tensor("x"), i.tensor("w"), i.tensor("b"), i.number("eps")) }),
      },
      {
        // Population variance, eps under the root: a layer norm over the whole utterance.
        op: /^\(x-mean\)\/sqrt\(population var/,
        run: (i) => {
          const x = i.tensor("x");
          const [w, b] = [full(i.device, [x.size], 1), full(i.device, [x.size], 0)];
          return { out: reshape(layerNorm(reshape(x, [1, x.size]), w, b, 1e-7), x.shape) };
        },
      },
    ],
  }),
];

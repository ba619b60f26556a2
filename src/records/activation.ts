import { type ActivationKind, activation, exp, gelu, log, relu, sigmoid, tanh } from "../ops/activation.ts";
import { activations, map } from "./float64.ts";
import { defineOp, inHalf, type OpSpec } from "./op_info.ts";

/** Enough for a GPU's threads to take several quads each, and no multiple of four. */
const MANY = [257, 513];

const kinds = Object.keys(activations) as ActivationKind[];
const wide = (v: number) => 2 * v;
const positive = (v: number) => Math.exp(2 * v);

/** What the one activation that an operator stands for has in common with all. */
const pointwise = (kind: ActivationKind): Pick<OpSpec<object>, "tolerance" | "reference" | "gradients"> => ({
  tolerance: 1e-6,
  reference: ({ x }) => map(x, activations[kind].f),
  gradients: ({ x }, _, dy) => ({ x: x.data.map((v, i) => activations[kind].slope(v) * dy[i]) }),
});

const alone = (name: string, run: typeof gelu, kind: ActivationKind) =>
  defineOp({
    name,
    ...pointwise(kind),
    kinks: kind === "relu" ? { x: [0] } : {},
    run: ({ x }) => run(x),
    samples: [
      ...[[3, 341], [1], [7], MANY].map((shape) => ({ inputs: { x: { shape, fill: wide } } })),
      inHalf({ inputs: { x: { shape: [7], fill: wide } } }),
    ],
    bench: [{ inputs: { x: [3199, 512] } }],
  });

export const records = [
  defineOp<{ kind: ActivationKind }>({
    name: "activation",
    tolerance: 1e-6,
    run: ({ x }, { kind }) => activation(x, kind),
    reference: ({ x }, { kind }) => pointwise(kind).reference({ x }, {}),
    gradients: ({ x }, { kind }, dy) => pointwise(kind).gradients?.({ x }, {}, dy) ?? {},
    kinks: { x: [0] }, // of relu
    samples: kinds.flatMap((kind) => [
      { inputs: { x: { shape: [33, 31], fill: wide } }, args: { kind } },
      { inputs: { x: { shape: [1], fill: wide } }, args: { kind } },
      { inputs: { x: { shape: [2, 3, 5], fill: wide } }, args: { kind } },
      inHalf({ inputs: { x: { shape: [33, 31], fill: wide } }, args: { kind } }),
    ]),
    bench: kinds.map((kind) => ({ inputs: { x: [3199, 512] }, args: { kind } })),
    stored: [
      {
        op: /^gelu$/,
        run: (i) => ({
          out: activation(
            i.tensor("x"),
            i.choice("approximate", ["none", "tanh"], "none") === "tanh" ? "gelu_tanh" : "gelu",
          ),
        }),
      },
      { op: /^sigmoid$/, run: (i) => ({ out: activation(i.tensor("x"), "sigmoid") }) },
      { op: /^tanh$/, run: (i) => ({ out: activation(i.tensor("x"), "tanh") }) },
    ],
  }),
  alone("gelu", gelu, "gelu"),
  alone("relu", relu, "relu"),
  alone("sigmoid", sigmoid, "sigmoid"),
  alone("tanh", tanh, "tanh"),
  defineOp({
    name: "exp",
    tolerance: 3e-7,
    run: ({ x }) => exp(x),
    reference: ({ x }) => map(x, Math.exp),
    gradients: ({ x }, _, dy) => ({ x: x.data.map((v, i) => Math.exp(v) * dy[i]) }),
    samples: [
      ...[[3, 341], [1], [7], MANY].map((shape) => ({ inputs: { x: { shape, fill: wide } } })),
      inHalf({ inputs: { x: { shape: [7], fill: wide } } }),
    ],
    bench: [{ inputs: { x: [3199, 512] } }],
  }),
  defineOp({
    name: "log",
    tolerance: 3e-7,
    run: ({ x }) => log(x),
    reference: ({ x }) => map(x, Math.log),
    gradients: ({ x }, _, dy) => ({ x: x.data.map((v, i) => dy[i] / v) }),
    samples: [
      ...[[3, 341], [1], [7]].map((shape) => ({ inputs: { x: { shape, fill: positive } }, step: 1e-5 })),
      inHalf({ inputs: { x: { shape: [341], fill: positive } }, step: 1e-5 }),
    ],
    bench: [{ inputs: { x: { shape: [3199, 512], fill: positive } } }],
  }),
];

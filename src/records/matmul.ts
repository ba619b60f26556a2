import type { ActivationKind } from "../ops/activation.ts";
import { linear, matmul } from "../ops/matmul.ts";
import { activations, columnSums, product } from "./float64.ts";
import type { WeightDType } from "../tensor/tensor.ts";
import { type Arrays, defineOp, inHalf, type InputSpec, type SampleSpec } from "./op_info.ts";

interface Linear {
  readonly activation?: ActivationKind;
  readonly dtype?: WeightDType;
}

/** y before and after the activation, with the residual. */
function project({ x, w, b, residual }: Arrays, { activation }: Linear) {
  const [N, K] = w.shape;
  const M = x.data.length / K;
  const inside = product(x.data, w.data, { M, N, K, transB: true }).map((v, i) => v + (b?.data[i % N] ?? 0));
  const f = activation && activations[activation].f;
  return {
    ...{ M, N, K, inside },
    y: {
      shape: [...x.shape.slice(0, -1), N],
      data: inside.map((v, i) => (f ? f(v) : v) + (residual?.data[i] ?? 0)),
    },
  };
}

interface Extras extends Linear {
  readonly bias?: boolean;
  readonly residual?: boolean;
}

/** (M, K) to N, with weights so small that y is near 1. */
const sample = (M: number, K: number, N: number, extras: Extras = {}): SampleSpec<Linear> => {
  const w = { shape: [N, K], fill: (v: number) => v / Math.sqrt(K) };
  const { bias, residual, activation } = extras;
  return {
    inputs: { x: [M, K], w, ...(bias && { b: [N] }), ...(residual && { residual: [M, N] }) },
    args: { activation },
  };
};

/** Without gradients: a residual after an activation has no backward. */
const frozen = (shape: readonly number[]): InputSpec => ({ shape, gradient: false });
const large = (shape: readonly number[]): InputSpec => ({ shape, fill: (v) => 1e4 * v });

interface Matmul {
  readonly transB?: boolean;
  readonly alpha?: number;
}

const part = (x: Float64Array, z: number, Z: number) =>
  x.subarray((z * x.length) / Z, ((z + 1) * x.length) / Z);

/** One of the products along Z: their results one after the other. */
const each = (Z: number, f: (z: number) => Float64Array) =>
  Float64Array.from(Array.from({ length: Z }, (_, z) => [...f(z)]).flat());

function sizes({ a, b }: Arrays, transB = false) {
  const [M, K] = a.shape.slice(-2);
  const N = b.shape.at(transB ? -2 : -1) ?? 1;
  // One b for all of a: the rows of all products are the rows of one.
  return b.shape.length === 2
    ? { Z: 1, M: a.data.length / K, K, N }
    : { Z: a.data.length / (M * K), M, K, N };
}

const pair = (Z: number, M: number, K: number, N: number, args: Matmul = {}): SampleSpec<Matmul> => {
  const lead = Z > 1 ? [Z] : [];
  return { inputs: { a: [...lead, M, K], b: [...lead, ...(args.transB ? [N, K] : [K, N])] }, args };
};

export const records = [
  defineOp<Linear>({
    name: "linear",
    run: ({ x, w, b, residual }, args) => linear(x, w, b, { ...args, residual }),
    reference: (inputs, args) => project(inputs, args).y,
    gradients: (inputs, args, dy) => {
      const { M, N, K, inside } = project(inputs, args);
      const slope = args.activation && activations[args.activation].slope;
      const d = slope ? inside.map((v, i) => slope(v) * dy[i]) : dy;
      return {
        x: product(d, inputs.w.data, { M, N: K, K: N }),
        w: product(d, inputs.x.data, { M: N, N: K, K: M, transA: true }),
        b: columnSums(d, N),
        residual: dy,
      };
    },
    samples: [
      sample(37, 129, 53, { bias: true }),
      sample(1, 1, 1),
      sample(1, 7, 1023, { bias: true }),
      sample(1023, 7, 3, { bias: true }),
      sample(17, 1023, 9, { bias: true, residual: true }),
      sample(5, 6, 33, { bias: true, activation: "gelu" }),
      sample(67, 70, 65, { residual: true }),
      sample(1, 4, 4),
      sample(17, 64, 36, { bias: true, residual: true }),
      sample(3, 1024, 8, { bias: true, activation: "gelu" }),
      sample(33, 68, 132, { bias: true, activation: "gelu_tanh" }),
      sample(16, 32, 64, { bias: true, activation: "tanh" }),
      sample(70, 20, 12, { bias: true, activation: "relu" }),
      sample(9, 12, 20, { bias: true, activation: "sigmoid" }),
      // About the size of a GPU's tiles, and far from it.
      sample(7, 63, 17, { bias: true }),
      sample(65, 17, 129, { bias: true }),
      sample(64, 64, 64, { bias: true }),
      sample(68, 20, 132, { bias: true }),
      sample(4, 1000, 8, { bias: true }),
      sample(129, 65, 64, { bias: true }),
      sample(65, 17, 63, { bias: true, activation: "gelu" }),
      sample(65, 17, 63, { bias: true, activation: "tanh" }),
      sample(65, 17, 63, { bias: true, residual: true }),
      {
        inputs: { x: frozen([7, 20]), w: frozen([24, 20]), b: frozen([24]), residual: frozen([7, 24]) },
        args: { activation: "gelu" },
      },
      { inputs: { x: large([2, 3, 5]), w: large([7, 5]) }, name: "leading axes, values of ±1e4" },
      { inputs: { x: [7, 33], w: { shape: [9, 33], dtype: "f16" } }, name: "f16 weights" },
      { inputs: { x: [20, 64], w: { shape: [40, 64], dtype: "f16" } }, name: "f16 weights" },
      inHalf(sample(17, 64, 36, { bias: true, residual: true }), ["x", "residual"]),
      inHalf(sample(33, 68, 132, { bias: true, activation: "gelu" }), ["x"]),
      inHalf(sample(5, 6, 33, { bias: true, activation: "gelu_tanh" }), ["x"]),
      inHalf({ inputs: { x: [20, 64], w: { shape: [40, 64], dtype: "f16", gradient: false } } }, ["x"]),
      { ...inHalf(sample(19, 20, 12, { bias: true }), ["x"]), args: { dtype: "f32" }, name: "to f32" },
    ],
    bench: [
      {
        name: "BERT-base up",
        inputs: { x: [128, 768], w: { shape: [3072, 768], fill: (v) => v / 28 }, b: [3072] },
        args: { activation: "gelu" },
        flop: 2 * 128 * 768 * 3072,
      },
    ],
    stored: [
      {
        op: /^x w\^T \+ b$/,
        run: (i) => ({ out: linear(i.tensor("x"), i.tensor("w"), i.optional("b")) }),
      },
    ],
  }),
  defineOp<Matmul>({
    name: "matmul",
    run: ({ a, b }, args) => matmul(a, b, args),
    reference: (inputs, { transB, alpha }) => {
      const { Z, M, K, N } = sizes(inputs, transB);
      const [a, b] = [inputs.a.data, inputs.b.data];
      return {
        shape: [...inputs.a.shape.slice(0, -1), N],
        data: each(Z, (z) => product(part(a, z, Z), part(b, z, Z), { M, N, K, transB, alpha })),
      };
    },
    gradients: (inputs, { transB, alpha }, dy) => {
      const { Z, M, K, N } = sizes(inputs, transB);
      const at = (x: Float64Array, z: number) => part(x, z, Z);
      const [a, b] = [inputs.a.data, inputs.b.data];
      return {
        a: each(Z, (z) => product(at(dy, z), at(b, z), { M, N: K, K: N, transB: !transB, alpha })),
        b: each(Z, (z) =>
          transB
            ? product(at(dy, z), at(a, z), { M: N, N: K, K: M, transA: true, alpha })
            : product(at(a, z), at(dy, z), { M: K, N, K: M, transA: true, alpha }),
        ),
      };
    },
    samples: [
      pair(3, 17, 33, 9, { alpha: 0.25 }),
      pair(1, 5, 7, 3),
      pair(3, 17, 33, 9, { transB: true, alpha: -2 }),
      pair(2, 20, 36, 68),
      pair(2, 36, 64, 20, { transB: true, alpha: 0.125 }),
      { inputs: { a: [2, 3, 5, 7], b: [2, 3, 7, 4] } },
      { inputs: { a: [2, 3, 5, 7], b: [2, 3, 4, 7] }, args: { transB: true } },
      { inputs: { a: [2, 3, 5, 7], b: [7, 4] } },
      { inputs: { a: [3, 5, 8], b: [4, 8] }, args: { transB: true } },
      { inputs: { a: [0, 5, 7], b: [7, 4] } },
      { inputs: { a: [0, 5, 7], b: [0, 7, 4] } },
      inHalf(pair(3, 17, 33, 9, { alpha: 0.25 })),
      inHalf(pair(2, 36, 64, 20, { transB: true, alpha: 0.125 })),
      ...[
        [1, 1, 1],
        [7, 17, 63],
        [65, 129, 17],
        [64, 64, 64],
        [68, 132, 20],
        [4, 8, 1000],
        [129, 64, 65],
      ].flatMap(([M, N, K]) => [pair(2, M, K, N), pair(2, M, K, N, { transB: true })]),
    ],
    bench: [
      { inputs: { a: [1024, 1024], b: [1024, 1024] }, flop: 2 * 1024 ** 3 },
      {
        inputs: { a: [12, 128, 64], b: [12, 128, 64] },
        args: { transB: true },
        flop: 2 * 12 * 128 * 128 * 64,
      },
    ],
    stored: [{ op: /^a b$/, run: (i) => ({ out: matmul(i.tensor("a"), i.tensor("b")) }) }],
  }),
];

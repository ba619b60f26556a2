import { add, div, full, mul, reshape, scale, sub } from "../ops/elementwise.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Array64, array64, columnSums, map } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type InputSpec, type OpInfo, type SampleSpec } from "./op_info.ts";

interface Binary {
  /** Numbers that stand for an operand. */
  readonly a?: number;
  readonly b?: number;
  /** Of add() alone. */
  readonly alpha?: number;
  readonly beta?: number;
}

const operand = (given: Array64 | undefined, number = 0): Array64 => given ?? array64([], () => number);

/** The operands, and the larger of their shapes. */
function operands(inputs: Arrays, numbers: Binary) {
  const [a, b] = [operand(inputs.a, numbers.a), operand(inputs.b, numbers.b)];
  return { a, b, shape: a.shape.length > b.shape.length ? a.shape : b.shape };
}

/** Far enough from 0 to be divided by. */
const away = (shape: Shape): InputSpec => ({ shape, fill: (v) => v + Math.sign(v) });

const pairs: [a: Shape, b: Shape][] = [
  ...[[1023], [1], [7], [3, 5]].map((shape): [Shape, Shape] => [shape, shape]),
  // One is the last axes of the other and repeated over those before.
  [[4, 8], [8]],
  [
    [3, 2, 5],
    [2, 5],
  ],
  [[3, 2, 5], [5]],
  [[1023], []],
  [[3, 1], [1]],
  [[701, 3], [3]],
  [[5, 6, 2], [2]],
  [[], [7]],
  [[3], [341, 3]],
  [[0, 4], [4]],
  [[2, 0], [0]],
  [[0], []],
];
const x = away([1023]);
const samples: SampleSpec<Binary>[] = [
  ...pairs.map(([a, b]) => ({ inputs: { a: away(a), b: away(b) }, gradientTolerance: 3e-6 })),
  { inputs: { a: x }, args: { b: 2.5 } },
  { inputs: { a: x }, args: { b: -3 } },
  { inputs: { b: x }, args: { a: 2.5 } },
  { inputs: { b: x }, args: { a: -3 } },
  ...[[257, 513], [513]].map((b) => ({
    inputs: { a: away([257, 513]), b: away(b) },
    gradientTolerance: 3e-6,
  })),
  ...[[3, 41], [41], []].map((b) => inHalf({ inputs: { a: away([3, 41]), b: away(b) } })),
  inHalf({ inputs: { a: away([41]) }, args: { b: -3 } }),
  inHalf({ inputs: { b: away([41]) }, args: { a: 2.5 } }),
];

type Slope = (a: number, b: number, args: Binary) => number;

/** An operator of two operands of one shape, or of which the smaller is repeated. */
const binary = (
  name: string,
  run: (a: Tensor, b: Tensor, args: Binary) => Tensor,
  [f, da, db]: readonly [f: Slope, da: Slope, db: Slope],
  more: readonly SampleSpec<Binary>[] = [],
): OpInfo =>
  defineOp<Binary>({
    name,
    tolerance: 1e-6,
    // The operators take numbers for tensors; their signatures allow no number on both sides.
    run: ({ a, b }, args) => run((args.a ?? a) as Tensor, (args.b ?? b) as Tensor, args),
    reference: (inputs, args) => {
      const { a, b, shape } = operands(inputs, args);
      return array64(shape, (i) => f(a.data[i % a.data.length], b.data[i % b.data.length], args));
    },
    gradients: (inputs, args, dy) => {
      const { a, b, shape } = operands(inputs, args);
      const weighted = (slope: Slope) =>
        Float64Array.from(
          { length: sizeOf(shape) },
          (_, i) => slope(a.data[i % a.data.length], b.data[i % b.data.length], args) * dy[i],
        );
      return { a: columnSums(weighted(da), a.data.length), b: columnSums(weighted(db), b.data.length) };
    },
    samples: [...samples, ...more],
    bench: [
      { inputs: { a: [3199, 512], b: [3199, 512] } },
      { name: "a bias", inputs: { a: [3199, 512], b: [512] } },
    ],
  });

const factors = { alpha: 0.5, beta: -3 };

export const records = [
  binary(
    "add",
    (a, b, { alpha, beta }) => add(a, b, alpha, beta),
    [
      (a, b, { alpha = 1, beta = 1 }) => alpha * a + beta * b,
      (_a, _b, { alpha = 1 }) => alpha,
      (_a, _b, { beta = 1 }) => beta,
    ],
    samples.map((sample) => ({ ...sample, args: { ...sample.args, ...factors } })),
  ),
  binary("sub", (a, b) => sub(a, b), [(a, b) => a - b, () => 1, () => -1]),
  binary("mul", (a, b) => mul(a, b), [(a, b) => a * b, (_, b) => b, (a) => a]),
  binary("div", (a, b) => div(a, b), [(a, b) => a / b, (_, b) => 1 / b, (a, b) => -a / b ** 2]),
  defineOp<{ alpha: number }>({
    name: "scale",
    tolerance: 1e-6,
    run: ({ a }, { alpha }) => scale(a, alpha),
    reference: ({ a }, { alpha }) => map(a, (v) => alpha * v),
    gradients: (_, { alpha }, dy) => ({ a: dy.map((v) => alpha * v) }),
    samples: [
      ...[[1023], [1], [7], [257, 513]].map((shape) => ({ inputs: { a: shape }, args: { alpha: -0.3 } })),
      inHalf({ inputs: { a: [41] }, args: { alpha: -0.3 } }),
    ],
    bench: [{ inputs: { a: [3199, 512] }, args: { alpha: 1 }, name: "a copy" }],
  }),
  defineOp<{ shape: Shape }>({
    name: "reshape",
    tolerance: 0,
    run: ({ x }, { shape }) => reshape(x, shape),
    reference: ({ x }, { shape }) => ({ shape, data: x.data }),
    gradients: (_, __, dy) => ({ x: dy }),
    samples: [{ inputs: { x: [2, 6] }, args: { shape: [3, 4] } }],
    bench: [{ inputs: { x: [3199, 512] }, args: { shape: [512, 3199] } }],
  }),
  defineOp<{ shape: Shape; value: number }>({
    name: "full",
    tolerance: 0,
    run: (_, { shape, value }, device) => full(device, shape, value),
    reference: (_, { shape, value }) => array64(shape, () => value),
    samples: [
      { inputs: {}, args: { shape: [3, 7], value: -2.5 } },
      { inputs: {}, args: { shape: [], value: 1 } },
    ],
    bench: [{ inputs: {}, args: { shape: [3199, 512], value: 1 } }],
  }),
];

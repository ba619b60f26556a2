import { columnSum, dot, maskedMean, mean, type SumOptions, sum } from "../ops/reduce.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";
import { array64, columnSums } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type InputSpec, type OpInfo } from "./op_info.ts";

/** As many frames count as `lengths` says, but every fifth is left out. */
const mask = (lengths: readonly number[], T: number): InputSpec => ({
  ...{ shape: [lengths.length, T], dtype: "u32" },
  fill: (_, i) => (i % T < lengths[Math.floor(i / T)] && i % 5 !== 4 ? 1 : 0),
});

/** 1/n for each of a sample's n real frames. */
function shares({ mask }: Arrays): Float64Array {
  const T = mask.shape[1];
  return mask.data.map((real, i) => {
    const from = i - (i % T);
    const count = mask.data.subarray(from, from + T).reduce((n, m) => n + m, 0);
    return real / Math.max(1, count);
  });
}

const shapes: Shape[] = [[2, 3, 4097], [], [1], [7], [3, 5], [1, 4096], [300, 2], [4096 * 3 + 1], [0, 3]];

/** How many elements are summed for each of y. */
const rowLength = ({ x }: Arrays, { axis }: SumOptions): number =>
  axis === -1 ? x.shape[x.shape.length - 1] : x.data.length;

/** sum() and mean(), of all elements and over the last axis. */
const total = (name: string, run: typeof sum, average: boolean): OpInfo =>
  defineOp<SumOptions>({
    name,
    tolerance: 3e-6,
    gradientTolerance: 1e-7,
    run: ({ x }, args) => run(x, args),
    reference: (inputs, args) => {
      const C = rowLength(inputs, args);
      return array64(args.axis === -1 ? inputs.x.shape.slice(0, -1) : [], (n) => {
        const row = inputs.x.data.subarray(n * C, (n + 1) * C);
        return row.reduce((s, v) => s + v, 0) / (average ? C : 1);
      });
    },
    gradients: (inputs, args, dy) => {
      const C = rowLength(inputs, args);
      return { x: inputs.x.data.map((_, i) => dy[Math.floor(i / C)] / (average ? C : 1)) };
    },
    samples: [
      ...shapes.filter((shape) => !average || sizeOf(shape) > 0).map((shape) => ({ inputs: { x: shape } })),
      ...shapes
        .filter((shape) => shape.length > 0)
        .map((shape) => ({ inputs: { x: shape }, args: { axis: -1 as const } })),
      inHalf({ inputs: { x: [33, 17] }, args: { axis: -1 as const } }),
      inHalf({ inputs: { x: { shape: [41], fill: (v: number) => v + 3 } } }),
    ],
    bench: [{ inputs: { x: [3199, 512] } }, { inputs: { x: [3199, 512] }, args: { axis: -1 } }],
  });

export const records = [
  total("sum", sum, false),
  total("mean", mean, true),
  defineOp({
    name: "columnSum",
    tolerance: 1e-6,
    differentiable: false,
    run: ({ x }) => columnSum(x),
    reference: ({ x }) => ({ shape: [x.shape[1]], data: columnSums(x.data, x.shape[1]) }),
    samples: [
      ...[
        [257, 9],
        [1, 1],
        [7, 1023],
        [256, 9],
        [5001, 7],
      ].map((shape) => ({ inputs: { x: shape } })),
      inHalf({ inputs: { x: [257, 9] } }),
    ],
    bench: [{ inputs: { x: [3199, 512] } }],
  }),
  defineOp({
    name: "dot",
    differentiable: false,
    run: ({ a, b }) => dot(a, b),
    reference: ({ a, b }) => array64([], () => a.data.reduce((sum, v, i) => sum + v * b.data[i], 0)),
    samples: [
      { inputs: { a: [50_001], b: [50_001] } },
      { inputs: { a: [3, 5], b: [3, 5] } },
      inHalf({ inputs: { a: [50_001], b: [50_001] } }),
    ],
    bench: [{ inputs: { a: [3199, 512], b: [3199, 512] } }],
  }),
  defineOp({
    name: "maskedMean",
    run: ({ x, mask }) => maskedMean(x, mask),
    reference: (inputs) => {
      const [B, T, C] = inputs.x.shape;
      const y = new Float64Array(B * C);
      const share = shares(inputs);
      inputs.x.data.forEach((v, i) => {
        y[Math.floor(i / (T * C)) * C + (i % C)] += v * share[Math.floor(i / C)];
      });
      return { shape: [B, C], data: y };
    },
    gradients: (inputs, _, dy) => {
      const [, T, C] = inputs.x.shape;
      const share = shares(inputs);
      return {
        x: inputs.x.data.map((__, i) => dy[Math.floor(i / (T * C)) * C + (i % C)] * share[Math.floor(i / C)]),
      };
    },
    samples: [
      ...[
        { T: 149, C: 64, lengths: [149, 148, 1] },
        { T: 1, C: 1, lengths: [1] },
        { T: 7, C: 5, lengths: [7, 3, 0] },
        { T: 1023, C: 3, lengths: [1023, 17] },
        { T: 65, C: 63, lengths: [65, 65] },
      ].map(({ T, C, lengths }) => ({
        inputs: { x: [lengths.length, T, C], mask: mask(lengths, T) },
        name: `${lengths.join(", ")} frames`,
      })),
      inHalf({ inputs: { x: [2, 7, 5], mask: mask([7, 3], 7) } }, ["x"]),
    ],
    bench: [{ inputs: { x: [2, 499, 1024], mask: mask([499, 420], 499) } }],
    stored: [{ op: /^mean over time/, run: (i) => ({ out: maskedMean(i.tensor("x"), i.flags("mask")) }) }],
  }),
];

import { attentionProbabilities, logSoftmax, softmax, type SoftmaxOptions } from "../ops/softmax.ts";
import { type Array64, logSoftmaxRow, map, softmaxRow } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type InputSpec } from "./op_info.ts";

/** Rows of x through `row`, the masked elements as −∞, or all alike where the lowest f32 masks a whole row. */
function rows(x: Array64, row: (x: Float64Array) => number[], hidden: (row: number, c: number) => boolean) {
  const C = x.shape.at(-1) ?? 1;
  const y = new Float64Array(x.data.length);
  for (let n = 0; n < x.data.length / C; n++) {
    const values = x.data.slice(n * C, (n + 1) * C);
    const masked = values.map((v, c) => (hidden(n, c) ? -Infinity : v));
    y.set(row(masked.every((v) => v === -Infinity) ? values.fill(0) : masked), n * C);
  }
  return { shape: x.shape, data: y };
}

const reference = ({ x, mask }: Arrays, { log }: SoftmaxOptions): Array64 => {
  const C = x.shape.at(-1) ?? 1;
  return rows(x, log ? logSoftmaxRow : softmaxRow, (n, c) => !!mask?.data[(n * C + c) % mask.data.length]);
};

function probabilities({ scores, keyMask }: Arrays, { scale }: { scale: number }): Array64 {
  const [B, , , Tk] = scores.shape;
  const each = scores.data.length / Tk / B;
  return rows(
    map(scores, (v) => scale * v),
    softmaxRow,
    (n, c) => keyMask?.data[Math.floor(n / each) * Tk + c] === 0,
  );
}

/** Gradients through softmax of rows whose weights are p, or their logs. */
function gradient(p: Array64, dy: Float64Array, log = false): Float64Array {
  const C = p.shape.at(-1) ?? 1;
  const dx = new Float64Array(dy.length);
  for (let n = 0; n < dy.length; n += C) {
    let along = 0;
    for (let i = n; i < n + C; i++) along += dy[i] * (log ? 1 : p.data[i]);
    for (let i = n; i < n + C; i++) dx[i] = log ? dy[i] - p.data[i] * along : p.data[i] * (dy[i] - along);
  }
  return dx;
}

const spread = (C: number): InputSpec => ({ shape: [5, C], fill: (v) => 4 * v });
const sizes = [1023, 1, 7, 8, 65, 1000, 1280];
const everyThird = (C: number): InputSpec => ({
  shape: [4, C],
  dtype: "u32",
  fill: (_, i) => (i % 3 === 1 ? 1 : 0),
});
const third = everyThird(19);
const wide = { inputs: { x: [1536, 128] } };

type Arguments = Omit<SoftmaxOptions, "mask">;

export const records = [
  defineOp<Arguments>({
    name: "softmax",
    tolerance: 1e-6,
    gradientTolerance: 2e-6,
    run: ({ x, mask }, args) => softmax(x, { ...args, mask }),
    reference,
    gradients: (inputs, args, dy) => ({
      x: gradient(reference(inputs, { ...args, log: false }), dy, args.log),
    }),
    samples: [
      ...sizes.map((C) => ({ inputs: { x: spread(C) } })),
      { inputs: { x: [1, 1] } },
      { inputs: { x: { shape: [7, 17], fill: (v) => 3 * v } } },
      { inputs: { x: { shape: [300, 65], fill: (v) => 3 * v } } },
      { inputs: { x: { shape: [3, 1000], fill: (v) => 3 * v } } },
      { inputs: { x: [3, 4, 19] }, args: { log: true } },
      { inputs: { x: [3, 4, 19], mask: third } },
      { inputs: { x: [3, 4, 19], mask: third }, args: { fill: "finfo.min" } },
      { inputs: { x: [3, 4, 20], mask: everyThird(20) } },
      { inputs: { x: [3, 4, 20], mask: everyThird(20) }, args: { fill: "finfo.min" } },
      { inputs: { x: [3, 4, 1280], mask: everyThird(1280) }, name: "more than a GPU's thread holds" },
      { inputs: { x: [3, 4, 512], mask: everyThird(512) } },
      ...[19, 20, 1280].flatMap((C) =>
        [{}, { log: true }].flatMap((args: Arguments) => [
          inHalf({ inputs: { x: [3, 4, C] }, args }),
          ...(args.log ? [] : [inHalf({ inputs: { x: [3, 4, C], mask: everyThird(C) }, args }, ["x"])]),
        ]),
      ),
    ],
    bench: [wide],
    stored: [
      { op: /^softmax$/, run: (i) => ({ out: softmax(i.tensor("x")) }) },
      { op: /^log_softmax$/, run: (i) => ({ out: softmax(i.tensor("x"), { log: true }) }) },
      {
        op: /^softmax( of x with mask==1 set to -inf|; first row fully -inf)/,
        run: (i) => ({ out: softmax(i.tensor("x"), { mask: i.flags("mask") }) }),
      },
      {
        op: /^softmax\(x \+ mask\*finfo\.min\)/,
        run: (i) => ({ out: softmax(i.tensor("x"), { mask: i.flags("mask"), fill: "finfo.min" }) }),
      },
    ],
  }),
  defineOp({
    name: "logSoftmax",
    tolerance: 1e-6,
    gradientTolerance: 2e-6,
    run: ({ x }) => logSoftmax(x),
    reference: (inputs) => reference(inputs, { log: true }),
    gradients: (inputs, _, dy) => ({ x: gradient(reference(inputs, {}), dy, true) }),
    samples: sizes.map((C) => ({ inputs: { x: spread(C) } })),
    bench: [wide],
  }),
  defineOp<{ scale: number }>({
    name: "attentionProbabilities",
    tolerance: 1e-6,
    gradientTolerance: 2e-6,
    run: ({ scores, keyMask }, { scale }) => attentionProbabilities(scores, keyMask, scale),
    reference: probabilities,
    gradients: (inputs, args, dy) => ({
      scores: gradient(probabilities(inputs, args), dy).map((v) => args.scale * v),
    }),
    samples: [
      {
        inputs: {
          scores: { shape: [2, 2, 5, 11], fill: (v) => 2 * v },
          keyMask: { shape: [2, 11], dtype: "u32", fill: (_, i) => (i < 15 ? 1 : 0) },
        },
        args: { scale: 0.3 },
      },
      {
        inputs: {
          scores: { shape: [3, 2, 5, 11], fill: (v) => 2 * v },
          keyMask: { shape: [3, 11], dtype: "u32", fill: (_, i) => (i < 15 ? 1 : 0) },
        },
        args: { scale: 0.3 },
        name: "a sample without keys",
        differences: false, // as PyTorch's, the gradient of its uniform row is that of a softmax
      },
      { inputs: { scores: [2, 2, 5, 11] }, args: { scale: 0.3 } },
    ],
    bench: [{ inputs: { scores: [1, 12, 128, 128] }, args: { scale: 0.125 } }],
  }),
];

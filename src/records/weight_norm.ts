import { activation } from "../ops/activation.ts";
import { conv1d } from "../ops/conv1d.ts";
import { transpose } from "../ops/transpose.ts";
import { weightNorm } from "../ops/weight_norm.ts";
import { columnSums, map } from "./float64.ts";
import { type Arrays, defineOp } from "./op_info.ts";

/** Sums over all axes but the last. */
const sums = ({ v, g }: Arrays, f: (v: number, index: number) => number) =>
  columnSums(v.data.map(f), g.data.length);

export const records = [
  defineOp({
    name: "weightNorm",
    run: ({ v, g }) => weightNorm(v, g),
    reference: ({ v, g }) => {
      const k = g.data.length;
      const squares = sums({ v, g }, (x) => x * x);
      return map(v, (x, i) => (g.data[i % k] * x) / Math.sqrt(squares[i % k]));
    },
    gradients: ({ v, g }, _, dy) => {
      const k = g.data.length;
      const squares = sums({ v, g }, (x) => x * x);
      const along = sums({ v, g }, (x, i) => x * dy[i]);
      return {
        v: v.data.map(
          (x, i) =>
            (g.data[i % k] / Math.sqrt(squares[i % k])) * (dy[i] - (x * along[i % k]) / squares[i % k]),
        ),
        g: along.map((x, i) => x / Math.sqrt(squares[i])),
      };
    },
    samples: [
      [33, 31, 7],
      [1, 1, 1],
      [7, 3, 5],
      [64, 16, 128],
      [65, 17, 7],
      [1023, 1, 3],
    ].map((shape) => ({ inputs: { v: shape, g: [1, 1, shape[2]] } })),
    bench: [{ name: "HuBERT-large's positions", inputs: { v: [1024, 64, 128], g: [1, 1, 128] } }],
    stored: [
      {
        op: /^gelu\(conv1d\(x, w=g\*v/,
        run: (i) => {
          const k = i.tensor("v").shape[2];
          // The references are (B, C, T).
          const y = conv1d(
            transpose(i.tensor("x")),
            weightNorm(i.tensor("v"), i.tensor("g")),
            i.optional("b"),
            { padding: i.number("padding"), groups: i.number("groups"), drop: k % 2 === 0 ? 1 : 0 },
          );
          return { out: transpose(activation(y, "gelu")) };
        },
      },
    ],
  }),
];

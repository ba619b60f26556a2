import { reshape } from "../ops/elementwise.ts";
import { linear } from "../ops/matmul.ts";
import { concatPair, gatedConcat } from "../ops/sigmoid_gate.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { array64, sigmoid } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type InputSpec } from "./op_info.ts";

interface Arguments {
  readonly useSigmoid: boolean;
}

const f = (useSigmoid: boolean) => (useSigmoid ? sigmoid : (x: number) => x);
const slope = (useSigmoid: boolean) => (useSigmoid ? (x: number) => sigmoid(x) * sigmoid(-x) : () => 1);

/** Row and column of element i of rows of 2·C, and whether it stands in the right half. */
const place = (i: number, C: number) => {
  const [n, c] = [Math.floor(i / (2 * C)), i % (2 * C)];
  return { at: n * C + (c % C), right: c >= C };
};

/** Left and right half of rows of 2·C. */
const halves = (x: Float64Array, C: number) =>
  [false, true].map((right) => x.filter((_, i) => place(i, C).right === right));

/** Which element of g gates element i of s. */
function gateOf({ s, g }: Arrays) {
  const [, T, C] = s.shape;
  const pooled = g.data.length < s.data.length;
  return (i: number) => (pooled ? Math.floor(i / (T * C)) * C + (i % C) : i);
}

const doubled = (shape: readonly number[]) => [...shape.slice(0, -1), 2 * (shape.at(-1) ?? 1)];
const wide = (shape: readonly number[]): InputSpec => ({ shape, fill: (v) => 3 * v });
const both = [true, false];
const shapes = [
  [2, 7, 5],
  [1, 1, 1],
  [3, 17, 64],
  [1, 1023, 3],
];
/** Values at which a sigmoid is 0, 1/2 and 1 to the last bit. */
const extreme = (sign: number): InputSpec => ({
  ...{ shape: [1, 2, 2] },
  fill: (_, i) => sign * [1e4, -1e4, 0, 20][i],
});
const model = { s: [1, 149, 768], c: [1, 149, 768] };

export const records = [
  defineOp<Arguments>({
    name: "concatPair",
    run: ({ s, c }, { useSigmoid }) => concatPair(s, c, useSigmoid),
    reference: ({ s, c }, { useSigmoid }) => {
      const C = s.shape.at(-1) ?? 1;
      return array64(doubled(s.shape), (i) => {
        const { at, right } = place(i, C);
        return f(useSigmoid)((right ? c : s).data[at]);
      });
    },
    gradients: ({ s, c }, { useSigmoid }, dy) => {
      const [ds, dc] = halves(dy, s.shape.at(-1) ?? 1);
      return {
        s: ds.map((d, i) => d * slope(useSigmoid)(s.data[i])),
        c: dc.map((d, i) => d * slope(useSigmoid)(c.data[i])),
      };
    },
    samples: both.flatMap((useSigmoid) => [
      ...shapes.map((shape) => ({ inputs: { s: wide(shape), c: wide(shape) }, args: { useSigmoid } })),
      { inputs: { s: extreme(1), c: extreme(-1) }, args: { useSigmoid }, name: "±1e4" },
      inHalf({ inputs: { s: wide([2, 3, 5]), c: wide([2, 3, 5]) }, args: { useSigmoid } }),
    ]),
    bench: [{ inputs: model, args: { useSigmoid: true } }],
  }),
  defineOp<Arguments>({
    name: "gatedConcat",
    run: ({ s, c, g }, { useSigmoid }) => gatedConcat(s, c, g, useSigmoid),
    reference: ({ s, c, g }, { useSigmoid }) => {
      const gate = gateOf({ s, g });
      const C = s.shape[2];
      return array64(doubled(s.shape), (i) => {
        const { at, right } = place(i, C);
        const G = f(useSigmoid)(g.data[gate(at)]);
        return right ? c.data[at] * (1 - G) : s.data[at] * G;
      });
    },
    gradients: ({ s, c, g }, { useSigmoid }, dy) => {
      const gate = gateOf({ s, g });
      const [left, right] = halves(dy, s.shape[2]);
      const G = (i: number) => f(useSigmoid)(g.data[gate(i)]);
      const dg = new Float64Array(g.data.length);
      s.data.forEach((v, i) => {
        dg[gate(i)] += (left[i] * v - right[i] * c.data[i]) * slope(useSigmoid)(g.data[gate(i)]);
      });
      return { s: left.map((d, i) => d * G(i)), c: right.map((d, i) => d * (1 - G(i))), g: dg };
    },
    samples: both.flatMap((useSigmoid) => [
      ...shapes.flatMap(([B, T, C]) => {
        const inputs = { s: wide([B, T, C]), c: wide([B, T, C]) };
        return [
          { inputs: { ...inputs, g: [B, T, C] }, args: { useSigmoid }, name: "a gate a frame" },
          { inputs: { ...inputs, g: [B, 1, C] }, args: { useSigmoid }, name: "a gate a sample" },
        ];
      }),
      {
        inputs: { s: extreme(1), c: extreme(-1), g: extreme(-1) },
        args: { useSigmoid },
        name: "±1e4",
      },
      inHalf({ inputs: { s: wide([2, 3, 5]), c: wide([2, 3, 5]), g: [2, 1, 5] }, args: { useSigmoid } }),
      inHalf({ inputs: { s: wide([2, 3, 5]), c: wide([2, 3, 5]), g: [2, 3, 5] }, args: { useSigmoid } }),
    ]),
    bench: [{ inputs: { ...model, g: [1, 149, 768] }, args: { useSigmoid: true } }],
    stored: [
      {
        op: /^g=linear\(sigmoid\(cat/,
        run: (i) => {
          const shaped = (t: Tensor) => (t.shape.length === 3 ? t : reshape(t, [1, ...t.shape]));
          const [s, c] = [shaped(i.tensor("s")), shaped(i.tensor("c"))];
          const y = gatedConcat(s, c, linear(concatPair(s, c, true), i.tensor("w"), i.tensor("b")));
          return { out: i.tensor("s").shape.length === 3 ? y : reshape(y, y.shape.slice(1)) };
        },
      },
    ],
  }),
];

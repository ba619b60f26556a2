import { transpose } from "../ops/transpose.ts";
import { type Array64, array64 } from "./float64.ts";
import { defineOp, inHalf } from "./op_info.ts";

const exchanged = ({ shape: [B, R, C], data }: Array64): Array64 =>
  array64([B, C, R], (i) => {
    const [b, c, r] = [Math.floor(i / (R * C)), Math.floor(i / R) % C, i % R];
    return data[(b * R + r) * C + c];
  });

export const records = [
  defineOp({
    name: "transpose",
    tolerance: 0,
    run: ({ x }) => transpose(x),
    reference: ({ x }) => exchanged(x),
    gradients: ({ x: { shape } }, _, dy) => ({
      x: exchanged({ shape: [shape[0], shape[2], shape[1]], data: dy }).data,
    }),
    samples: [
      ...[
        [3, 7, 5],
        [1, 1, 1],
        [2, 1023, 3],
        [2, 5, 12],
        [3, 44, 136],
      ].map((shape) => ({ inputs: { x: shape } })),
      inHalf({ inputs: { x: [3, 7, 5] } }),
    ],
    bench: [{ inputs: { x: [2, 249, 1024] } }],
  }),
];

import { accumulate } from "../tensor/accumulate.ts";
import { map } from "./float64.ts";
import { defineOp, inHalf } from "./op_info.ts";

export const records = [
  defineOp({
    name: "accumulate",
    tolerance: 1e-7,
    differentiable: false,
    run: ({ a, b }) => accumulate(a, b),
    reference: ({ a, b }) => map(a, (v, i) => v + b.data[i]),
    samples: [
      ...[[31, 33], [1], [7], [0], [257, 513]].map((shape) => ({ inputs: { a: shape, b: shape } })),
      inHalf({ inputs: { a: [31, 33], b: [31, 33] } }),
    ],
    bench: [{ inputs: { a: [3199, 512], b: [3199, 512] } }],
  }),
];

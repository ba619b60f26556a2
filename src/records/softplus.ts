import { softplus } from "../ops/softplus.ts";
import { map, sigmoid } from "./float64.ts";
import { defineOp, inHalf } from "./op_info.ts";

export const records = [
  defineOp({
    name: "softplus",
    tolerance: 1e-6,
    run: ({ x }) => softplus(x),
    reference: ({ x }) => map(x, (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)))),
    gradients: ({ x }, _, dy) => ({ x: x.data.map((v, i) => dy[i] * sigmoid(v)) }),
    samples: [
      { inputs: { x: { shape: [3, 341], fill: (v) => 4 * v } } },
      { inputs: { x: [1] } },
      { inputs: { x: [7] } },
      { inputs: { x: [257, 513] }, name: "several quads a thread" },
      inHalf({ inputs: { x: [341] } }),
      { inputs: { x: { shape: [33], fill: (_, i) => i - 32 } }, name: "far below 0" },
      { inputs: { x: { shape: [4], fill: (_, i) => [-1e4, 1e4, -30, 30][i] } }, name: "±1e4" },
    ],
    bench: [{ inputs: { x: [3199, 512] } }],
  }),
];

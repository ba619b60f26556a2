import { dropout } from "../ops/dropout.ts";
import { kept, map } from "./float64.ts";
import { defineOp, inHalf } from "./op_info.ts";

export const records = [
  defineOp<{ rate: number; seed: number }>({
    name: "dropout",
    tolerance: 1e-7,
    run: ({ x }, { rate, seed }) => dropout(x, rate, { next: () => seed }),
    reference: ({ x }, { rate, seed }) => map(x, (v, i) => v * kept(rate, seed, i)),
    gradients: (_, { rate, seed }, dy) => ({ x: dy.map((v, i) => v * kept(rate, seed, i)) }),
    samples: [
      { inputs: { x: [5, 7] }, args: { rate: 0.4, seed: 123 } },
      { inputs: { x: [1] }, args: { rate: 0.4, seed: 5 } },
      { inputs: { x: [3, 1000] }, args: { rate: 0.4, seed: 5 } },
      ...[0.1, 0.5, 0.9].map((rate) => ({ inputs: { x: [10_007] }, args: { rate, seed: 7 } })),
      { inputs: { x: [7] }, args: { rate: 1, seed: 3 } },
      { inputs: { x: [257, 513] }, args: { rate: 0.4, seed: 5 }, name: "several quads a thread" },
      inHalf({ inputs: { x: [1001] }, args: { rate: 0.4, seed: 5 } }),
    ],
    bench: [{ inputs: { x: [3199, 512] }, args: { rate: 0.1, seed: 1 } }],
  }),
];

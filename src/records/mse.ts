import { type MseOptions, mse } from "../ops/mse.ts";
import { type Arrays, defineOp, inHalf } from "./op_info.ts";

/** What a loss of one number divides the sum by. */
const divisor = ({ x }: Arrays, { reduction = "mean" }: MseOptions) =>
  reduction === "mean" ? x.data.length : 1;

const reductions = ["mean", "sum", "none"] as const;

export const records = [
  defineOp<MseOptions>({
    name: "mse",
    tolerance: 1e-6,
    run: ({ x, target }, args) => mse(x, target, args),
    reference: (inputs, args) => {
      const { x, target } = inputs;
      const squares = x.data.map((v, i) => (v - target.data[i]) ** 2);
      if (args.reduction === "none") return { shape: x.shape, data: squares };
      const sum = squares.reduce((total, v) => total + v, 0);
      return { shape: [], data: Float64Array.of(sum / divisor(inputs, args)) };
    },
    gradients: (inputs, args, dy) => {
      const { x, target } = inputs;
      const each = args.reduction === "none";
      const dx = x.data.map((v, i) => (2 * (v - target.data[i]) * dy[each ? i : 0]) / divisor(inputs, args));
      return { x: dx, target: dx.map((v) => -v) };
    },
    samples: [
      ...[[3, 1023], [], [1], [7], [5, 4096], [2, 2, 2049], [257, 513]].flatMap((shape) =>
        reductions.map((reduction) => ({ inputs: { x: shape, target: shape }, args: { reduction } })),
      ),
      ...reductions.map((reduction) => inHalf({ inputs: { x: [33], target: [33] }, args: { reduction } })),
    ],
    bench: [{ inputs: { x: [3199, 512], target: [3199, 512] } }],
  }),
];

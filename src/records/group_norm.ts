import { transpose } from "../ops/transpose.ts";
import { groupNorm } from "../ops/group_norm.ts";
import { normalise } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type SampleSpec } from "./op_info.ts";

interface Arguments {
  readonly groups: number;
}

const EPS = 1e-5;

function norm({ x, w, b }: Arrays, { groups: G }: Arguments, dy: Float64Array) {
  const [B, T, C] = x.shape;
  return normalise(x.data, w.data, b.data, dy, { B, T, C, G, eps: EPS });
}

const sample = (
  [B, T, C]: readonly [number, number, number],
  groups: number,
  fill: (v: number, i: number) => number = (v) => v,
  more: Omit<SampleSpec<Arguments>, "inputs" | "args"> = {},
) => ({ inputs: { x: { shape: [B, T, C], fill }, w: [C], b: [C] }, args: { groups }, ...more });

export const records = [
  defineOp<Arguments>({
    name: "groupNorm",
    run: ({ x, w, b }, { groups }) => groupNorm(x, w, b, groups, EPS),
    reference: (inputs, args) => ({
      shape: inputs.x.shape,
      data: norm(inputs, args, new Float64Array(inputs.x.data.length)).y,
    }),
    gradients: (inputs, args, dy) => norm(inputs, args, dy).gradients,
    samples: [
      sample([3, 17, 10], 1),
      sample([1, 1, 1], 1),
      sample([2, 7, 6], 3),
      sample([2, 65, 8], 8),
      sample([1, 17, 12], 3),
      sample([1, 1000, 4], 1),
      sample([2, 1023, 4], 4),
      sample([1, 149, 512], 512),
      sample([2, 67, 72], 72),
      sample([2, 67, 72], 2),
      sample([2, 67, 70], 7),
      inHalf(sample([2, 67, 72], 72), ["x"]),
      inHalf(sample([2, 9, 6], 3), ["x"]),
      sample([2, 101, 6], 2, (v) => v + 1e4, { name: "a mean of 1e4" }),
      // 10 s of audio after HuBERT's first convolution. Sums of 32,000 terms one by one would be 2e-6 to 9e-6 off.
      ...[
        { name: "10 s", mean: 0, first: 0 },
        { name: "10 s, a mean of 300", mean: 300, first: 0 },
        { name: "10 s, a first frame 20 deviations off", mean: 3, first: 20 },
      ].map(({ name, mean, first }) =>
        sample([1, 32000, 4], 4, (v, i) => v + mean + (i < 4 ? first : 0), {
          ...{ name, tolerance: 5e-7 },
          gradientTolerance: 1e-6, // the terms of b's cancel
        }),
      ),
      sample([2, 8000, 4], 2, (v, i) => v + (i < 4 ? 10 : 1), {
        ...{ name: "two channels a group, a first frame 10 deviations off", tolerance: 5e-7 },
      }),
    ],
    bench: [
      { name: "HuBERT-base, 1 s", inputs: { x: [1, 3199, 512], w: [512], b: [512] }, args: { groups: 512 } },
    ],
    stored: [
      {
        op: /^group_norm$/,
        run: (i) => {
          // The references are (B, C, T).
          const x = transpose(i.tensor("x"));
          const y = groupNorm(x, i.tensor("w"), i.tensor("b"), i.number("groups"), i.number("eps"));
          return { out: transpose(y) };
        },
      },
    ],
  }),
];

import { type ConvOptions, conv1d, packWeight } from "../ops/conv1d.ts";
import { transpose } from "../ops/transpose.ts";
import { type Array64, columnSums } from "./float64.ts";
import { type Arrays, defineOp, inHalf, type SampleSpec } from "./op_info.ts";

/** x (B, T, C), w (O, C/groups, k), b (O), dy as y: y and the gradients. */
function convolve({ x, w, b }: Arrays, options: ConvOptions, dy?: Float64Array) {
  const { groups = 1, stride = 1, padding = 0, dilation = 1, drop = 0 } = options;
  const [B, T, C] = x.shape;
  const [O, Cg, k] = w.shape;
  const To = Math.floor((T + 2 * padding - dilation * (k - 1) - 1) / stride) + 1 - drop;
  const Og = O / groups;
  const y = new Float64Array(B * To * O);
  const dx = new Float64Array(x.data.length);
  const dw = new Float64Array(w.data.length);
  for (let s = 0; s < B; s++)
    for (let t = 0; t < To; t++)
      for (let o = 0; o < O; o++) {
        const at = (s * To + t) * O + o;
        let sum = b?.data[o] ?? 0;
        for (let j = 0; j < k; j++) {
          const frame = t * stride + j * dilation - padding;
          if (frame < 0 || frame >= T) continue;
          for (let i = 0; i < Cg; i++) {
            const xAt = (s * T + frame) * C + Math.floor(o / Og) * Cg + i;
            const wAt = (o * Cg + i) * k + j;
            sum += w.data[wAt] * x.data[xAt];
            if (!dy) continue;
            dx[xAt] += w.data[wAt] * dy[at];
            dw[wAt] += x.data[xAt] * dy[at];
          }
        }
        y[at] = sum;
      }
  return {
    y: { shape: [B, To, O], data: y },
    gradients: { x: dx, w: dw, ...(b && dy && { b: columnSums(dy, O) }) },
  };
}

/** Taps outside, channels inside, then zeros up to a multiple of four. */
function packed({ shape: [O, Cg, k], data }: Array64): Array64 {
  const Kp = Math.ceil((k * Cg) / 4) * 4;
  const y = new Float64Array(O * Kp);
  for (let o = 0; o < O; o++)
    for (let c = 0; c < Cg; c++)
      for (let j = 0; j < k; j++) y[o * Kp + j * Cg + c] = data[(o * Cg + c) * k + j];
  return { shape: [O, Kp], data: y };
}

/** x (B, T, C) to O channels by k taps; weights so small that y is near 1. */
const sample = (
  name: string,
  [B, T, C]: readonly [number, number, number],
  [O, k]: readonly [number, number],
  args: ConvOptions,
  bias: boolean,
): SampleSpec<ConvOptions> => {
  const Cg = C / (args.groups ?? 1);
  const w = { shape: [O, Cg, k], fill: (v: number) => v / Math.sqrt(Cg * k) };
  return { name, inputs: { x: [B, T, C], w, ...(bias && { b: [O] }) }, args };
};

export const records = [
  defineOp<ConvOptions>({
    name: "conv1d",
    run: ({ x, w, b }, args) => conv1d(x, w, b, args),
    reference: (inputs, args) => convolve(inputs, args).y,
    gradients: (inputs, args, dy) => convolve(inputs, args, dy).gradients,
    samples: [
      sample("grouped, odd channels", [2, 11, 9], [15, 5], { groups: 3, padding: 2 }, true),
      sample("one value", [1, 1, 1], [1, 1], {}, true),
      sample("raw audio, 10 taps, stride 5", [2, 1023, 1], [8, 10], { stride: 5 }, false),
      sample("3 taps, stride 2, frames left over", [3, 38, 8], [12, 3], { stride: 2 }, true),
      sample("2 taps, stride 2", [2, 17, 4], [8, 2], { stride: 2 }, false),
      sample("stride longer than the kernel", [2, 23, 4], [4, 2], { stride: 3 }, true),
      sample("same padding", [2, 7, 4], [8, 3], { padding: 1 }, true),
      sample("padding as long as the kernel", [1, 5, 4], [4, 3], { padding: 3 }, true),
      sample(
        "grouped, even kernel, one frame dropped",
        [2, 19, 32],
        [32, 16],
        { groups: 4, padding: 8, drop: 1 },
        true,
      ),
      sample("grouped, more outputs than inputs", [2, 9, 8], [16, 3], { groups: 2, padding: 1 }, false),
      sample("depthwise", [2, 13, 7], [7, 3], { groups: 7, padding: 1 }, true),
      sample("dilated", [2, 21, 4], [8, 3], { dilation: 4, padding: 4 }, true),
      sample(
        "dilated, strided, padded, odd",
        [2, 25, 3],
        [5, 3],
        { dilation: 2, stride: 3, padding: 2 },
        true,
      ),
      sample("odd channels", [2, 15, 5], [7, 4], {}, true),
      sample("1 tap", [1, 33, 12], [20, 1], {}, true),
      // About the size of a GPU's tiles.
      sample("raw audio", [2, 65, 1], [16, 10], { stride: 5 }, true),
      sample("strided", [2, 65, 8], [16, 3], { stride: 2 }, true),
      sample("grouped", [2, 63, 16], [16, 8], { padding: 4, groups: 4, drop: 1 }, true),
      sample("same padding, odd channels", [1, 17, 7], [9, 3], { padding: 1 }, true),
      sample("dilated, grouped", [2, 33, 6], [10, 3], { groups: 2, padding: 2, dilation: 2 }, true),
      ...[
        sample("strided", [2, 65, 8], [16, 3], { stride: 2 }, true),
        sample("grouped", [2, 19, 32], [32, 16], { groups: 4, padding: 8, drop: 1 }, true),
        sample("odd channels", [1, 17, 7], [9, 3], { padding: 1 }, true),
      ].map((each) => inHalf(each, ["x"])),
    ],
    bench: [
      {
        name: "a convolution of HuBERT-large, 1 s",
        inputs: { x: [1, 799, 512], w: { shape: [512, 512, 3], fill: (v) => v / 40 } },
        args: { stride: 2 },
        flop: 2 * 399 * 512 * 512 * 3,
      },
    ],
    stored: [
      {
        op: /^conv1d$/,
        // The references are (B, C, T).
        run: (i) => ({
          out: transpose(
            conv1d(transpose(i.tensor("x")), i.tensor("w"), i.optional("b"), {
              stride: i.number("stride", 1),
              padding: i.number("padding", 0),
              dilation: i.number("dilation", 1),
              groups: i.number("groups", 1),
            }),
          ),
        }),
      },
    ],
  }),
  defineOp<{ groups?: number }>({
    name: "packWeight",
    tolerance: 0,
    run: ({ w }, { groups }) => packWeight(w, groups),
    reference: ({ w }) => packed(w),
    gradients: ({ w }, _, dy) => {
      const places = packed({ ...w, data: w.data.map((_, i) => i + 1) });
      const dw = new Float64Array(w.data.length);
      places.data.forEach((place, i) => {
        if (place > 0) dw[place - 1] = dy[i];
      });
      return { w: dw };
    },
    samples: [
      { inputs: { w: [7, 5, 3] } },
      { inputs: { w: [1, 1, 1] } },
      { inputs: { w: [8, 4, 16] }, args: { groups: 2 } },
      inHalf({ inputs: { w: [7, 5, 3] } }),
    ],
    bench: [{ inputs: { w: [512, 512, 3] } }],
  }),
];

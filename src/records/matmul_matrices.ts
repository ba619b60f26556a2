import { f16ToF32, f32ToF16 } from "../io/dtype.ts";
import { linear } from "../ops/matmul.ts";
import { product } from "./float64.ts";
import { type Arrays, defineOp, type SampleSpec } from "./op_info.ts";

const toF16 = (v: number): number => f16ToF32(f32ToF16(Float32Array.of(v)))[0];

/** x (M, K) of values that f16 holds, so that the result is the same where products round it to f16. */
const sample = (M: number, K: number, N: number): SampleSpec<object> => ({
  inputs: { x: { shape: [M, K], fill: toF16 }, w: { shape: [N, K], dtype: "f16" } },
});

const sizes = ({ x, w }: Arrays) => ({ M: x.shape[0], N: w.shape[0], K: w.shape[1] });

export const records = [
  defineOp({
    name: "linear_f16", // linear() of f16 weights: by subgroup matrices, where the adapter has them
    run: ({ x, w }) => linear(x, w),
    reference: ({ x, w }) => {
      const { M, N, K } = sizes({ x, w });
      return { shape: [M, N], data: product(x.data, w.data, { M, N, K, transB: true }) };
    },
    gradients: ({ x, w }, _, dy) => {
      const { M, N, K } = sizes({ x, w });
      return { x: product(dy, w.data, { M, N: K, K: N }) };
    },
    samples: [
      sample(37, 129, 53),
      sample(1, 1, 1),
      sample(65, 132, 36),
      sample(32, 64, 32),
      sample(7, 1023, 9),
      sample(130, 20, 68),
    ],
    bench: [
      {
        name: "BERT-base up",
        inputs: { x: [128, 768], w: { shape: [3072, 768], dtype: "f16" } },
        flop: 2 * 128 * 768 * 3072,
      },
    ],
  }),
];

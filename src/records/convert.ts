import { bf16ToF32, f16ToF32, f32ToF16 } from "../io/dtype.ts";
import { cast, convert, halved, type GpuStoredDType } from "../ops/convert.ts";
import { linear } from "../ops/matmul.ts";
import { product, randomBits } from "./float64.ts";
import type { WeightDType } from "../tensor/tensor.ts";
import { type Arrays, defineOp, inHalf, type InputSpec } from "./op_info.ts";

interface Arguments {
  readonly from: GpuStoredDType;
  readonly size: number;
  /** Read back as f32. */
  readonly to: "f32" | "f16";
}

function values(words: Float64Array, from: GpuStoredDType, size: number): Float32Array {
  const { buffer } = Uint32Array.from(words);
  if (from === "F32") return new Float32Array(buffer, 0, size);
  const halves = new Uint16Array(buffer, 0, size);
  return from === "BF16" ? bf16ToF32(halves) : f16ToF32(halves);
}

const { buffer } = new Float32Array(1);
const [float, word] = [new Float32Array(buffer), new Uint32Array(buffer)];

/** Words of a file: random halves that are finite in either type, or the bits of normal numbers. */
const words = (count: number, from: GpuStoredDType): InputSpec => ({
  ...{ shape: [count], dtype: "u32" },
  fill: (v, i) => {
    float[0] = v;
    return from === "F32" ? word[0] : (randomBits(1, i) & 0xbbffbbff) >>> 0;
  },
});

const sample = (size: number, from: GpuStoredDType, to: "f32" | "f16") => ({
  inputs: { raw: words(Math.ceil(from === "F32" ? size : size / 2), from) },
  args: { from, size, to },
});

/** x (M, K), w (N, K) rounded to f16. */
const halves = ({ x, w }: Arrays) => ({
  ...{ M: x.shape[0], N: w.shape[0], K: w.shape[1] },
  rounded: f16ToF32(f32ToF16(Float32Array.from(w.data))),
});

export const records = [
  defineOp<{ dtype: WeightDType }>({
    name: "cast",
    tolerance: 0,
    run: ({ x }, { dtype }) => cast(x, dtype),
    reference: ({ x }, { dtype }) =>
      dtype === "f32" ? x : { ...x, data: Float64Array.from(f16ToF32(f32ToF16(Float32Array.from(x.data)))) },
    gradients: ({ x }, _, dy) => ({ x: dy.slice(0, x.data.length) }),
    samples: (["f32", "f16"] as const).flatMap((dtype) => [
      { inputs: { x: [1023] }, args: { dtype }, differences: false as const }, // those of what is rounded are steps
      { ...inHalf({ inputs: { x: [1023] }, args: { dtype } }), differences: false as const },
    ]),
    f16: true,
    bench: [{ inputs: { x: [3199, 512] }, args: { dtype: "f32" } }],
  }),
  defineOp({
    name: "halved", // in the product that it is made for: f16 cannot be read
    f16: true,
    run: ({ x, w }) => linear(x, halved(w)),
    reference: ({ x, w }) => {
      const { M, N, K, rounded } = halves({ x, w });
      return { shape: [M, N], data: product(x.data, rounded, { M, N, K, transB: true }) };
    },
    gradients: ({ x, w }, _, dy) => {
      const { M, N, K, rounded } = halves({ x, w });
      return {
        x: product(dy, rounded, { M, N: K, K: N }),
        w: product(dy, x.data, { M: N, N: K, K: M, transA: true }),
      };
    },
    samples: [
      [17, 33, 9],
      [20, 64, 40],
    ].map(([M, K, N]) => ({
      inputs: { x: [M, K], w: [N, K] },
      differences: false as const, // those of what is rounded are steps
    })),
    bench: [{ inputs: { x: [128, 768], w: [3072, 768] }, flop: 2 * 128 * 768 * 3072 }],
  }),
  defineOp<Arguments>({
    name: "convert",
    tolerance: 0,
    differentiable: false,
    run: ({ raw }, { from, size, to }) => {
      const y = convert(raw, from, [size], to);
      return to === "f16" ? convert(y, "F16", [size], "f32") : y;
    },
    reference: ({ raw }, { from, size, to }) => {
      const y = values(raw.data, from, size);
      return { shape: [size], data: Float64Array.from(to === "f16" ? f16ToF32(f32ToF16(y)) : y) };
    },
    samples: [
      sample(1023, "BF16", "f32"),
      sample(1, "BF16", "f32"),
      sample(1023, "F16", "f32"),
      sample(7, "F16", "f32"),
      sample(7, "F32", "f32"),
      sample(1023, "F32", "f16"),
      sample(8, "F16", "f16"),
      sample(257 * 513, "F32", "f16"),
      sample(257 * 513, "BF16", "f16"),
    ],
    bench: [sample(3199 * 512, "BF16", "f32")],
  }),
];

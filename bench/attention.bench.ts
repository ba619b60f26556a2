/** Fused attention, forward and backward, at the models' head sizes and the fusion's single wide head. */
import process from "node:process";
import { full } from "../src/ops/elementwise.ts";
import { selfAttention } from "../src/ops/attention.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { attention } from "../test/float64.ts";
import { normal } from "../test/reference.ts";
import { openBenchDevice, time } from "./measure.ts";

const device = await openBenchDevice();
console.log(`attention, f32, ${device.info.name}`);
for (const [what, T, H, D] of [
  ["BERT-base", 128, 12, 64],
  ["HuBERT-large, 3 s", 149, 16, 64],
  ["CmGI, one head", 149, 1, 768],
] as const) {
  const C = H * D;
  const data = normal(T * 3 * C, 1);
  const qkv = Tensor.from(device, data, [1, T, 3 * C]);
  const part = (from: number) =>
    Float32Array.from({ length: T * C }, (_, i) => data[Math.floor(i / C) * 3 * C + from + (i % C)]);
  const check = async () => {
    const y = selfAttention(qkv, { heads: H });
    const got = await y.read();
    y.release();
    const zero = new Float32Array(T * C);
    return {
      got,
      want: attention(part(0), part(C), part(2 * C), zero, {
        B: 1,
        H,
        Tq: T,
        Tk: T,
        D,
        scale: 1 / Math.sqrt(D),
      }).y,
    };
  };
  const gflop = (4 * T * T * C) / 1e9;
  await time(device, {
    name: `${what} (T ${T}, H ${H}, D ${D})  forward`,
    run: () => selfAttention(qkv, { heads: H }),
    check,
    gflop,
  });
  const dy = full(device, [1, T, C], 1);
  const step = () =>
    scope(device, () => {
      vjp(device, [qkv], () => {
        const y = selfAttention(qkv, { heads: H });
        return { outputs: [y], cotangents: [dy] };
      });
    });
  await time(device, {
    name: `${what} (T ${T}, H ${H}, D ${D})  forward + backward`,
    run: () => void step(),
    gflop: 3.5 * gflop,
  });
  qkv.release();
  dy.release();
}
process.exit(0);

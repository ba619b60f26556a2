/** Products of the models' shapes: forward, and both sides of the backward. */
import process from "node:process";
import { gemm } from "../src/ops/matmul.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { normal } from "../test/reference.ts";
import { openBenchDevice } from "./device.ts";
import { time } from "./measure.ts";

const device = await openBenchDevice();
console.log(`matmul, f32, ${device.info.name}`);
for (const [what, M, N, K] of [
  ["BERT-base qkv", 128, 2304, 768],
  ["BERT-base up", 128, 3072, 768],
  ["BERT-base down", 128, 768, 3072],
  ["HuBERT-large qkv, 3 s", 149, 3072, 1024],
  ["HuBERT-large down, 2×5 s", 498, 1024, 4096],
] as const) {
  const [x, w, dy] = [normal(M * K, 1), normal(N * K, 2), normal(M * N, 3)];
  const [tx, tw, tdy] = [
    Tensor.from(device, x, [M, K]),
    Tensor.from(device, w, [N, K]),
    Tensor.from(device, dy, [M, N]),
  ];
  const [y, dx, dw] = [
    Tensor.empty(device, [M, N]),
    Tensor.empty(device, [M, K]),
    Tensor.empty(device, [N, K]),
  ];
  const gflop = (2 * M * N * K) / 1e9;
  /** A hundred elements spread over the result. */
  const sampled = async (t: Tensor, columns: number, at: (rowStride: number, column: number) => number) => {
    const all = await t.read();
    const places = Array.from({ length: 100 }, (_, i) => (i * 7919) % all.length);
    return {
      got: places.map((i) => all[i]),
      want: places.map((i) => at(Math.floor(i / columns), i % columns)),
    };
  };
  const sum = (n: number, f: (i: number) => number) =>
    Array.from({ length: n }, (_, i) => f(i)).reduce((a, b) => a + b, 0);
  const forward = () =>
    gemm(y, tx, tw, { M, N, K, transB: true, a: { rowStride: K }, b: { rowStride: K }, y: { rowStride: N } });
  const input = () =>
    gemm(dx, tdy, tw, { M, N: K, K: N, a: { rowStride: N }, b: { rowStride: K }, y: { rowStride: K } });
  const weight = () =>
    gemm(dw, tdy, tx, {
      M: N,
      N: K,
      K: M,
      transA: true,
      a: { rowStride: N },
      b: { rowStride: K },
      y: { rowStride: K },
    });
  for (const [name, run, check] of [
    ["y = x·wᵀ", forward, () => sampled(y, N, (m, n) => sum(K, (k) => x[m * K + k] * w[n * K + k]))],
    ["dx = dy·w", input, () => sampled(dx, K, (m, k) => sum(N, (n) => dy[m * N + n] * w[n * K + k]))],
    ["dw = dyᵀ·x", weight, () => sampled(dw, K, (n, k) => sum(M, (m) => dy[m * N + n] * x[m * K + k]))],
  ] as const) {
    run();
    await time(device, { name: `${what} (${M}, ${N}, ${K})  ${name}`, run: () => void run(), check, gflop });
  }
  for (const t of [tx, tw, tdy, y, dx, dw]) t.release();
}
process.exit(0);

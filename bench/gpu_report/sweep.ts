/** Every tile of a product on the shapes of both models, forward and backward, beside the one that launch() chooses. */
import process from "node:process";
import { launch } from "../../src/gpu/launch.ts";
import { convert } from "../../src/ops/convert.ts";
import type { Gemm } from "../../src/ops/gemm.ts";
import { gemm } from "../../src/ops/matmul.ts";
import { relativeL2 } from "../../src/records/float64.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { openBenchDevice } from "../device.ts";
import { noiseTensor } from "./noise.ts";
import { race } from "./race.ts";
import { attempt, deliver, hasTime, leaveOut, quick } from "./section.ts";
import { matrixWays, threadWays, type Way } from "./ways.ts";

/** All sum in f32, in another order. */
const TOLERANCE = 1e-5;

const device = await openBenchDevice({ path: "portable" });

interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly transA?: boolean;
  readonly transB?: boolean;
}

/** In f16 a weight is f16; dw has none. With matrices those are swept, else the tiles of threads. */
async function sweep(what: string, p: Product, dtype: "f32" | "f16"): Promise<void> {
  const { M, N, K, transA = false, transB = false } = p;
  const a = noiseTensor(device, transA ? [K, M] : [M, K], 1);
  const full = noiseTensor(device, transB ? [N, K] : [K, N], 2);
  const b = dtype === "f16" && !transA ? convert(full, "F32", full.shape, "f16") : full;
  const y = Tensor.empty(device, [M, N]);
  const layouts = { a: { rowStride: transA ? M : K }, b: { rowStride: transB ? K : N }, y: { rowStride: N } };
  const given: Gemm = { ...p, ...layouts, allowF16: dtype === "f16" };
  const byMatrices = dtype === "f16" && device.info.matrices.length > 0;
  gemm(y, a, b, given);
  const expected = await y.read();
  const contenders: Way[] = [{ name: "as chosen", record: () => gemm(y, a, b, given) }];
  for (const way of (byMatrices ? matrixWays : threadWays)(y, a, b, given)) {
    const { name, record } = way;
    if (!hasTime(2)) {
      leaveOut(`${what} by ${name}`);
      continue;
    }
    await attempt(`${what}, ${dtype}, by ${name}`, async () => {
      await device.precompile(record);
      record();
      const relL2 = relativeL2(await y.read(), expected);
      if (!(relL2 <= TOLERANCE))
        throw new Error(`its result is ${relL2.toExponential(1)} from that of the tile that is chosen`);
      contenders.push(way);
    });
  }
  const times = await race(device, contenders, { rounds: 4 });
  const tiles = contenders
    .map(({ name }, i) => ({ name, ...times[i] }))
    .sort((one, other) => one.median - other.median);
  const { rows, columns } = launch(device, byMatrices ? "matmul_matrices" : "matmul", given);
  deliver({ what, dtype, shape: { M, N, K, transA, transB }, chosen: { rows, columns }, tiles });
  for (const t of new Set([a, b, full, y])) t.release();
}

const products: readonly (readonly [string, Product])[] = quick
  ? [["x·wᵀ", { M: 40, N: 96, K: 256, transB: true }]]
  : [
      ["BERT-base qkv, 64 tokens", { M: 64, N: 2304, K: 768, transB: true }],
      ["BERT-base out, 64 tokens", { M: 64, N: 768, K: 768, transB: true }],
      ["BERT-base down, 64 tokens", { M: 64, N: 768, K: 3072, transB: true }],
      ["BERT-base up, 128 tokens", { M: 128, N: 3072, K: 768, transB: true }],
      ["HuBERT-large out, 2×5 s", { M: 498, N: 1024, K: 1024, transB: true }],
      ["HuBERT-large up, 2×5 s", { M: 498, N: 4096, K: 1024, transB: true }],
      ["HuBERT-large down, 2×5 s", { M: 498, N: 1024, K: 4096, transB: true }],
      ["HuBERT-large up, dx", { M: 498, N: 1024, K: 4096 }],
      ["HuBERT-large up, dw", { M: 4096, N: 1024, K: 498, transA: true }],
      ["HuBERT-large second convolution, 2×5 s", { M: 15998, N: 512, K: 1536, transB: true }],
    ];
for (const dtype of device.info.f16 ? (["f32", "f16"] as const) : (["f32"] as const))
  for (const [what, shape] of products)
    if (hasTime(4)) await attempt(`${what}, ${dtype}`, () => sweep(what, shape, dtype));
    else leaveOut(`${what}, ${dtype}`);
process.exit(0);

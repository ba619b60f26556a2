/** Every tile of a product on the shapes of both models, forward and backward, beside the one that launch() chooses. */
import process from "node:process";
import { checkTile, GEMM_TILES, type GemmTile } from "../../src/gpu/gemm_tile.ts";
import { launch } from "../../src/gpu/launch.ts";
import { type Gemm, gemm } from "../../src/ops/matmul.ts";
import { normal, relativeL2 } from "../../src/records/float64.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { openBenchDevice } from "../device.ts";
import { race } from "./race.ts";
import { attempt, deliver, hasTime, leaveOut, quick } from "./section.ts";

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

/** All tiles that this adapter takes, with K whole and in slices of at least 128. */
function tilesFor(K: number): { name: string; tile: GemmTile }[] {
  return Object.entries(GEMM_TILES).flatMap(([name, tile]: [string, GemmTile]) =>
    [1, 2, 4, 8]
      .filter((splitK) => splitK === 1 || K >= 128 * splitK)
      .map((splitK) => ({
        name: splitK === 1 ? name : `${name}, K in ${splitK}`,
        tile: { ...tile, splitK },
      })),
  );
}

async function sweep(what: string, p: Product): Promise<void> {
  const { M, N, K, transA = false, transB = false } = p;
  const operand = (shape: readonly [number, number], seed: number) =>
    Tensor.from(device, normal(shape[0] * shape[1], seed), shape);
  const a = operand(transA ? [K, M] : [M, K], 1);
  const b = operand(transB ? [N, K] : [K, N], 2);
  const y = Tensor.empty(device, [M, N]);
  const layouts = { a: { rowStride: transA ? M : K }, b: { rowStride: transB ? K : N }, y: { rowStride: N } };
  const given: Gemm = { ...p, ...layouts };
  const chosen = launch(device, "matmul", given);
  gemm(y, a, b, given);
  const expected = await y.read();
  const contenders: { name: string; record: () => void }[] = [
    { name: "as chosen", record: () => gemm(y, a, b, given) },
  ];
  for (const { name, tile } of tilesFor(K)) {
    if (!hasTime(2)) {
      leaveOut(`${what} by ${name}`);
      continue;
    }
    await attempt(`${what} by ${name}`, async () => {
      checkTile(tile, device.info.subgroupSizes);
      const record = () => gemm(y, a, b, { ...given, tile });
      await device.precompile(record);
      record();
      const relL2 = relativeL2(await y.read(), expected);
      if (!(relL2 <= TOLERANCE))
        throw new Error(`its result is ${relL2.toExponential(1)} from that of the tile that is chosen`);
      contenders.push({ name, record });
    });
  }
  const times = await race(device, contenders, { rounds: 4 });
  const all = contenders
    .map(({ name }, i) => ({ name, ...times[i] }))
    .sort((one, other) => one.median - other.median);
  const { rows, columns, splits } = chosen;
  deliver({ what, shape: { M, N, K, transA, transB }, chosen: { rows, columns, splits }, tiles: all });
  for (const t of [a, b, y]) t.release();
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
for (const [what, shape] of products)
  if (hasTime(4)) await attempt(what, () => sweep(what, shape));
  else leaveOut(what);
process.exit(0);

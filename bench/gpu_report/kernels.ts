/** The former kernels of products and attention (bench/former/) beside those of today, on the GPUs' path, in turns. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { twin, type Twin } from "../../src/gpu/kernel.ts";
import { selfAttention } from "../../src/ops/attention.ts";
import { convert } from "../../src/ops/convert.ts";
import { gemm } from "../../src/ops/matmul.ts";
import { relativeL2 } from "../../src/records/float64.ts";
import { vjp } from "../../src/tensor/autograd.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { openBenchDevice } from "../device.ts";
import { noiseTensor } from "./noise.ts";
import { race } from "./race.ts";
import { attempt, deliver, hasTime, leaveOut, quick } from "./section.ts";

/** Both sum in f32, in another order; matrices round the f32 operand to f16 as well. */
const TOLERANCE = 1e-5;
const MATRICES_TOLERANCE = 2e-3;

const former = (name: string): Twin =>
  twin(`former/${name}`, readFileSync(new URL(`../former/${name}.wgsl`, import.meta.url), "utf8"));
const formerMatmul = former("matmul");
const formerAttention = former("attention");

// A CPU adapter's own path has other kernels; a GPU takes this one by itself.
const device = await openBenchDevice({ path: "portable" });
const random = (shape: readonly number[], seed: number) => noiseTensor(device, shape, seed);

/** Throws where the two differ by more than rounding; returns how far. */
async function agree(
  what: string,
  a: readonly Tensor[],
  b: readonly Tensor[],
  limit = TOLERANCE,
): Promise<number> {
  const far = await Promise.all(a.map(async (t, i) => relativeL2(await t.read(), await b[i].read())));
  const relL2 = Math.max(...far);
  if (!(relL2 <= limit))
    throw new Error(
      `Cannot time ${what}: the former kernel's result is ${relL2.toExponential(1)} from today's`,
    );
  return relL2;
}

interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly transA?: boolean;
  readonly transB?: boolean;
}

/** As gemm() ran it then: tiles of 64 × 64, 4 × 4 sums a thread. */
function runFormer(
  y: Tensor,
  a: Tensor,
  b: Tensor,
  { M, N, K, transA = false, transB = false }: Product,
): void {
  const lanes = { subgroups: false, ROWS: 1, LANES: 1, HELD: 1, LOADS: 1, LAST: 1 };
  const half = b.dtype === "f16";
  const type = half ? { enables: "enable f16;", W: "f16" } : { enables: "", W: "f32" };
  const flags = { ...type, vec: true, rare: false, transA, transB, mappedB: false, ...lanes };
  const none = { aBatchStride: 0, bBatchStride: 0, yBatchStride: 0, aSegmentStride: 0, bSegmentStride: 0 };
  const tail = { activation: 0, hasBias: 0, hasResidual: 0, biasBatchStride: 0, accumulate: 0, alpha: 1 };
  const rows = { aRowStride: transA ? M : K, bRowStride: transB ? K : N, yRowStride: N };
  formerMatmul.run(
    "forward",
    { a, b, bias: a, residual: a, y },
    { M, N, K, ...none, ...tail, ...rows, aSegmentRows: M, bSegmentRows: K },
    [Math.ceil(N / 64), Math.ceil(M / 64), 1],
    { flags },
  );
}

/** In f16 a weight is f16; of dw, which has none, operands may be rounded where matrices take no others. */
async function product(what: string, p: Product, dtype: "f32" | "f16"): Promise<void> {
  const { M, N, K, transA = false, transB = false } = p;
  const a = random(transA ? [K, M] : [M, K], 1);
  const full = random(transB ? [N, K] : [K, N], 2);
  const half = dtype === "f16" && !transA;
  const b = half ? convert(full, "F32", full.shape, "f16") : full;
  const [y, z] = [Tensor.empty(device, [M, N]), Tensor.empty(device, [M, N])];
  const layouts = { a: { rowStride: transA ? M : K }, b: { rowStride: transB ? K : N }, y: { rowStride: N } };
  const now = () => gemm(y, a, b, { ...p, ...layouts, allowF16: dtype === "f16" });
  const then = () => runFormer(z, a, b, p);
  now();
  then();
  const matrices = dtype === "f16" && device.info.matrices.length > 0;
  const relL2 = await agree(what, [z], [y], matrices ? MATRICES_TOLERANCE : TOLERANCE);
  const [before, after] = await race(device, [{ record: then }, { record: now }]);
  deliver({
    ...{ kernel: matrices ? "matmul, matrices" : "matmul", what, dtype, shape: { M, N, K } },
    ...{ before, after, relL2, flops: 2 * M * N * K },
  });
  for (const t of new Set([a, b, full, y, z])) t.release();
}

async function attention(
  what: string,
  [B, T, H, D]: readonly [number, number, number, number],
): Promise<void> {
  const C = H * D;
  const [qkv, dO] = [random([B, T, 3 * C], 1), random([B, T, C], 2)];
  const [o, lse, delta, dqkv] = [
    [B, T, C],
    [B, H, T],
    [B, H, T],
    [B, T, 3 * C],
  ].map((shape) => Tensor.empty(device, shape));
  const mask = Tensor.from(device, new Uint32Array([1]), [1]);
  const WG = 64;
  const flags = { enables: "", vec: true, subgroups: false, HELD: 16, LOADS: 1 };
  const variant = { flags, overrides: { WG } };
  const row = { qRow: 3 * C, kRow: 3 * C, vRow: 3 * C, qStart: 0, kStart: C, vStart: 2 * C };
  const dims = {
    ...{ B, H, Tq: T, Tk: T, D, quads: D / 4, ...row },
    ...{ hasMask: 0, scale: 1 / Math.sqrt(D), seed: 0, dropBelow: 0, keep: 1 },
  };
  const grid = [Math.ceil(T / WG), H, B] as const;
  const given = { q: qkv, k: qkv, v: qkv, mask };
  const formerForward = () => formerAttention.run("forward", { ...given, o, lse }, dims, grid, variant);
  const formerStep = () => {
    formerForward();
    formerAttention.run("backward_delta", { savedO: o, dO, delta }, dims, grid, variant);
    const saved = { ...given, savedLse: lse, savedDelta: delta, dO };
    formerAttention.run("backward_q", { ...saved, dq: dqkv }, dims, grid, variant);
    formerAttention.run("backward_kv", { ...saved, dkv: dqkv }, dims, grid, variant);
  };
  const forward = () => selfAttention(qkv, { heads: H });
  const step = () => vjp(device, [qkv], () => ({ outputs: [forward()], cotangents: [dO] }));
  const { y, gradient } = scope(device, () => {
    const { outputs, gradients } = step();
    return { y: outputs[0], gradient: gradients.get(qkv) as Tensor };
  });
  formerStep();
  const relL2 = await agree(what, [o, dqkv], [y, gradient]);
  const shape = { B, T, H, D };
  const drop = (body: () => unknown) => () =>
    scope(device, () => {
      body();
      return undefined;
    });
  const forwards = await race(device, [{ record: formerForward }, { record: drop(forward) }]);
  // Two products of every query with every key.
  const flops = 4 * B * H * T * T * D;
  deliver({
    kernel: "attention",
    what,
    dtype: "f32",
    shape,
    before: forwards[0],
    after: forwards[1],
    relL2,
    flops,
  });
  const steps = await race(device, [{ record: formerStep }, { record: drop(step) }]);
  deliver({
    ...{
      kernel: "attention",
      what: `${what}, forward and backward`,
      dtype: "f32",
      shape,
      relL2,
      flops: 4.5 * flops,
    },
    ...{ before: steps[0], after: steps[1] },
  });
  for (const t of [qkv, dO, o, lse, delta, dqkv, mask, y, gradient]) t.release();
}

const products: readonly (readonly [string, Product])[] = quick
  ? [
      ["x·wᵀ", { M: 64, N: 96, K: 64, transB: true }],
      ["dy·w", { M: 64, N: 64, K: 96 }],
      ["dyᵀ·x", { M: 96, N: 64, K: 64, transA: true }],
    ]
  : [
      ["BERT-base qkv, 64 tokens", { M: 64, N: 2304, K: 768, transB: true }],
      ["BERT-base down, 64 tokens", { M: 64, N: 768, K: 3072, transB: true }],
      ["BERT-base up, 128 tokens", { M: 128, N: 3072, K: 768, transB: true }],
      ["HuBERT-large out, 2×5 s", { M: 498, N: 1024, K: 1024, transB: true }],
      ["HuBERT-large up, 2×5 s", { M: 498, N: 4096, K: 1024, transB: true }],
      ["HuBERT-large down, 2×5 s", { M: 498, N: 1024, K: 4096, transB: true }],
      ["HuBERT-large up, dx", { M: 498, N: 1024, K: 4096 }],
      ["HuBERT-large up, dw", { M: 4096, N: 1024, K: 498, transA: true }],
      ["HuBERT-large second convolution, 2×5 s", { M: 15998, N: 512, K: 1536, transB: true }],
    ];
const heads: readonly (readonly [string, readonly [number, number, number, number]])[] = quick
  ? [["2 heads", [1, 33, 2, 16]]]
  : [
      ["BERT-base, 64 tokens", [1, 64, 12, 64]],
      ["BERT-base, 128 tokens", [1, 128, 12, 64]],
      ["HuBERT-large, 2×5 s", [2, 249, 16, 64]],
      ["HuBERT-large, 15 s", [1, 749, 16, 64]],
    ];
for (const [what, shape] of heads)
  if (hasTime(3)) await attempt(what, () => attention(what, shape));
  else leaveOut(what);
for (const dtype of device.info.f16 ? (["f32", "f16"] as const) : (["f32"] as const))
  for (const [what, shape] of products)
    if (hasTime(3)) await attempt(`${what}, ${dtype}`, () => product(what, shape, dtype));
    else leaveOut(`${what}, ${dtype}`);
process.exit(0);

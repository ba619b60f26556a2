/** The former kernels of products and attention (bench/former/) beside those of today, on the GPUs' path, in turns. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { twin, type Twin } from "../../src/gpu/kernel.ts";
import { selfAttention } from "../../src/ops/attention.ts";
import { gemm } from "../../src/ops/matmul.ts";
import { relativeL2 } from "../../src/records/float64.ts";
import { normal } from "../../src/records/float64.ts";
import { vjp } from "../../src/tensor/autograd.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { openBenchDevice } from "../device.ts";
import { race } from "./race.ts";
import { attempt, deliver, hasTime, leaveOut, quick } from "./section.ts";

/** Both sum in f32, in another order. */
const TOLERANCE = 1e-5;

const former = (name: string): Twin =>
  twin(`former/${name}`, readFileSync(new URL(`../former/${name}.wgsl`, import.meta.url), "utf8"));
const formerMatmul = former("matmul");
const formerAttention = former("attention");

// A CPU adapter's own path has other kernels; a GPU takes this one by itself.
const device = await openBenchDevice({ path: "portable" });
const random = (shape: readonly number[], seed: number) => {
  const size = shape.reduce((n, d) => n * d, 1);
  return Tensor.from(device, normal(size, seed), shape);
};

/** Throws where the two differ by more than rounding; returns how far. */
async function agree(what: string, a: readonly Tensor[], b: readonly Tensor[]): Promise<number> {
  const far = await Promise.all(a.map(async (t, i) => relativeL2(await t.read(), await b[i].read())));
  const relL2 = Math.max(...far);
  if (!(relL2 <= TOLERANCE))
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
  const flags = { enables: "", vec: true, W: "f32", rare: false, transA, transB, mappedB: false, ...lanes };
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

async function product(what: string, p: Product): Promise<void> {
  const { M, N, K, transA = false, transB = false } = p;
  const a = random(transA ? [K, M] : [M, K], 1);
  const b = random(transB ? [N, K] : [K, N], 2);
  const [y, z] = [Tensor.empty(device, [M, N]), Tensor.empty(device, [M, N])];
  const layouts = { a: { rowStride: transA ? M : K }, b: { rowStride: transB ? K : N }, y: { rowStride: N } };
  const now = () => gemm(y, a, b, { ...p, ...layouts });
  const then = () => runFormer(z, a, b, p);
  now();
  then();
  const relL2 = await agree(what, [z], [y]);
  const [before, after] = await race(device, [{ record: then }, { record: now }]);
  deliver({ kernel: "matmul", what, shape: { M, N, K }, before, after, relL2, flops: 2 * M * N * K });
  for (const t of [a, b, y, z]) t.release();
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
  deliver({ kernel: "attention", what, shape, before: forwards[0], after: forwards[1], relL2, flops });
  const steps = await race(device, [{ record: formerStep }, { record: drop(step) }]);
  deliver({
    ...{ kernel: "attention", what: `${what}, forward and backward`, shape, relL2, flops: 4.5 * flops },
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
for (const [what, shape] of products)
  if (hasTime(3)) await attempt(what, () => product(what, shape));
  else leaveOut(what);
process.exit(0);

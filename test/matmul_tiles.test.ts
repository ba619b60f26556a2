/** Products by tiles, what a GPU gets, on the adapter at hand. Small tiles stand for large ones, which compile for seconds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkTile, GEMM_TILES, type GemmTile, threadsOf, workgroupBytes } from "../src/gpu/gemm_tile.ts";
import { cast, convert } from "../src/ops/convert.ts";
import { f16ToF32, f32ToF16 } from "../src/io/dtype.ts";
import { sizeClass } from "../src/gpu/pool.ts";
import { full } from "../src/ops/elementwise.ts";
import type { Gemm } from "../src/ops/gemm.ts";
import { gemm } from "../src/ops/matmul.ts";
import { activations, product } from "../src/records/float64.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { near } from "./ops_fixture.ts";
import { normal } from "./reference.ts";

const device = await testDevice({ path: "portable" });

type Sizes = Pick<Gemm, "M" | "N" | "K" | "batch" | "transA" | "transB">;

/** op(A)·op(B) of normal numbers by a tile, beside float64; `extras` stand for the tail. */
async function check(tile: GemmTile, sizes: Sizes, extras: Partial<Gemm> = {}, tail = (v: number) => v) {
  const { M, N, K, batch = 1, transA = false, transB = false } = sizes;
  const [a, b] = [normal(batch * M * K, 1), normal(batch * N * K, 2)];
  const run = async () => {
    const y = scope(device, () => {
      const [ta, tb] = [Tensor.from(device, a, [batch, M, K]), Tensor.from(device, b, [batch, N, K])];
      const y = full(device, [batch, M, N], 10);
      gemm(y, ta, tb, {
        ...{ ...sizes, ...extras, tile },
        a: { rowStride: transA ? M : K, batchStride: M * K },
        b: { rowStride: transB ? K : N, batchStride: N * K },
        y: { rowStride: N, batchStride: M * N },
      });
      return y;
    });
    const values = await y.read();
    y.release();
    return values;
  };
  const got = await run();
  const at = (x: Float32Array, z: number, size: number) =>
    Float64Array.from(x.subarray(z * size, (z + 1) * size));
  const want = Array.from({ length: batch }, (_, z) => [
    ...product(at(a, z, M * K), at(b, z, N * K), { M, N, K, transA, transB }),
  ]).flat();
  const what = `y by ${JSON.stringify(tile)} of ${JSON.stringify(sizes)}`;
  near(got, want.map(tail), 2e-6, what);
  assert.deepEqual(await run(), got, `${what}, the second time`);
}

const TRANSPOSES = [
  { transA: false, transB: true },
  { transA: false, transB: false },
  { transA: true, transB: false },
  { transA: true, transB: true },
] as const;

/** The tiles are the same text under both runtimes, which compile it for seconds: Deno tries the first of them. */
const most = "Deno" in globalThis ? 1 : Number.POSITIVE_INFINITY;

/** One quad a thread and load each; then two quads of rows and of columns; then two of k. */
const SMALL: readonly GemmTile[] = [
  { BM: 16, BN: 16, BK: 4, TM: 4, TN: 4, splitK: 1 },
  { BM: 32, BN: 16, BK: 4, TM: 8, TN: 4, splitK: 1 },
  { BM: 16, BN: 32, BK: 4, TM: 4, TN: 8, splitK: 1 },
  { BM: 16, BN: 32, BK: 8, TM: 4, TN: 4, splitK: 1 },
];

for (const [i, tile] of SMALL.slice(0, most).entries())
  for (const splitK of i === 0 ? [1, 3] : [1])
    test(`gemm() by tiles of ${JSON.stringify({ ...tile, splitK })} agrees with float64`, async () => {
      for (const trans of i === 0 ? TRANSPOSES : [TRANSPOSES[0], TRANSPOSES[2]])
        for (const [M, N, K] of [
          [36, 44, 4],
          [64, 64, 48],
          [4, 68, 52],
          [100, 4, 20],
          [37, 45, 50],
          [5, 3, 1],
          [8, 12, 3],
          [1, 33, 101],
        ])
          await check({ ...tile, splitK }, { M, N, K, ...trans });
    });

test("gemm() by tiles takes each product of a batch", async () => {
  for (const splitK of [1, 3])
    for (const trans of TRANSPOSES)
      await check({ ...SMALL[0], splitK }, { M: 20, N: 36, K: 64, batch: 3, ...trans });
});

test("gemm() agrees with float64 by every tile that launch() chooses among", async () => {
  for (const [i, tile] of Object.values(GEMM_TILES).slice(-most).entries())
    await check(tile, { M: 132, N: 68, K: 36, ...TRANSPOSES[i % TRANSPOSES.length] });
});

test("gemm() puts the tail after the sum over all slices of K", async () => {
  for (const splitK of [1, 3])
    for (const [M, N, K] of [
      [20, 36, 64],
      [7, 9, 33],
    ]) {
      const [bias, residual] = [full(device, [N], 2), full(device, [M, N], 100)];
      const tail = { bias, residual, alpha: 0.5, accumulate: true, activation: "relu" } as const;
      await check(
        { ...SMALL[0], splitK },
        { M, N, K, transB: true },
        tail,
        (v) => Math.max(0, 0.5 * v + 2) + 110,
      );
      for (const t of [bias, residual]) t.release();
    }
});

test("gemm() by tiles reads rows of A and of B in segments", async () => {
  // Samples of frames, windows of 3 at every second frame. By steps of 4 k's: segments of one step; longer ones, whose edges
  // lie anywhere in a step; shorter ones.
  for (const [samples, windows, C] of [
    [2, 4, 4],
    [5, 7, 4],
    [3, 6, 3],
    [6, 3, 4],
    [7, 1, 3],
  ])
    for (const splitK of windows < SMALL[0].BK ? [1] : [1, 3]) {
      const [T, N, tile] = [2 * windows + 1, 8, { ...SMALL[0], splitK }];
      const x = normal(samples * T * C, 1);
      const rows = Array.from({ length: samples * windows }, (_, r) => {
        const from = Math.floor(r / windows) * T * C + (r % windows) * 2 * C;
        return [...x.subarray(from, from + 3 * C)];
      }).flat();
      const [M, K] = [samples * windows, 3 * C];
      const layout = { rowStride: 2 * C, segmentRows: windows, segmentStride: T * C };
      const [w, dy] = [normal(N * K, 2), normal(M * N, 3)];
      const [y, dw] = scope(device, () => {
        const tx = Tensor.from(device, x, [samples, T, C]);
        const y = Tensor.empty(device, [M, N]);
        const at = { transB: true, a: layout, b: { rowStride: K }, y: { rowStride: N } };
        gemm(y, tx, Tensor.from(device, w, [N, K]), { M, N, K, tile, ...at });
        const dw = Tensor.empty(device, [N, K]);
        const turned = { transA: true, a: { rowStride: N }, b: layout, y: { rowStride: K } };
        gemm(dw, Tensor.from(device, dy, [M, N]), tx, { M: N, N: K, K: M, tile, ...turned });
        return [y, dw];
      });
      const [r, wide, dys] = [rows, [...w], [...dy]].map((v) => Float64Array.from(v));
      const what = `of ${samples} samples of ${windows} windows of ${C} channels in ${splitK} slices`;
      near(await y.read(), product(r, wide, { M, N, K, transB: true }), 2e-6, `y ${what}`);
      near(await dw.read(), product(dys, r, { M: N, N: K, K: M, transA: true }), 2e-6, `dw ${what}`);
      for (const t of [y, dw]) t.release();
    }
});

test("gemm() by tiles counts nothing that lies behind its operands", async () => {
  for (const trans of [TRANSPOSES[0], TRANSPOSES[2]])
    for (const [M, N, K] of [
      [12, 20, 36],
      [20, 12, 4],
      [5, 7, 9],
      [4, 4, 1],
    ]) {
      // The pool hands these buffers out again, and what A and B do not fill of theirs is still NaN.
      const floats = [M * K, N * K].map((size) => sizeClass(4 * size) / 4);
      const poison = floats.map((size) =>
        Tensor.from(device, new Float32Array(size).fill(Number.NaN), [size]),
      );
      for (const t of poison) t.release();
      await check(SMALL[3], { M, N, K, ...trans });
    }
});

test("gemm() by tiles converts f16 weights", async (t) => {
  if (!device.info.f16) return t.skip(`${device.info.name} has no f16`);
  const { M, N, K } = { M: 12, N: 20, K: 24 };
  const [a, b] = [normal(M * K, 1), Float32Array.from(normal(N * K, 2), (v) => Math.round(64 * v) / 64)];
  const y = scope(device, () => {
    const y = Tensor.empty(device, [M, N]);
    const tb = convert(Tensor.from(device, b, [N, K]), "F32", [N, K], "f16");
    const at = { transB: true, a: { rowStride: K }, b: { rowStride: K }, y: { rowStride: N } };
    gemm(y, Tensor.from(device, a, [M, K]), tb, { M, N, K, tile: SMALL[0], ...at });
    return y;
  });
  near(
    await y.read(),
    product(Float64Array.from(a), Float64Array.from(b), { M, N, K, transB: true }),
    2e-6,
    "y",
  );
  y.release();
});

test("gemm() by tiles adds up f16 in f32 and stores the slopes of an activation, also over slices of K", async (t) => {
  if (!device.info.f16) return t.skip(`${device.info.name} has no f16`);
  const { f, slope } = activations.gelu;
  const rounded = (size: number, seed: number) => f16ToF32(f32ToF16(normal(size, seed)));
  for (const splitK of [1, 3])
    for (const [M, N, K] of [
      [12, 20, 24],
      [5, 7, 18],
    ]) {
      const [a, b] = [rounded(M * K, 1), rounded(N * K, 2)];
      const sums = product(Float64Array.from(a), Float64Array.from(b), { M, N, K, transB: true });
      const [y, slopes] = scope(device, () => {
        const half = (x: Float32Array, shape: number[]) => cast(Tensor.from(device, x, shape), "f16");
        const [y, slopes] = [Tensor.empty(device, [M, N], "f16"), Tensor.empty(device, [M, N], "f16")];
        gemm(y, half(a, [M, K]), half(b, [N, K]), {
          ...{ M, N, K, transB: true, tile: { ...SMALL[0], splitK }, activation: "gelu", slopes },
          ...{ a: { rowStride: K }, b: { rowStride: K }, y: { rowStride: N } },
        });
        return [cast(y, "f32"), cast(slopes, "f32")];
      });
      near(await y.read(), sums.map(f), 5e-4, `y of ${[M, N, K]} in ${splitK} slices`);
      near(await slopes.read(), sums.map(slope), 5e-4, `slopes of ${[M, N, K]} in ${splitK} slices`);
      for (const t of [y, slopes]) t.release();
    }
});

test("tiles fit into what WebGPU grants every device", () => {
  for (const tile of Object.values(GEMM_TILES)) {
    checkTile(tile);
    assert.ok(threadsOf(tile) <= 256, `${threadsOf(tile)} threads`);
    assert.ok(workgroupBytes(tile) <= 16384, `${workgroupBytes(tile)} bytes`);
  }
});

test("gemm() says which tiles cannot be", () => {
  const cannot = (change: Partial<GemmTile>, why: string) => {
    const tile = { ...GEMM_TILES.usual, ...change };
    assert.throws(() => checkTile(tile, [8, 16]), {
      name: "RangeError",
      message: `Cannot take tile ${JSON.stringify(tile)}: ${why}`,
    });
  };
  cannot({ BK: 6 }, "BK is 6, a power of two of at least 4 expected");
  cannot({ TM: 2 }, "TM is 2, a power of two of at least 4 expected");
  cannot({ splitK: 0 }, "splitK is 0, a whole number of at least 1 expected");
  cannot({ TM: 128 }, "a thread computes more of it than a workgroup");
  cannot({ subgroup: 32 }, "subgroups have 8, 16");
  cannot({ BK: 4 }, "128 threads cannot share the 64 loads of A");
  cannot({ BM: 16, TM: 16, BN: 256, TN: 16, BK: 16 }, "16 threads cannot share the 1024 loads of B");
});

/**
 * Products by subgroup matrices, which no CPU adapter has: the same kernel with a stand-in for the matrix type, against
 * float64 on operands that are rounded to f16; and as it is, compiled on Dawn's null backend.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { launch } from "../src/gpu/launch.ts";
import { MATRIX_TILES, matrixTile } from "../src/gpu/matrix_tile.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { f16ToF32, f32ToF16 } from "../src/io/dtype.ts";
import { halved } from "../src/ops/convert.ts";
import { full } from "../src/ops/elementwise.ts";
import type { Gemm } from "../src/ops/gemm.ts";
import { gemm, linear } from "../src/ops/matmul.ts";
import { activations, normal, product, relativeL2 } from "../src/records/float64.ts";
import { selectRecords, loadRecords } from "../src/records/mod.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { CONFIGS, nullDevice, setMatrices, show, standInDevice } from "./matrix_device.ts";
import { assertSample } from "./records_fixture.ts";

const device = await standInDevice();
/** What sums in f32 round off. */
const LIMIT = 1e-6;

/** Values that f16 holds. */
const halves = (size: number, seed: number): Float32Array => f16ToF32(f32ToF16(normal(size, seed)));

function near(got: ArrayLike<number>, want: ArrayLike<number>, what: string): void {
  const distance = relativeL2(Float64Array.from(got), Float64Array.from(want));
  assert.ok(distance <= LIMIT, `${what} is ${distance} from float64`);
}

const rounded = (x: Float32Array): Float32Array => f16ToF32(f32ToF16(x));

/**
 * linear(x, halved(w)) with its gradients. No operand is one that f16 holds: what agrees with the product of those that are
 * rounded to it went by matrices.
 */
async function checkLinear(M: number, K: number, N: number): Promise<void> {
  const [x, w, dy] = [normal(M * K, 1), normal(N * K, 2), normal(M * N, 3)];
  const { y, dx, dw } = scope(device, () => {
    const [tx, tw] = [Tensor.from(device, x, [M, K]), Tensor.from(device, w, [N, K])];
    const { outputs, gradients } = vjp(device, [tx, tw], () => ({
      outputs: [linear(tx, halved(tw))],
      cotangents: [Tensor.from(device, dy, [M, N])],
    }));
    return { y: outputs[0], dx: gradients.get(tx)!, dw: gradients.get(tw)! };
  });
  const [hx, hw, hdy] = [x, w, dy].map(rounded);
  const what = `of ${M}×${K}×${N} by ${show(device.info.matrices[0])}`;
  near(await y.read(), product(hx, hw, { M, N, K, transB: true }), `y ${what}`);
  near(await dx.read(), product(hdy, hw, { M, N: K, K: N }), `dx ${what}`);
  near(await dw.read(), product(hdy, hx, { M: N, N: K, K: M, transA: true }), `dw ${what}`);
  for (const t of [y, dx, dw]) t.release();
}

for (const config of CONFIGS)
  test(`linear() by ${show(config)} matrices agrees with float64, forward and backward`, async () => {
    setMatrices(device, config);
    for (const [M, K, N] of [
      [37, 40, 44],
      [1, 4, 4],
      [68, 132, 36],
      [32, 64, 32],
    ])
      await checkLinear(M, K, N);
  });

test("linear() by matrices loads single elements where a side does not divide by 4", async () => {
  setMatrices(device, CONFIGS[0]);
  for (const [M, K, N] of [
    [33, 67, 35],
    [1, 1, 1],
    [5, 130, 33],
  ])
    await checkLinear(M, K, N);
});

/** Σ of each z, in f64, of what gemm() is told. */
function reference(a: Float32Array, b: Float32Array, p: Gemm): Float64Array {
  const { M, N, K, batch = 1, transA, transB, alpha = 1 } = p;
  const row = (r: number, z: number, l: Gemm["a"]): number => {
    const rows = l.segmentRows ?? Number.POSITIVE_INFINITY;
    const segment = rows === Number.POSITIVE_INFINITY ? 0 : Math.floor(r / rows);
    const within = segment === 0 ? r : r - segment * rows;
    return z * (l.batchStride ?? 0) + segment * (l.segmentStride ?? 0) + within * l.rowStride;
  };
  const y = new Float64Array(batch * M * N);
  for (let z = 0; z < batch; z++)
    for (let m = 0; m < M; m++)
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++)
          sum +=
            a[transA ? row(k, z, p.a) + m : row(m, z, p.a) + k] *
            b[transB ? row(n, z, p.b) + k : row(k, z, p.b) + n];
        y[(z * M + m) * N + n] = alpha * sum;
      }
  return y;
}

/** gemm() of operands that f16 holds, added to `start`. */
async function runGemm(a: Float32Array, b: Float32Array, p: Gemm, start = 0): Promise<Float32Array> {
  const y = scope(device, () => {
    const sum = full(device, [(p.batch ?? 1) * p.M * p.N], start);
    gemm(sum, Tensor.from(device, a, [a.length]), Tensor.from(device, b, [b.length]), {
      ...p,
      allowF16: true,
    });
    return sum;
  });
  const values = await y.read();
  y.release();
  return values;
}

test("gemm() goes through the overlapping rows of a convolution, forward and backward", async () => {
  setMatrices(device, CONFIGS[0]);
  // Two samples of 13 frames of 4 channels; 6 windows of 3 frames, 2 apart.
  const x = halves(2 * 13 * 4, 1);
  const frames = { rowStride: 8, segmentRows: 6, segmentStride: 52 };
  const [M, K, N] = [12, 12, 20];
  const up: Gemm = { ...{ M, N, K, transB: true, a: frames }, b: { rowStride: K }, y: { rowStride: N } };
  const w = halves(N * K, 2);
  near(await runGemm(x, w, up), reference(x, w, up), "y");
  const dy = halves(M * N, 3);
  const down: Gemm = {
    ...{ M: N, N: K, K: M, transA: true },
    ...{ a: { rowStride: N }, b: frames, y: { rowStride: K } },
  };
  near(await runGemm(dy, x, down), reference(dy, x, down), "dw");
});

for (const vec of [true, false])
  test(`gemm() applies alpha, bias, activation and residual, and accumulates${vec ? "" : ", where sides are odd"}`, async () => {
    setMatrices(device, CONFIGS[1]);
    const [M, K, N] = vec ? [18, 12, 20] : [17, 11, 19];
    const [a, b, bias, residual] = [halves(M * K, 1), halves(N * K, 2), normal(N, 3), normal(M * N, 4)];
    for (const activation of ["gelu", "gelu_tanh", "tanh", "relu", "sigmoid"] as const) {
      const p: Gemm = {
        ...{ M, N, K, transB: true, alpha: 0.5 },
        ...{ a: { rowStride: K }, b: { rowStride: K }, y: { rowStride: N } },
      };
      const sums = reference(a, b, p);
      const { f } = activations[activation];
      const want = sums.map((v, i) => f(v + bias[i % N]) + residual[i] + 3);
      const [tb, tr] = [Tensor.from(device, bias, [N]), Tensor.from(device, residual, [M, N])];
      const got = await runGemm(a, b, { ...p, activation, bias: tb, residual: tr, accumulate: true }, 3);
      near(got, want, activation);
      for (const t of [tb, tr]) t.release();
    }
  });

test("gemm() takes batches, in tiles of every size", async () => {
  for (const [Z, M, K, N, config] of [
    [1, 20, 36, 68, CONFIGS[1]], // 32×32
    [40, 65, 20, 124, CONFIGS[1]], // 64×64
    [128, 68, 12, 100, CONFIGS[0]], // 128×128
  ] as const) {
    setMatrices(device, config);
    const p: Gemm = {
      ...{ M, N, K, batch: Z, alpha: 0.25 },
      a: { rowStride: K, batchStride: M * K },
      b: { rowStride: N, batchStride: K * N },
      y: { rowStride: N, batchStride: M * N },
    };
    const [a, b] = [halves(Z * M * K, 1), halves(Z * K * N, 2)];
    near(await runGemm(a, b, p), reference(a, b, p), `${Z} products of ${M}×${K}×${N}`);
  }
  const tile = (M: number, N: number) => launch(device, "matmul_matrices", { M, N });
  assert.deepEqual(
    [tile(20, 68), tile(1024, 512), tile(2048, 1024)].map((t) => t.rows),
    [32, 64, 128],
  );
});

test("operators with f16 weights are within the rounding of f16 by matrices", async (t) => {
  setMatrices(device, CONFIGS[0]);
  const records = selectRecords(await loadRecords(), ["linear", "halved"]);
  const samples = records.flatMap((record) => record.samples).filter((sample) => sample.f16);
  assert.ok(samples.length >= 4);
  for (const sample of samples) await assertSample(device, sample);
  t.diagnostic(`${samples.length} samples`);
});

test("linear() by matrices makes of values beyond f16 no finite ones, and of no columns a bias", async () => {
  setMatrices(device, CONFIGS[0]);
  const x = Tensor.from(device, Float32Array.of(1e5, 1, 1, 1, 2, 2, 2, 2), [2, 4]);
  const w = halved(full(device, [4, 4], 1));
  const y = linear(x, w);
  const values = await y.read();
  assert.ok(values.subarray(0, 4).every((v) => !Number.isFinite(v)));
  assert.deepEqual([...values.subarray(4)], [8, 8, 8, 8]);
  const bias = Tensor.from(device, Float32Array.of(1, 2, 3, 4), [4]);
  const none = linear(Tensor.empty(device, [1, 0]), Tensor.empty(device, [4, 0], "f16"), bias);
  assert.deepEqual([...(await none.read())], [1, 2, 3, 4]);
  for (const t of [x, w, y, bias, none]) t.release();
});

test("linear() by matrices gives the same bits every time", async () => {
  setMatrices(device, CONFIGS[0]);
  const [x, w] = [
    Tensor.from(device, normal(37 * 40, 1), [37, 40]),
    Tensor.from(device, normal(44 * 40, 2), [44, 40]),
  ];
  const h = halved(w);
  const ys = [linear(x, h), linear(x, h)];
  assert.deepEqual(await ys[0].read(), await ys[1].read());
  for (const t of [x, w, h, ...ys]) t.release();
});

// By Dawn, which is the same under Deno.
test("the kernel of matrices compiles for each configuration", { skip: "Deno" in globalThis }, async () => {
  const device = await nullDevice();
  // The backend has 16 KiB of workgroup memory: of the largest tile, a quarter.
  const tiles = [{ ...MATRIX_TILES[0], SM: 1, SN: 2 }, ...MATRIX_TILES.slice(1)];
  const types = [
    ["f32", "f16", "f32"],
    ["f32", "f32", "f32"],
    ["f16", "f16", "f16"],
  ];
  for (const config of CONFIGS) {
    setMatrices(device, config);
    for (const tile of tiles)
      for (const [transA, transB] of [
        [false, true],
        [false, false],
        [true, false],
      ])
        for (const vec of [true, false])
          for (const [X, W, Y] of types) {
            const { flags } = matrixTile(device.info, config, tile, { transA, transB });
            assert.equal(flags.sized, true);
            const kinds = { X, W, Y, vec, wholeQuads: vec && !transA, mappedB: transA, slope: transB };
            device.kernels.pipeline("matmul_matrices", "forward", {
              flags: { ...kinds, transA, transB, ...flags },
            });
            await device.idle();
          }
  }
  assert.equal(device.kernels.size, CONFIGS.length * tiles.length * 3 * 2 * types.length);
});

test("openDevice() takes the matrices that the kernel can use, largest first, and none where told so", async () => {
  const host = await currentHost();
  const offered = [
    { componentType: "f16", resultComponentType: "f32", M: 16, N: 8, K: 16 },
    { componentType: "f16", resultComponentType: "f16", M: 16, N: 16, K: 16 },
    { componentType: "i8", resultComponentType: "i32", M: 16, N: 16, K: 32 },
    { componentType: "f16", resultComponentType: "f32", M: 16, N: 16, K: 16 },
    { componentType: "f16", resultComponentType: "f32", M: 64, N: 16, K: 16 },
  ];
  const needed = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];
  const limitsOf = ({ limits }: GPUAdapter) => {
    const found: Record<string, unknown> = {};
    for (const name in limits) found[name] = limits[name as keyof GPUSupportedLimits];
    return found;
  };
  const fake = (sizes: [number, number], features: string[], limits = {}): Host => ({
    ...host,
    async gpu(options) {
      const found = (await (await host.gpu(options)).requestAdapter())!;
      const info = {
        ...{
          vendor: "made up",
          architecture: "",
          device: "",
          description: "made up",
          isFallbackAdapter: false,
        },
        ...{ subgroupMinSize: sizes[0], subgroupMaxSize: sizes[1], subgroupMatrixConfigs: offered },
      };
      const adapter = {
        ...{ info, limits: { ...limitsOf(found), ...limits }, features: new Set(features) },
        requestDevice: () => found.requestDevice(),
      };
      return { requestAdapter: async () => adapter } as unknown as GPU;
    },
  });
  const matrices = async (
    ...[sizes, features, options, limits]: [[number, number], string[], object?, object?]
  ) => {
    const opened = await openDevice(fake(sizes, features, limits), options);
    opened.dispose();
    return opened.info.matrices.map(show);
  };
  assert.deepEqual(await matrices([32, 32], needed), ["16×16×16", "16×8×16"]);
  assert.deepEqual(await matrices([32, 32], needed, { matrices: false }), []);
  assert.deepEqual(await matrices([32, 32], needed.slice(0, 2)), []);
  assert.deepEqual(await matrices([32, 32], needed, {}, { maxComputeWorkgroupStorageSize: 16384 }), []);
  // How many lanes a subgroup has must be known.
  assert.deepEqual(await matrices([8, 32], needed), []);
  assert.deepEqual(await matrices([8, 32], [...needed, "subgroup-size-control"]), ["16×16×16", "16×8×16"]);
});

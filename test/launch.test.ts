import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import type { DeviceInfo } from "../src/gpu/adapter.ts";
import { GEMM_TILES } from "../src/gpu/gemm_tile.ts";
import { gemmTile, gridFor, KERNELS, launch } from "../src/gpu/launch.ts";

const info: DeviceInfo = {
  ...{ name: "made up", vendor: "", architecture: "", f16: true, timestamps: true },
  ...{ cpu: false, subgroup: 0, subgroupSizes: [], matrices: [], path: "portable" },
};
const gpu = { info };
const gpuWithSubgroups = { info: { ...info, subgroup: 32, path: "subgroups" as const } };
const cpu = { info: { ...info, cpu: true, path: "cpu" as const } };
const lavapipe = { info: { ...info, cpu: true, subgroup: 8, path: "subgroups" as const } };
const all = [gpu, gpuWithSubgroups, cpu, lavapipe];

test("launch() has an entry for every kernel of the package, and no other", () => {
  const files = readdirSync(new URL("../kernels", import.meta.url)).filter((name) => name.endsWith(".wgsl"));
  assert.deepEqual([...KERNELS].sort(), files.map((name) => name.replace(/\.wgsl$/, "")).sort());
});

test("launch() gives workgroups of 8 threads on a CPU and of 64 or 256 on a GPU", () => {
  const threads = (choose: (on: typeof gpu) => { WG: number }) => all.map((on) => choose(on).WG);
  assert.deepEqual(
    threads((on) => launch(on, "softmax", { N: 1, C: 5 }).overrides),
    [64, 64, 8, 8],
  );
  assert.deepEqual(
    threads((on) => launch(on, "optimizer", { quads: 1 })),
    [256, 256, 8, 8],
  );
  assert.deepEqual(
    threads((on) => launch(on, "ctc.lattice", { S: 5 }).overrides),
    [256, 256, 8, 8],
  );
  assert.deepEqual(
    threads((on) => launch(on, "elementwise", { quads: 1 })),
    [64, 64, 64, 64],
  );
  assert.deepEqual(
    threads((on) => launch(on, "cross_entropy", { V: 33 })),
    [64, 64, 8, 8],
  );
  assert.deepEqual(
    threads((on) => launch(on, "cross_entropy", { V: 32 })),
    [8, 8, 8, 8],
  );
});

test("launch() gives products by lanes and attention tiles that fit together", () => {
  for (const on of all.filter(({ info }) => info.path === "subgroups"))
    for (const M of [1, 48, 128, 149, 256])
      for (const transB of [false, true]) {
        const { rows, columns, splits, flags } = launch(on, "matmul", { M, N: 64, K: 4096, transB });
        assert.equal(columns, 4 * on.info.subgroup);
        assert.equal(splits, 1);
        // 32 rows but where 16 leave so many fewer of them idle.
        assert.equal(rows, M === 1 || M === 48 ? 16 : 32);
        assert.deepEqual([flags.ROWS, flags.GROUP_LAST + 1, flags.GROUP + flags.LATER], [rows, 4, rows]);
        assert.equal(flags.HELD * flags.LOADS, rows, "loads bring every row once");
        assert.equal(flags.STEP, transB ? 4 : 2);
      }
  for (const on of all) {
    const { rows, overrides, flags } = launch(on, "attention", { D: 64 });
    assert.equal(flags.tiled, on.info.path === "portable");
    if (flags.tiled) continue;
    assert.equal(flags.HELD * flags.HOLDS, 16);
    assert.equal(rows, on.info.path === "subgroups" ? on.info.subgroup : 8);
    assert.deepEqual(overrides, { WG: rows });
  }
});

test("launch() shuffles between 8 lanes, and broadcasts between more: llvmpipe shuffles those one by one", () => {
  const sixteen = { info: { ...lavapipe.info, subgroup: 16 } };
  for (const [on, FROM_LANE] of [
    [lavapipe, "subgroupShuffle"] as const,
    [sixteen, "subgroupBroadcast"] as const,
  ])
    for (const { flags } of [
      launch(on, "matmul", { M: 64, N: 64, K: 64 }),
      launch(on, "attention", { D: 64 }),
      launch(on, "lstm", { B: 8, D: 1, H: 64 }),
    ])
      assert.equal(flags.FROM_LANE, FROM_LANE);
});

test("launch() gives a GPU products by tiles: more sums a thread where workgroups are many, slices of K where few", () => {
  const { usual, large, flat, small, smallFlat, cpu: cpuTile, cpuFlat } = GEMM_TILES;
  const choose = (on: typeof gpu, M: number, N: number, K: number, batch = 1) =>
    gemmTile(on.info, { M, N, K, batch });
  assert.deepEqual(choose(gpu, 498, 1024, 1024), { ...usual, splitK: 1 });
  assert.deepEqual(choose(gpu, 249, 1024, 1024), { ...usual, splitK: 2 });
  assert.deepEqual(choose(gpu, 498, 4096, 1024), { ...large, splitK: 1 });
  assert.deepEqual(choose(gpu, 128, 768, 3072), { ...flat, splitK: 3 });
  assert.deepEqual(choose(gpu, 64, 768, 3072), { ...flat, splitK: 6 });
  assert.deepEqual(choose(gpu, 64, 64, 511, 9), { ...flat, splitK: 1 });
  assert.deepEqual(choose(gpu, 64, 8192, 249, 16), { ...usual, splitK: 1 }, "enough workgroups without");
  assert.deepEqual(choose(gpu, 80, 8192, 249, 16), { ...flat, splitK: 1 }, "96 rows in place of 128");
  const intel = (subgroupSizes: number[]) => ({ info: { ...info, vendor: "intel", subgroupSizes } });
  assert.deepEqual(choose(intel([16, 32]), 4096, 4096, 64), { ...small, splitK: 1, subgroup: 16 });
  assert.deepEqual(choose(intel([8, 16, 32]), 64, 64, 64), { ...smallFlat, splitK: 1, subgroup: 8 });
  assert.deepEqual(choose(intel([]), 64, 64, 64), { ...smallFlat, splitK: 1 });
  assert.deepEqual(choose(cpu, 33, 64, 4096), cpuTile);
  assert.deepEqual(choose(cpu, 32, 64, 4096), cpuFlat);
  assert.deepEqual(choose({ info: { ...cpu.info, path: "portable" } }, 33, 64, 4096), cpuTile);
});

test("launch() cuts K into slices that are steps long and none of them empty", () => {
  for (const K of [0, 1, 15, 16, 17, 100, 1000, 4096])
    for (const splitK of [1, 3, 4, 8]) {
      const tile = { ...GEMM_TILES.usual, splitK };
      const { splits, sliceK, flags } = launch(gpu, "matmul", { M: 64, N: 64, K, tile });
      assert.equal(sliceK % tile.BK, 0);
      assert.ok(
        splits <= splitK && splits * sliceK >= K && (splits === 1 || (splits - 1) * sliceK < K),
        `K ${K}`,
      );
      assert.equal(flags.split, splits > 1);
    }
  assert.throws(() => launch(lavapipe, "matmul", { M: 64, N: 64, K: 64, tile: GEMM_TILES.usual }), {
    message: "Cannot take a tile on path subgroups: lanes hold its products, path portable has tiles",
  });
});

test("launch() gives products by matrices tiles that threads fill wholly, on subgroups that matrices run on", () => {
  const f16 = { componentType: "f16", resultComponentType: "f32" };
  const matrices = (M: number, N: number, K: number, on: Partial<DeviceInfo>) => ({
    info: { ...info, matrices: [{ ...f16, M, N, K }], ...on },
  });
  for (const [on, lanes, sized] of [
    [matrices(16, 16, 16, { vendor: "nvidia", subgroup: 32 }), 32, false],
    [matrices(16, 16, 16, { vendor: "amd", subgroupSizes: [32, 64] }), 32, true],
    [matrices(8, 8, 8, { vendor: "apple", subgroup: 32 }), 32, false],
    [matrices(8, 16, 16, { vendor: "intel", subgroupSizes: [16, 32] }), 16, true],
    [matrices(8, 8, 16, { vendor: "intel", subgroupSizes: [8, 16, 32] }), 8, true],
    [matrices(16, 16, 16, { vendor: "new", subgroupSizes: [64, 128] }), 64, true],
  ] as const)
    for (const [M, N] of [
      [1, 1],
      [1024, 512],
      [4096, 4096],
    ])
      for (const transA of [false, true])
        for (const transB of [false, true]) {
          const { rows, columns, flags } = launch(on, "matmul_matrices", { M, N, transA, transB });
          const { SM, SN, FM, FN, MM, NN, KK, LANES, STEPS, LA, LB } = flags;
          assert.deepEqual([LANES, flags.sized], [lanes, sized]);
          assert.deepEqual([SM * FM * MM, SN * FN * NN], [rows, columns]);
          const threads = SM * SN * LANES;
          assert.equal(LA * threads * (transA ? 16 : 4), rows * STEPS * KK, "threads bring A once");
          assert.equal(LB * threads * (transB ? 4 : 16), columns * STEPS * KK, "threads bring B once");
          assert.equal(threads % ((STEPS * KK) / 4), 0, "threads bring whole rows");
        }
});

test("launch() gives tiled attention slices that cover a head, and keeps the sums of each in registers", () => {
  const intel = { info: { ...info, vendor: "intel", subgroupSizes: [8, 16, 32] } };
  for (const [on, most] of [
    [gpu, 4],
    [intel, 2],
  ] as const)
    for (let D = 1; D <= 1100; D++) {
      const { rows, slices, kv, overrides, enables, flags } = launch(on, "attention", { D });
      const quads = Math.ceil(D / 4);
      assert.deepEqual([rows, kv, overrides], [32, 2, {}]);
      assert.ok(flags.EACH <= most && slices * flags.EACH * 8 >= quads, `${D}`);
      assert.ok((slices - 1) * flags.EACH * 8 < quads, `${D}: no slice is empty`);
      assert.ok(flags.CHUNK === 4 || quads % flags.CHUNK === 0, `${D}: chunks of 8 are whole`);
      assert.ok(flags.LINES * flags.EACH <= 4 && 32 % (8 * flags.LINES) === 0, `${D}`);
      assert.deepEqual(enables, on === intel ? ["subgroups", "subgroup_size_control"] : []);
    }
});

test("launch() lets an LSTM ask for Intel's smallest subgroups alone", () => {
  const choose = (on: typeof gpu) => launch(on, "lstm", { B: 8, D: 1, H: 64 }).flags;
  const intel = choose({ info: { ...info, vendor: "intel", subgroupSizes: [16, 32] } });
  assert.deepEqual(
    [intel.enables, intel.subgroupSize],
    ["enable subgroups; enable subgroup_size_control;", "@subgroup_size(16)"],
  );
  for (const on of [gpu, cpu, { info: { ...info, vendor: "intel" } }])
    assert.deepEqual([choose(on).enables, choose(on).subgroupSize], ["", ""]);
  assert.deepEqual([choose(lavapipe).enables, choose(lavapipe).subgroupSize], ["enable subgroups;", ""]);
});

test("launch() splits long sums alone", () => {
  const columns = (on: typeof gpu) => (rows: number) => launch(on, "reduce.columns", { rows }).parts;
  assert.deepEqual([0, 1, 256, 257, 4096, 1e6].map(columns(cpu)), [1, 1, 1, 5, 64, 64]);
  assert.deepEqual([0, 1, 64, 65, 1024, 1e6].map(columns(gpu)), [1, 1, 1, 5, 64, 64]);
  const dots = (size: number) => launch(gpu, "reduce.dots", { size }).parts;
  assert.deepEqual([0, 1, 4097, 1e9].map(dots), [1, 1, 2, 256]);
});

test("gridFor() folds grids that one dimension cannot hold, and leaves no thread out", () => {
  assert.deepEqual(gridFor(0, 64), [0]);
  assert.deepEqual(gridFor(65, 64), [2]);
  assert.deepEqual(gridFor(65535 * 64, 64), [65535]);
  for (const groups of [65536, 100_003, 2 ** 31]) {
    const [x, y = 1] = gridFor(groups * 8, 8);
    assert.ok(x * y >= groups && x <= 65535 && y <= 65535, `${x}×${y}`);
  }
});

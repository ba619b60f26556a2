/** The search for launch choices: what may win, what may not; and every candidate of the table held to the default's results. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { twin } from "../src/gpu/kernel.ts";
import { checkTile, type GemmTile, threadsOf, workgroupBytes } from "../src/gpu/gemm_tile.ts";
import { launch, PATHS } from "../src/gpu/launch.ts";
import { candidatesOf, isCandidate, shapeClass, sizesOf, type Tunable, TUNABLE } from "../src/gpu/tunable.ts";
import type { LaunchSizes, LaunchValue } from "../src/gpu/choices.ts";
import { columnSum } from "../src/ops/reduce.ts";
import { relativeL2 } from "../src/records/float64.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { trialOf } from "../src/tune/trials.ts";
import { launchesOf, type Timer, tune, type TuneOptions } from "../src/tune/tune.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const { host } = device;
const adapter = process.env.WAVEGATE_ADAPTER;
const open = () => openDevice(host, adapter ? { adapter } : {});

const QUADS: readonly LaunchSizes[] = [{ quads: 1301 }];

/** Sizes that nothing divides, for each choice. */
const ODD: { readonly [C in Tunable]: readonly LaunchSizes[] } = {
  ...{ accumulate: QUADS, activation: QUADS, broadcast: QUADS, convert: QUADS, dropout: QUADS },
  ...{ elementwise: QUADS, mse: QUADS, optimizer: QUADS, softplus: QUADS },
  attention: [{ D: 77, heads: 2, Tq: 45, Tk: 38 }],
  layer_norm: [
    { N: 33, C: 77 },
    { N: 33, C: 260 },
  ],
  softmax: [
    { N: 33, C: 77 },
    { N: 33, C: 260 },
  ],
  "layer_norm.backward_params": [{ N: 1031 }],
  matmul: [
    { M: 67, N: 45, K: 333, batch: 2 },
    { M: 301, N: 68, K: 260, transB: true },
    { M: 44, N: 132, K: 300, transA: true },
    ...(device.info.f16 ? [{ M: 67, N: 72, K: 300, transB: true, W: "f16" }] : []),
  ],
  // test/matmul_matrices.test.ts runs all tiles.
  matmul_matrices: [],
  "reduce.columns": [{ rows: 1031 }],
  "reduce.dots": [{ size: 70_001 }],
  "weight_norm.dots": [{ rows: 1031 }],
};

for (const path of PATHS) {
  // Attention of path cpu compiles for a minute on lavapipe through Dawn.
  if (path === "cpu" || (path === "subgroups" && device.info.path !== "subgroups")) continue;
  const on = path === device.info.path ? device : await testDevice({ path });
  const odd = (choice: Tunable) => ODD[choice].filter((sizes) => candidatesOf(on, choice, sizes).length > 0);
  for (const choice of TUNABLE.filter((each) => odd(each).length > 0))
    test(`every candidate of ${choice} gives what the default gives, by path ${path}`, async () => {
      for (const sizes of odd(choice)) {
        const results = await scopedTrial(on, choice, sizes);
        const want = await results();
        for (const value of candidatesOf(on, choice, sizes)) {
          assert.ok(isCandidate(on, { choice, sizes, value }));
          const got = await results(value);
          for (const [i, each] of got.entries()) {
            const far = relativeL2(each, want[i]);
            assert.ok(
              far <= results.tolerance,
              `${shapeClass(choice, sizes)} ${JSON.stringify(value)}: ${far}`,
            );
          }
        }
      }
    });
}

/** Runs the trial of a choice with a value, or by default. Its tensors go with the device. */
async function scopedTrial(on: typeof device, choice: Tunable, sizes: LaunchSizes) {
  const trial = trialOf(on, choice, sizes);
  const run = async (value?: LaunchValue) => {
    const tensors = scope(on, () => [...(value ? on.choices.trying(choice, value, trial.run) : trial.run())]);
    const read: Float32Array[] = [];
    for (const t of tensors) read.push(await t.read());
    for (const t of new Set(tensors)) t.release();
    return read;
  };
  return Object.assign(run, { tolerance: trial.tolerance });
}

test("classes of shapes are sizes to the nearest power of 2, and flags", () => {
  const name = (sizes: LaunchSizes) => shapeClass("matmul", sizes);
  assert.equal(
    name({ M: 299, N: 1024, K: 768, transB: true, W: "f16" }),
    "matmul M256 N1024 K1024 transB W=f16",
  );
  assert.equal(
    name({ M: 300, N: 900, K: 1000, batch: 1, transA: false, transB: true, W: "f16", extra: 3 }),
    name({ M: 256, N: 1024, K: 1024, transB: true, W: "f16" }),
  );
  assert.notEqual(name({ M: 64, N: 64, K: 64 }), name({ M: 64, N: 64, K: 64, transA: true }));
  assert.deepEqual(sizesOf("matmul", { M: 3, N: 4, K: 5, transA: false, alpha: 2 }), { M: 3, N: 4, K: 5 });
  assert.deepEqual(sizesOf("reduce.columns", { rows: 7, other: true }), { rows: 7 });
});

test("on a GPU there are tiles to choose that fit it, none of them the default's", () => {
  const matrix = { componentType: "f16", resultComponentType: "f32", M: 16, N: 16, K: 16 };
  const gpu = { ...device.info, cpu: false, path: "portable" as const, subgroup: 0, subgroupSizes: [16, 32] };
  for (const vendor of ["nvidia", "amd", "intel"])
    for (const [memory, threads] of [
      [16_384, 256],
      [32_768, 1024],
    ])
      for (const sizes of [
        { M: 149, N: 1024, K: 4096, transB: true },
        { M: 4096, N: 4096, K: 512, transB: false },
        { M: 1, N: 7, K: 9, transB: false },
      ]) {
        const info = { ...gpu, vendor, matrices: [matrix] };
        const limits = {
          maxComputeWorkgroupStorageSize: memory,
          maxComputeInvocationsPerWorkgroup: threads,
        };
        const on = { info, limits };
        const tiles = candidatesOf(on, "matmul", sizes) as unknown as GemmTile[];
        assert.ok(tiles.length >= 4);
        const usual = launch({ info }, "matmul", sizes);
        for (const tile of tiles) {
          checkTile(tile, info.subgroupSizes);
          assert.ok(threadsOf(tile) <= threads && workgroupBytes(tile) <= memory);
          const choices = { valueFor: () => ({ ...tile }) };
          const made = launch({ info, choices }, "matmul", sizes);
          assert.deepEqual([made.rows, made.columns], [tile.BM, tile.BN]);
          assert.notDeepEqual(made, usual);
        }
        const chosen = launch({ info }, "matmul_matrices", sizes);
        const others = candidatesOf(on, "matmul_matrices", sizes).map((value) =>
          launch({ info, choices: { valueFor: () => value } }, "matmul_matrices", sizes),
        );
        assert.equal(candidatesOf(on, "attention", { D: 128 }).length, 4);
        assert.equal(new Set([chosen, ...others].map(({ rows, columns }) => `${rows}×${columns}`)).size, 3);
      }
});

test("a device launches by its choices the shapes of their class, and nothing else", () => {
  const { choices } = device;
  const parts = (rows: number) => launch(device, "reduce.columns", { rows }).parts;
  const before = [parts(1000), parts(5000)];
  choices.use([{ choice: "reduce.columns", sizes: { rows: 1024 }, value: { parts: 4 } }]);
  assert.deepEqual([parts(1000), parts(5000)], [4, before[1]]);
  assert.equal(
    choices.trying("reduce.columns", { parts: 1 }, () => parts(5000)),
    1,
  );
  assert.notEqual(launch(device, "weight_norm.dots", { rows: 1024 }).parts, 4);
  choices.use([]);
  assert.deepEqual([parts(1000), parts(5000)], before);
});

test("launchesOf() finds the classes that a workload runs, each once, where there is a choice", async () => {
  const x = Tensor.from(device, new Float32Array(600 * 4), [600, 4]);
  const run = async () => {
    scope(device, () => {
      columnSum(x);
      columnSum(x);
      columnSum(x.reshaped([4, 600]));
    });
  };
  // A sum of 4 rows has no parts to choose; that of 600 is asked for with two sizes.
  const found = await launchesOf(device, run);
  assert.deepEqual(found, [{ choice: "reduce.columns", sizes: { rows: 600 }, count: 2 }]);
  assert.equal(device.choices.watcher, undefined);
  x.release();
});

const wanted = [{ choice: "reduce.columns" as const, sizes: { rows: 1024 }, count: 1 }];
const defaultParts = launch(device, "reduce.columns", { rows: 1024 }).parts;

/** Times that depend on the parts alone, and on how often they were asked for. */
function fake(milliseconds: (parts: number, n: number) => number): Timer {
  let n = 0;
  return async (_, contenders) =>
    contenders.map(({ value, record }) => {
      record();
      return milliseconds(Number(value?.parts ?? defaultParts), n++);
    });
}

async function search(options: Partial<TuneOptions>) {
  const notes: string[] = [];
  const found = await tune(wanted, {
    openDevice: open,
    budget: 600,
    note: (line) => notes.push(line),
    ...options,
  });
  return { found, notes, tuned: found.tuned[0] };
}

test("the fastest candidate wins, the same one each time, and its time is beside the default's", async () => {
  const jitter = (n: number) => 1 + 0.001 * ((n * 7) % 11);
  for (let again = 0; again < 2; again++) {
    const { tuned, notes } = await search({ timer: fake((parts, n) => (parts === 4 ? 1 : 2) * jitter(n)) });
    assert.deepEqual(tuned.value, { parts: 4 });
    assert.ok(
      Math.abs(tuned.milliseconds.default - 2) < 0.03 && Math.abs(tuned.milliseconds.chosen - 1) < 0.03,
    );
    assert.match(tuned.kernel, /^[0-9a-f]{16}$/);
    assert.deepEqual(notes, []);
  }
});

test("the default stays where nothing beats it clearly", async () => {
  const stays = async (timer: Timer) => assert.equal((await search({ timer })).tuned.value, undefined);
  await stays(fake((parts) => (parts === defaultParts ? 1 : 2)));
  // 1 % is too little, and a lead within the noise none.
  await stays(fake((parts) => (parts === 4 ? 0.99 : 1)));
  await stays(fake((_, n) => 1 + ((n * 7919) % 101) / 50));
  // One that was lucky at first is found out when only it and the default run.
  const asked = new Map<number, number>();
  await stays(
    fake((parts) => {
      const times = (asked.get(parts) ?? 0) + 1;
      asked.set(parts, times);
      return parts === 4 && times <= 7 ? 0.5 : 1;
    }),
  );
});

test("a candidate with another result is refused in one line, however fast", async () => {
  const { tuned, notes } = await search({
    timer: fake((parts) => (parts === 4 ? 0.1 : parts === 1 ? 0.5 : 1)),
    trial: (on, _, { rows }) => {
      const x = Tensor.from(on, new Float32Array(Number(rows)).fill(1), [Number(rows), 1]);
      const run = () => {
        const { parts } = launch(on, "reduce.columns", { rows: Number(rows) });
        return [parts === 4 ? Tensor.from(on, Float32Array.of(1025), [1]) : columnSum(x)];
      };
      return { run, tolerance: 2e-6 };
    },
  });
  assert.deepEqual(tuned.value, { parts: 1 });
  assert.equal(notes.length, 1);
  assert.match(
    notes[0],
    /^reduce\.columns rows1024: parts=4 is wrong here, 0\.0009\d+ from the default's result, limit 0\.000002: it is not used$/,
  );
});

const broken = twin(
  "tune-test/broken",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn forward() { y[0] = \${value}; }`,
);

test("a candidate that does not compile is named in one line, and the others go on, on another device", async () => {
  let opened = 0;
  const { tuned, notes } = await search({
    openDevice: () => {
      opened++;
      return open();
    },
    timer: fake((parts) => (parts === 4 ? 0.1 : parts === 1 ? 0.5 : 1)),
    trial: (on) => ({
      run: () => {
        const y = Tensor.empty(on, [1]);
        const { parts } = launch(on, "reduce.columns", { rows: 1024 });
        broken.run("forward", { y }, {}, [1], { flags: { value: parts === 4 ? "nothing" : "1.0" } });
        return [y];
      },
      tolerance: 0,
    }),
  });
  assert.deepEqual(tuned.value, { parts: 1 });
  // One broke when all were compiled together, one when it was compiled alone.
  assert.equal(opened, 3);
  assert.equal(notes.length, 1);
  assert.match(
    notes[0],
    /^reduce\.columns rows1024: parts=4 does not run: Cannot compile kernel tune-test\/broken/,
  );
});

test("what there is no time for is said, and what cannot run here is left as it is", async () => {
  const late = await search({ budget: 1e-9 });
  assert.deepEqual(late.found, { tuned: [], left: 1 });
  assert.deepEqual(late.notes, ["no time for 1 of 1 classes of shapes: --budget allows 1e-9 s"]);
  const { found, notes } = await search({
    trial: () => {
      throw new Error("Cannot allocate: none left\nat all");
    },
  });
  assert.deepEqual(found, { tuned: [], left: 0 });
  assert.deepEqual(notes, ["reduce.columns rows1024 is left as it is: Cannot allocate: none left"]);
});

test("by real clocks a search ends and leaves nothing behind on its device", async () => {
  const own = await open();
  const dispose = own.dispose.bind(own);
  own.dispose = () => {};
  const { tuned, notes } = await search({ openDevice: async () => own });
  assert.ok(tuned.milliseconds.default > 0 && tuned.milliseconds.chosen <= tuned.milliseconds.default);
  assert.deepEqual(notes, []);
  assert.equal(own.pool.statistics.live, 0);
  assert.equal(own.recorder.profiler, undefined);
  dispose();
});

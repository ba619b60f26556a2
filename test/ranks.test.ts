/** Ranks that train together, in one process: the same bits as one alone, and what they say where they cannot. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { chooseLocalGpu, pciGpus } from "../src/host/local_gpu.ts";
import { type Communicator, mpiLaunch } from "../src/host/mpi.ts";
import { Linear } from "../src/nn/linear.ts";
import { Weights } from "../src/nn/weights.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { GradientExchange } from "../src/train/exchange.ts";
import { AdamW } from "../src/train/optimizer.ts";
import { PairwiseSum } from "../src/train/pairwise.ts";
import { Ranks, shareOf, unequalShares } from "../src/train/ranks.ts";
import { testDevice } from "./device.ts";
import { together, trainTogether, type Together } from "./rank_task.ts";
import { temporary } from "./temporary.ts";

const device = await testDevice();

/** Lines of metrics.jsonl without what the clock, the pool and the exchange say. */
function metricsOf(folder: string): unknown[] {
  const text = readFileSync(join(folder, "run/metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { seconds: _s, bytes: _b, buffers: _n, bind_groups: _g, ...rest } = JSON.parse(line);
      const { ranks: _r, exchange_bytes: _x, exchange_seconds: _y, exchange_waited: _w, ...figures } = rest;
      return figures;
    });
}

async function weightsOn(size: number, options: Together) {
  let result: { weights: number[][]; notes: string[]; metrics: unknown[] } | undefined;
  await temporary(async (folder) => {
    const all: (Communicator | undefined)[] = size === 1 ? [undefined] : together(size);
    const done = await Promise.all(all.map((each) => trainTogether(device, each, folder, options)));
    for (const { weights } of done) assert.deepEqual(weights, done[0].weights);
    result = { ...done[0], metrics: metricsOf(folder) };
  });
  return result!;
}

test("2, 3 and 4 ranks train to the bits of one, whatever the micro-batches, also where some cannot be read", async () => {
  const cases: [Together, number[]][] = [
    [{ accumulate: 8 }, [2, 4]],
    [{ accumulate: 4, missing: [1, 6] }, [3]],
    [{ accumulate: 5, epochs: 1 }, [2]],
  ];
  for (const [options, sizes] of cases) {
    const one = await weightsOn(1, options);
    for (const size of sizes) {
      const { weights, metrics } = await weightsOn(size, options);
      assert.deepEqual(weights, one.weights, `${size} ranks, ${JSON.stringify(options)}`);
      assert.deepEqual(metrics, one.metrics);
    }
  }
});

test("GradientExchange cuts parameters into buckets, on a path of many reads", async () => {
  const weights = new Weights(device, { seed: 1 });
  const layers = ["a", "b", "c"].map((name) => new Linear(weights.at(name), 7, 9));
  await weights.initialize();
  for (const size of [2, 3]) {
    const sums = await Promise.all(
      together(size).map(async (communicator, rank) => {
        const ranks = new Ranks(communicator);
        const optimizer = new AdamW(device, weights.parameters, { learningRate: 0 });
        const exchange = new GradientExchange(device, optimizer, ranks, 40); // ten elements
        // Of b rank 1 alone has a gradient, of c none.
        const own = weights.parameters.filter(({ key }) => key[0] === "a" || (key[0] === "b" && rank === 1));
        const gradients = new Map(
          own.map((p) => [
            p,
            Tensor.from(
              device,
              new Float32Array(p.value.size).map((_, i) => i + 1000 * rank),
              p.shape,
            ),
          ]),
        );
        exchange.begin();
        optimizer.accumulate(gradients);
        for (const tensor of gradients.values()) tensor.release();
        exchange.ready(layers[2].weight);
        const { bytes } = await exchange.finish();
        assert.equal(bytes, 4 * 3 * (7 * 9 + 9));
        const found: (number[] | undefined)[] = [];
        for (const parameter of weights.parameters) {
          const sum = optimizer.takeGradient(parameter);
          found.push(sum && [...(await sum.read())]);
          sum?.release();
        }
        exchange.dispose();
        optimizer.dispose();
        return found;
      }),
    );
    const expected = weights.parameters.map(({ key, value }) => {
      if (key.startsWith("c")) return undefined;
      const all = key.startsWith("b") ? [1] : [...Array(size).keys()];
      return Array.from({ length: value.size }, (_, i) => all.reduce((sum, r) => sum + i + 1000 * r, 0));
    });
    for (const found of sums) assert.deepEqual(found, expected);
  }
  weights.dispose();
});

test("ranks that begin with other weights say so, and metrics tell what an exchange took", async () => {
  await temporary(async (folder) => {
    const [a, b] = together(2);
    const done = await Promise.allSettled([
      trainTogether(device, a, folder, { accumulate: 2 }),
      trainTogether(device, b, folder, { accumulate: 2, seed: 2 }),
    ]);
    for (const each of done) {
      assert.equal(each.status, "rejected");
      const line =
        /^Cannot train on 2 ranks: the checksum of the weights that they begin with in stage 0 of rank 1 is [0-9a-f]{64}, of rank 0 [0-9a-f]{64}, but should be the same$/;
      assert.match((each as PromiseRejectedResult).reason.message, line);
    }
  });
  await temporary(async (folder) => {
    const all = together(3);
    const [{ notes }] = await Promise.all(
      all.map((each) => trainTogether(device, each, folder, { accumulate: 4, epochs: 1 })),
    );
    assert.match(
      notes.join("\n"),
      /^stage 0: an update's 4 micro-batches \(accumulate\) are 2 a rank, 1 of 3/,
    );
    const [line] = readFileSync(join(folder, "run/metrics.jsonl"), "utf8").split("\n");
    const { ranks, exchange_bytes, exchange_seconds, exchange_waited } = JSON.parse(line);
    assert.equal(ranks, 3);
    assert.equal(exchange_bytes, 4 * 3 * (5 * 5 + 5));
    assert.ok(exchange_seconds > 0 && exchange_waited > 0);
  });
});

test("gather() keeps NaN, brings notes to rank 0, and tells ranks that came to different places", async () => {
  const [a, b] = together(2).map((each) => new Ranks(each));
  const heard: string[] = [];
  a.onNote = (line) => heard.push(line);
  b.note("clip u1 is gone");
  const values = { a: 1, nan: Number.NaN, far: [-1 / 0] };
  const [got] = await Promise.all([a.gather("x", values), b.gather("x", values)]);
  assert.deepEqual(got, [values, values]);
  assert.deepEqual(heard, ["rank 1: clip u1 is gone"]);
  const lost = await Promise.allSettled([a.gather("x", 1), b.gather("y", 1)]);
  assert.match((lost[0] as PromiseRejectedResult).reason.message, /rank 0 tells of x, rank 1 of y$/);
  const failed = await Promise.allSettled(
    [a, b].map((each) =>
      each.fromFirst(
        "dev",
        () => Promise.reject(new RangeError("no dev")),
        () => "k",
        (kind, message) => new Error(`${kind}: ${message}`),
      ),
    ),
  );
  assert.deepEqual(
    failed.map((each) => (each as PromiseRejectedResult).reason.message),
    ["no dev", "k: no dev"],
  );
});

test("PairwiseSum adds aligned blocks, whatever is missing", () => {
  const sumOf = (...positions: number[]) => {
    const sum = new PairwiseSum<string>((left, right) => `(${left}${right})`);
    for (const each of positions) sum.add(each, `${each}`);
    return sum.take();
  };
  assert.equal(sumOf(0, 1, 2, 3, 4, 5, 6), "(((01)(23))((45)6))");
  assert.equal(sumOf(1, 2, 5), "((12)5)");
  assert.equal(sumOf(0, 3, 4, 7), "((03)(47))");
  assert.equal(sumOf(2), "2");
  assert.equal(sumOf(), undefined);
});

test("shareOf() gives each rank an aligned block", () => {
  const shares = (count: number, size: number) =>
    Array.from({ length: size }, (_, rank) => shareOf(count, { rank, size }).join("-"));
  assert.deepEqual(shares(8, 2), ["0-4", "4-8"]);
  assert.deepEqual(shares(6, 2), ["0-4", "4-6"]);
  assert.deepEqual(shares(3, 4), ["0-1", "1-2", "2-3", "3-3"]);
  assert.deepEqual(shares(12, 3), ["0-4", "4-8", "8-12"]);
  assert.equal(unequalShares(8, 4), undefined);
  assert.match(
    unequalShares(6, 2) ?? "",
    /6 micro-batches \(accumulate\) are 4 a rank, the last rank has 2: 2, 4, 8/,
  );
});

test("mpiLaunch() knows launchers by their environment, and takes one process for none", () => {
  assert.equal(mpiLaunch({}), undefined);
  assert.equal(mpiLaunch({ OMPI_COMM_WORLD_SIZE: "1", OMPI_COMM_WORLD_RANK: "0" }), undefined);
  assert.equal(mpiLaunch({ SLURM_NTASKS: "4", SLURM_PROCID: "0" }), undefined, "a batch script is no step");
  const cases = [
    [
      { OMPI_COMM_WORLD_SIZE: "4", OMPI_COMM_WORLD_RANK: "3", PMIX_RANK: "3" },
      "mpirun of Open MPI",
      3,
      "openmpi",
    ],
    [{ PMI_SIZE: "4", PMI_RANK: "2" }, "mpirun of MPICH", 2, "mpich"],
    [
      { SLURM_STEP_NUM_TASKS: "4", SLURM_PROCID: "1", PMI_SIZE: "4", PMI_RANK: "1" },
      "srun of Slurm",
      1,
      "mpich",
    ],
    [{ SLURM_STEP_NUM_TASKS: "4", SLURM_PROCID: "1", PMIX_RANK: "1" }, "srun of Slurm", 1, "openmpi"],
  ] as const;
  for (const [env, by, rank, family] of cases) {
    const found = mpiLaunch(env);
    assert.deepEqual([found?.by, found?.size, found?.rank, found?.families[0]], [by, 4, rank, family]);
  }
});

test("chooseLocalGpu() gives each process of a machine a GPU, unless somebody has chosen", () => {
  const folder = mkdtempSync(join(tmpdir(), "wavegate-"));
  try {
    for (const [name, kind] of [
      ["0000:41:00.0", "0x030200"],
      ["0000:00:02.0", "0x020000"],
      ["0000:04:00.0", "0x030000"],
    ]) {
      mkdirSync(join(folder, "pci", name), { recursive: true });
      writeFileSync(join(folder, "pci", name, "class"), `${kind}\n`);
    }
    writeFileSync(join(folder, "VkLayer_MESA_device_select.json"), "{}");
    const gpus = pciGpus(join(folder, "pci"));
    assert.deepEqual(gpus, ["0000:04:00.0", "0000:41:00.0"]);
    const env: Record<string, string> = {};
    const layers = [folder];
    assert.equal(chooseLocalGpu(1, 2, { gpus, env, layers }), "GPU 0000:41:00.0");
    const forced = { MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE: "1" };
    assert.deepEqual(env, { DRI_PRIME: "pci-0000_41_00_0", ...forced });
    assert.equal(chooseLocalGpu(0, 2, { gpus, env, layers }), undefined, "chosen already");
    assert.equal(chooseLocalGpu(2, 4, { gpus, env: {}, layers }), "GPU 0000:04:00.0");
    assert.equal(chooseLocalGpu(0, 1, { gpus, env: {}, layers }), undefined);
    assert.equal(chooseLocalGpu(0, 2, { gpus: gpus.slice(1), env: {}, layers }), undefined);
    assert.match(chooseLocalGpu(0, 2, { gpus, env: {}, layers: [] }) ?? "", /^2 GPUs and no Vulkan layer/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

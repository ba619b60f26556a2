/** What kernels say that they cost, against what is bound, and against the formulas of two models. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { describeRun, type PlannedDispatch } from "../src/gpu/cost.ts";
import { gridFor, KERNELS } from "../src/gpu/launch.ts";
import { twin } from "../src/gpu/kernel.ts";
import { BertModel } from "../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../src/models/config.ts";
import { HubertModel } from "../src/models/hubert.ts";
import { Conv1d } from "../src/nn/conv.ts";
import { Weights } from "../src/nn/weights.ts";
import { full } from "../src/ops/elementwise.ts";
import { linear, matmul } from "../src/ops/matmul.ts";
import { loadRecords } from "../src/records/mod.ts";
import { cannotRun, leavesOf, upload } from "../src/records/run.ts";
import { BERT_BASE, HUBERT_LARGE } from "../src/speech/recipes/presets.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { checkpoint } from "../src/tensor/checkpoint.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const total = (planned: readonly PlannedDispatch[]) =>
  planned.reduce((sum, { flops }) => sum + (flops ?? Number.NaN), 0);

/** Entry points of the package's kernels that no sample of a record and no test here runs. */
const NOT_SAMPLED: readonly string[] = [
  // Of the optimisers, which have tests of their own.
  ...["optimizer.adam", "optimizer.sgd", "optimizer.scale"],
];

test("every sample of every operator has costs, and none is more traffic than twice what is bound", () => {
  const seen = new Set<string>();
  return loadRecords().then((records) => {
    for (const sample of records.flatMap(({ samples }) => samples)) {
      if (cannotRun(device, sample)) continue;
      const { recorder } = device;
      recorder.observer = {
        observe(run) {
          const name = `${run.twin.name}.${run.entry}`;
          seen.add(name);
          if (run.grid.some((n) => n === 0)) return;
          const { flops, bytes } = describeRun(run);
          const bound = Object.values(run.bound).reduce((sum, b) => sum + (b.bytes ?? b.buffer.bytes), 0);
          const where = `${sample.title}: ${name} says ${flops} FLOPs and ${bytes} bytes of ${bound}`;
          assert.ok(flops !== undefined && Number.isFinite(flops) && flops >= 0, where);
          assert.ok(Number.isFinite(bytes) && bytes >= 0 && bytes <= 2 * bound, where);
        },
      };
      try {
        scope(device, () => {
          const inputs = sample.inputs();
          const tensors = upload(device, inputs);
          const leaves = leavesOf(inputs).map((name) => tensors[name]);
          if (leaves.length === 0) return void sample.run(tensors, device);
          vjp(device, leaves, () => {
            const y = sample.run(tensors, device);
            return { outputs: [y], cotangents: [Tensor.empty(device, y.shape, y.dtype)] };
          });
        });
      } finally {
        recorder.observer = undefined;
      }
    }
    const entries = KERNELS.flatMap((kernel) => {
      const text = readFileSync(new URL(`../kernels/${kernel}.wgsl`, import.meta.url), "utf8");
      return [...text.matchAll(/^fn (\w+)\(/gm)]
        .filter(({ index }) => /@compute[^\n]*\n$/.test(text.slice(0, index)))
        .map(([, entry]) => `${kernel}.${entry}`);
    });
    assert.ok(entries.length > 50, `${entries.length}`);
    assert.deepEqual(
      entries.filter((name) => !seen.has(name) && !NOT_SAMPLED.includes(name)),
      [],
    );
  });
});

test("a product costs 2·M·N·K and its tail, and reads no more of an operand than there is", () => {
  const [M, N, K] = [33, 20, 16];
  const planned = device.plan(() => {
    const [x, w, b] = [Tensor.empty(device, [M, K]), Tensor.empty(device, [N, K]), Tensor.empty(device, [N])];
    linear(x, w, b, { activation: "relu", residual: Tensor.empty(device, [M, N]) });
    matmul(Tensor.empty(device, [3, M, K]), Tensor.empty(device, [3, N, K]), { transB: true });
  });
  assert.deepEqual(
    planned.map(({ kernel, entry, flops, bytes, shape }) => ({ kernel, entry, flops, bytes, shape })),
    [
      {
        ...{ kernel: "matmul", entry: "forward", shape: { M, N, K } },
        flops: 2 * M * N * K + 3 * M * N,
        bytes: 4 * (M * K + N * K + N + 2 * M * N),
      },
      {
        ...{ kernel: "matmul", entry: "forward", shape: { batch: 3, M, N, K } },
        flops: 3 * 2 * M * N * K,
        bytes: 3 * 4 * (M * K + N * K + M * N),
      },
    ],
  );
});

/** A model's dispatches, its parameters being there and holding nothing. */
function planOf<M>(build: (weights: Weights) => M, forward: (model: M) => void): PlannedDispatch[] {
  const weights = new Weights(device, { seed: 1 });
  const model = build(weights);
  for (const parameter of weights.parameters) parameter.set(Tensor.empty(device, parameter.shape));
  const planned = device.plan(() => forward(model));
  weights.dispose();
  device.pool.trim();
  return planned;
}

const near = (got: number, want: number) =>
  assert.ok(
    Math.abs(got - want) <= 0.01 * want,
    `${got / 1e9} GFLOP are declared, the formula says ${want / 1e9}`,
  );

/** 2·(4·C² + 2·C·F) a token for the linear maps, 4·T·C for its scores and their sum. */
const layerFlops = (T: number, C: number, F: number) => T * (2 * (4 * C * C + 2 * C * F) + 4 * T * C);

test("HuBERT-large costs what its config says, within 1 %", () => {
  const seconds = 3;
  const samples = 16_000 * seconds;
  const planned = planOf(
    (weights) => new HubertModel(weights.root, hubertConfig(HUBERT_LARGE, "HuBERT-large")),
    (model) => void model.forward({ audio: Tensor.empty(device, [1, samples]) }),
  );
  // From the paper and transformers' config: seven convolutions of 512 channels, each with a layer norm and GELU.
  let [frames, channels, flops] = [samples, 1, 0];
  const kernels = [10, 3, 3, 3, 3, 2, 2];
  const strides = [5, 2, 2, 2, 2, 2, 2];
  for (const [i, kernel] of kernels.entries()) {
    frames = Math.floor((frames - kernel) / strides[i]) + 1;
    flops += 2 * frames * 512 * channels * kernel;
    channels = 512;
  }
  flops += 2 * frames * 512 * 1024; // feature projection
  flops += 2 * frames * 1024 * (1024 / 16) * 128; // positional convolution in 16 groups, which makes a frame more and drops it
  flops += 24 * layerFlops(frames, 1024, 4096);
  assert.equal(frames, 149);
  near(total(planned), flops);
  const products = planned.filter(({ kernel }) => kernel === "matmul" || kernel === "attention");
  near(total(products), flops);
});

test("BERT-base costs what its config says, within 1 %", () => {
  const T = 128;
  const planned = planOf(
    (weights) => new BertModel(weights.root, bertConfig({ ...BERT_BASE, vocab_size: 30_522 }, "BERT-base")),
    (model) => void model.forward({ ids: [Array.from({ length: T }, (_, i) => i + 1)] }),
  );
  near(total(planned), 12 * layerFlops(T, 768, 3072));
});

test("plan() compiles and runs nothing, and keeps nothing", async () => {
  const own = await testDevice();
  const weights = new Weights(own, { seed: 1 });
  const conv = new Conv1d(weights.root, 4, 8, 3, true, {});
  await weights.initialize();
  const x = Tensor.from(own, new Float32Array(40).fill(1), [1, 10, 4]);
  const { live } = own.pool.statistics;
  const { pipelines } = own.counters;
  const { dispatches } = own.recorder;
  const forward = () => void conv.forward(x);
  const planned = own.plan(forward);
  await own.precompile(forward);
  assert.deepEqual(
    planned.map(({ kernel, entry }) => `${kernel}.${entry}`),
    ["conv1d.pack", "matmul.forward"],
  );
  assert.equal(own.pool.statistics.live, live);
  assert.equal(own.recorder.dispatches, dispatches);
  assert.equal(own.counters.pipelines, pipelines + 2);
  // What precompile() and plan() made of the weight holds no results: it must not be kept.
  const y = await scope(own, () => conv.forward(x)).read();
  const [w, b] = [await conv.weight.value.read(), await conv.bias!.value.read()];
  const want = w.subarray(0, 12).reduce((sum, v) => sum + v, b[0]);
  assert.ok(Math.abs(y[0] - want) < 1e-5, `${y[0]}, ${want}`);
  assert.throws(() => own.plan(() => void own.plan(() => {})), { message: /^Cannot plan: / });
  assert.throws(() => own.plan((async () => {}) as () => void), TypeError);
});

test("plan() counts the backward, a part that runs again too, to where the forward was", () => {
  const planned = device.plan(() => {
    const w = Tensor.empty(device, [8, 8]);
    const x = Tensor.empty(device, [4, 8]);
    vjp(device, [w], () => {
      const y = device.at({ part: "encoder" }, () =>
        device.labelled("layer", () => checkpoint(device, [], () => linear(x, w))),
      );
      return { outputs: [y], cotangents: [full(device, [4, 8], 1)] };
    });
  });
  assert.deepEqual(
    planned.map(({ phase, part, layer, kernel }) => [phase, part, layer, kernel].join(" ")),
    [
      "forward encoder layer matmul",
      "forward   elementwise",
      "backward encoder layer matmul",
      ...(device.info.path === "subgroups" ? ["backward encoder layer transpose"] : []),
      "backward encoder layer matmul",
    ],
  );
});

const copy = [
  "struct Dims { size: u32 }",
  "@group(0) @binding(0) var<storage, read> x: array<f32>;",
  "@group(0) @binding(1) var<storage, read_write> y: array<f32>;",
  "@group(0) @binding(2) var<uniform> d: Dims;",
  '#include "lib/grid.wgsl"',
  "@compute @workgroup_size(64)",
  "fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) t: u32) {",
  "  let i = linear_id(wg, groups, t, 64u);",
  "  if (i < d.size) { y[i] = 2.0 * x[i]; }",
  "}",
].join("\n");

test("an own kernel costs what it declares, or what is bound and unknown FLOPs", () => {
  const silent = twin("test/silent", copy);
  const said = twin("test/said", copy, { main: ({ dims }) => ({ flops: dims.size, bytes: 8 * dims.size }) });
  const run = (k: typeof silent) =>
    device.plan(() => {
      const x = Tensor.empty(device, [100]);
      k.run("main", { x, y: x.like() }, { size: 10 }, gridFor(10, 64));
      k.run("main", { x, y: x.like() }, { size: 0 }, gridFor(0, 64));
    });
  const cost = (planned: PlannedDispatch[]) =>
    planned.map(({ flops, bytes, shape }) => ({ flops, bytes, shape }));
  assert.deepEqual(cost(run(silent)), [{ flops: undefined, bytes: 800, shape: { size: 10 } }]);
  assert.deepEqual(cost(run(said)), [{ flops: 10, bytes: 80, shape: { size: 10 } }]);
});

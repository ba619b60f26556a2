/** trainStage() and RunFolder as somebody uses them who has a model of one's own, and only what is needed said. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import {
  AdamW,
  currentHost,
  Linear,
  openLatest,
  ops,
  RunFolder,
  SGD,
  saveWeights,
  type Task,
  Tensor,
  trainStage,
  Weights,
} from "../src/mod.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const host = await currentHost();
const folder = mkdtempSync(join(tmpdir(), "wavegate-stage-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** A layer that learns 3·x, as the smallest task there is. */
async function smallest() {
  const weights = new Weights(device, { seed: 1 });
  const layer = new Linear(weights.at("layer"), 4, 4);
  await weights.initialize();
  const task: Task<readonly number[]> = {
    parameters: weights.parameters,
    plan: () => [[0], [1]],
    load: async (indices) => indices,
    losses([i]) {
      const x = Tensor.from(device, Float32Array.of(i, 1, 2, 3), [1, 4]);
      return { loss: ops.mse(layer.forward(x), ops.mul(x, 3)) };
    },
    save: (to) => saveWeights(host, `${to}/model.safetensors`, weights.parameters),
  };
  return { weights, task };
}

const of = { recipe: "a", data: "b" };

test("trainStage() wants a run, a task, what they are of, epochs and a learning rate, and no more", async () => {
  const { weights, task } = await smallest();
  const run = await RunFolder.create(host, join(folder, "small"), {});
  const losses: number[] = [];
  const { finished, bests } = await trainStage({
    ...{ device, run, task, of },
    config: { epochs: 4, learningRate: { all: 0.01 } },
    onStep: ({ loss }) => losses.push(loss),
  });
  assert.deepEqual([finished, bests[0].folder, losses.length], [true, "stage0-epoch004", 8]);
  assert.ok(losses[7] < losses[1], `${losses}`);
  weights.dispose();
});

test("trainStage() refuses parameters whose learning rate nobody named", async () => {
  const { weights, task } = await smallest();
  const run = await RunFolder.create(host, join(folder, "rates"), {});
  const config = { epochs: 1, learningRate: { encoder: 0.01, heads: 0.1 } };
  await assert.rejects(trainStage({ device, run, task, of, config }), {
    message:
      "Cannot train stage 0: config.learningRate has 2 groups (encoder, heads) and there is no option group, which names that of a key",
  });
  await assert.rejects(trainStage({ device, run, task, of, config, group: () => "head" }), {
    message: "Cannot train layer.weight: its learning rate is undefined, a finite number from 0 expected",
  });
  const before = await weights.parameters[0].value.read();
  for (const rate of [Number.NaN, Number.POSITIVE_INFINITY])
    assert.throws(
      () => new AdamW(device, weights.parameters, { learningRate: rate }),
      /is (NaN|Infinity), a finite/,
    );
  const optimizer = new SGD(device, weights.parameters, { learningRate: 0.1 });
  assert.throws(() => {
    optimizer.learningRate = (key) => ({ "layer.bias": 0.1 })[key] as number;
  }, /layer\.weight: its learning rate is undefined/);
  assert.deepEqual(await weights.parameters[0].value.read(), before);
  optimizer.dispose();
  weights.dispose();
});

test("trainStage() with f16 makes products read f16, or says that the adapter cannot", async () => {
  const { weights, task } = await smallest();
  const run = await RunFolder.create(host, join(folder, "f16"), {});
  const config = { epochs: 1, learningRate: { all: 0.01 }, precision: "f16" } as const;
  const started = trainStage({ device, run, task, of, config });
  if (device.info.f16) {
    await started;
    assert.ok(weights.parameters.every(({ matmulDType }) => matmulDType === "f16"));
  } else
    await assert.rejects(started, /^Error: Cannot train with f16: .* has no shader-f16; use precision f32$/);
  weights.dispose();
});

test("a run that is opened without rewind() writes behind what is there, and its checkpoints count that", async () => {
  const { weights, task } = await smallest();
  const path = join(folder, "again");
  const config = { epochs: 2, learningRate: { all: 0.01 } };
  const first = await RunFolder.create(host, path, {});
  await trainStage({ device, run: first, task, of, config });
  const run = await RunFolder.open(host, path);
  run.metrics({ stage: 0, step: 5, loss: 1 });
  const { metrics, events } = await run.flush();
  assert.equal(metrics, readFileSync(`${path}/metrics.jsonl`).length);
  assert.equal(events, readFileSync(`${path}/events.out.tfevents.wavegate`).length);
  const latest = await openLatest(run, of);
  assert.equal(latest?.state.step, 4);
  assert.deepEqual(await run.rewind(latest?.state.lengths), []);
  assert.equal(readFileSync(`${path}/metrics.jsonl`, "utf8").trimEnd().split("\n").length, 4);
  weights.dispose();
});

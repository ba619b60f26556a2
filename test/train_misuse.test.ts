/** What trained nothing, or something else than was meant, is refused in one line: stages, plans, schedules. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import {
  OtherRunError,
  openLatest,
  ops,
  RunExistsError,
  RunFolder,
  type ScheduleKind,
  saveWeights,
  type StageOptions,
  scheduleFactor,
  type Task,
  Tensor,
  trainStage,
} from "../src/mod.ts";
import { type Anything, device, folder, linear } from "./misuse_fixture.ts";

const { host } = device;

const of = { recipe: "a", data: "b" };
let runs = 0;

/** Trains a layer for two epochs of two batches, with these options changed. */
async function stage(options: Anything = {}, config: Anything = {}, change: Anything = {}) {
  const { weights, layer } = await linear(1, 1);
  const task: Task<readonly number[]> = {
    parameters: weights.parameters,
    plan: () => [[0, 1], [2]],
    load: async (indices) => indices,
    losses(batch) {
      const x = Tensor.from(device, Float32Array.from(batch), [batch.length, 1]);
      return { loss: ops.mse(layer.forward(x), ops.mul(x, 3)) };
    },
    evaluate: async () => ({ loss: 1, accuracy: 0.5 }),
    save: (to) => saveWeights(host, `${to}/model.safetensors`, weights.parameters),
    ...change,
  };
  const run = await RunFolder.create(host, join(folder, `run${runs++}`), {});
  try {
    const whole = { epochs: 2, learningRate: { all: 0.1 }, ...config };
    return {
      run,
      ...(await trainStage({ device, run, task, of, config: whole, ...options } as StageOptions<Anything>)),
    };
  } finally {
    weights.dispose();
  }
}

test("trainStage() refuses counts, shares and names that would train nothing or without end", async () => {
  const cases: [Anything, RegExp][] = [
    ...[0, -1, Number.NaN, 1.5, "2"].map((n): [Anything, RegExp] => [
      { accumulate: n },
      /config\.accumulate is .* but should be a whole number from 1$/,
    ]),
    ...[0, 1.5, undefined].map((n): [Anything, RegExp] => [
      { epochs: n },
      /config\.epochs is .* but should be a whole number from 1$/,
    ]),
    [{ maxGradnorm: 1 }, /config has no maxGradnorm; did you mean maxGradNorm\?$/],
    [{ lr: 1 }, /config has no lr; there are epochs, learningRate, /],
    [{ learningRate: 0.1 }, /config\.learningRate is 0\.1 but should be an object/],
    [{ maxGradNorm: Number.NaN }, /maxGradNorm is NaN but should be more than 0$/],
    [{ beta1: 1 }, /beta1 is 1 but should be from 0 and less than 1$/],
    [{ precision: "fp16" }, /precision is "fp16" but should be one of f32, f16; did you mean f16\?$/],
    [{ schedule: { kind: "cosine", warmup: 0 } }, /kind is "cosine" but should be one of linear, newbob, co/],
    [{ schedule: { kind: "linear", warmup: 100 } }, /warmup is 100 but should be a share of all updates/],
    [{ gradientCheckpointing: 1 }, /gradientCheckpointing should be true or false$/],
  ];
  for (const [config, message] of cases) await assert.rejects(stage({}, config), { message });
  const options: [Anything, RegExp][] = [
    [{ onstep: () => {} }, /options has no onstep; did you mean onStep\?$/],
    [
      { select: { figure: "loss", mode: "minimum" } },
      /select\.mode is "minimum" but should be one of max, min$/,
    ],
    [{ checkpoints: { keep: 0, every: 0 } }, /checkpoints\.keep is 0 but should be a whole number from 1$/],
    [{ stage: 10 }, /stage is 10 but should be a whole number from 0 to 9$/],
  ];
  for (const [option, message] of options) await assert.rejects(stage(option), { message });
});

test("trainStage() refuses a plan that is no list of micro-batches, and one that is empty", async () => {
  await assert.rejects(stage({}, {}, { plan: () => [0, 1] }), {
    message: "Cannot train: plan(0)[0] is 0 but should be a list of indices, a micro-batch",
  });
  await assert.rejects(stage({}, {}, { plan: () => [] }), {
    message: "Cannot train: plan() gives no micro-batch in any epoch",
  });
});

test("trainStage() chooses by a figure that is there, or by a score, and saves before it says that there is none", async () => {
  const message = "Cannot choose the best epoch by acuracy: evaluate() gives loss, accuracy";
  await assert.rejects(stage({ select: { figure: "acuracy", mode: "max" } }), { message });
  const run = await RunFolder.open(host, join(folder, `run${runs - 1}`));
  assert.equal((await openLatest(run, of))?.state.step, 2, "the first epoch's updates are saved");
  await assert.rejects(stage({}, {}, { evaluate: async () => 0.5 }), {
    message: "Cannot end the epoch: evaluate() gave 0.5, expected an object of numbers, loss among them",
  });
  await assert.rejects(stage({ select: { figure: "loss", mode: "min" } }, {}, { evaluate: undefined }), {
    message: "Cannot train stage 0: there is an option select, but the task has no evaluate()",
  });
  let epoch = 0;
  const evaluate = async () => ({ loss: [1, 2][epoch++] });
  const { bests } = await stage({ select: (dev: Anything) => dev.ua ?? -dev.loss }, {}, { evaluate });
  assert.deepEqual([bests[0].folder, bests[0].score], ["stage0-epoch001", -1]);
});

test("trainStage() trains by AdamW's own numbers where they are given", async () => {
  const losses = async (config: Anything) => {
    const found: number[] = [];
    await stage({ onStep: ({ loss }: { loss: number }) => found.push(loss) }, config);
    return found;
  };
  const plain = await losses({});
  assert.deepEqual(await losses({ beta1: 0.9, beta2: 0.999, eps: 1e-8 }), plain);
  for (const changed of [{ beta1: 0 }, { beta2: 0.5 }, { eps: 1 }])
    assert.notDeepEqual(await losses(changed), plain, JSON.stringify(changed));
});

test("a stage that stops says what is not finite in a user's own words", async () => {
  const losses = () => ({ loss: ops.sum(Tensor.from(device, Float32Array.of(Number.NaN), [1])) });
  const { weights, layer } = await linear(1, 1);
  const task = {
    losses: () => ({
      loss: ops.add(losses().loss, ops.sum(layer.forward(Tensor.from(device, new Float32Array(1), [1, 1])))),
    }),
    parameters: weights.parameters,
  };
  await assert.rejects(stage({}, {}, task), {
    message: "Stopped at step 1 of stage 0: the loss is not finite",
  });
  weights.dispose();
  await assert.rejects(stage({}, {}, { load: async () => undefined }), {
    message:
      "Cannot go on training: 3 of 3 items of epoch 1 can no longer be read, at most 5 % may be missing; what was learnt is saved, and resuming goes on once they are back",
  });
});

test("openLatest() and RunFolder say which part is another's, without options of a command", async () => {
  const { run } = await stage();
  await assert.rejects(openLatest(run, { ...of, recipe: "c" }), (error: OtherRunError) => {
    assert.ok(error instanceof OtherRunError, error.stack);
    assert.equal(error.part, "recipe");
    assert.match(error.message, /: the recipe \(of\.recipe\) is not the one that the run began with$/);
    return true;
  });
  await assert.rejects(openLatest(run, { ...of, data: "c" }), /the data \(of\.data\) is not the one/);
  await assert.rejects(RunFolder.create(host, run.path, {}), (error: Error) => {
    assert.ok(error instanceof RunExistsError);
    assert.doesNotMatch(error.message, /--/);
    return true;
  });
});

test("scheduleFactor() refuses what is no schedule", () => {
  const factor = (step: number, change: Anything) =>
    scheduleFactor(step, { kind: "linear", warmup: 0.1, total: 10, ...change });
  assert.equal(factor(1, {}), 1);
  for (const [step, change, message] of [
    [
      1,
      { kind: "cosine" as ScheduleKind },
      /kind is "cosine" but should be one of linear, newbob, constant$/,
    ],
    [1, { warmup: 100 }, /warmup is 100 but should be a share of all updates, from 0 to 1$/],
    [1, { warmup: undefined }, /warmup is undefined but/],
    [1, { total: undefined }, /total is undefined but should be a whole number from 1$/],
    [0, {}, /step is 0 but should be a whole number from 1$/],
  ] as [number, Anything, RegExp][])
    assert.throws(() => factor(step, change), { message });
});

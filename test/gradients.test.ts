/** Which weights learn: all of every system, none that are frozen, and the same with less memory or fewer bits. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import type { Mode } from "../src/nn/mode.ts";
import { scope } from "../src/tensor/scope.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { AdamW } from "../src/train/optimizer.ts";
import { freeze } from "../src/speech/training/build.ts";
import { trainingStream } from "../src/train/seeds.ts";
import { SYSTEMS, systemOf } from "../src/speech/recipes/systems.ts";
import { update } from "../src/train/update.ts";
import { testDevice } from "./device.ts";
import { relativeL2 } from "./reference.ts";
import { type TinySystem, tinyBatch, tinySystem } from "./tiny_system.ts";

const device = await testDevice();

/** Gradients of one batch by the first key of each parameter; absent where none arrived. */
async function gradientsOf({ weights, task }: TinySystem, mode: Mode): Promise<Map<string, Float32Array>> {
  const parameters = weights.parameters.filter((p) => p.trainable);
  const batch = tinyBatch(3, 0.7);
  const { gradients, value } = scope(device, () =>
    valueAndGrad(device, parameters, () => task.losses(batch, mode).loss),
  );
  const found = new Map<string, Float32Array>();
  for (const [parameter, g] of gradients) found.set(parameter.key, await g.read());
  // The biases of an LSTM, which are added up, have one gradient between them.
  for (const g of new Set(gradients.values())) g.release();
  value.release();
  return found;
}

const training = () => ({ training: trainingStream("test") });
/** Spans of masked frames in every clip, so that the embedding that stands for them learns too. */
const masking = { mask_time_prob: 0.5, mask_time_min_masks: 1, mask_feature_prob: 0 };

const variants = (Object.keys(SYSTEMS) as (keyof typeof SYSTEMS)[])
  .filter((name) => name !== "text-mlm" && !systemOf(name).pretrains)
  .flatMap((name) => {
    const { modalities } = SYSTEMS[name];
    const stages = SYSTEMS[name].stages as readonly (1 | 2)[];
    return stages.flatMap((stage) =>
      (modalities === "both" && stage === 2 ? [true, false] : [true]).map((bounded) => ({
        name,
        stage,
        bounded,
      })),
    );
  });

for (const { name, stage, bounded } of variants) {
  test(`${name} gives every trainable parameter a gradient in stage ${stage}, gate ${bounded ? "" : "un"}bounded`, async () => {
    const system = await tinySystem(device, name, stage, masking, { bounded });
    const found = await gradientsOf(system, training());
    for (const { key } of system.weights.parameters) {
      const g = found.get(key);
      assert.ok(g, `${key} got no gradient`);
      assert.ok(g.every(Number.isFinite), `the gradient of ${key} is not finite`);
      assert.ok(
        g.some((x) => x !== 0),
        `the gradient of ${key} is zero`,
      );
    }
    system.weights.dispose();
  });
}

test("frozen parameters get no gradient and keep every bit while the others learn", async () => {
  const system = await tinySystem(device, "both-cmgi", 2);
  const { parameters } = system.weights;
  freeze(parameters, ["cnn", "bert"]);
  const frozen = parameters.filter((p) => !p.trainable);
  const before = await Promise.all(parameters.map((p) => p.value.read()));
  const optimizer = new AdamW(device, parameters, { learningRate: 1e-3, weightDecay: 0.1, maxGradNorm: 1 });
  for (let step = 1; step <= 3; step++)
    await update(device, system.task, optimizer, [tinyBatch(3, 0.7, step)], { factor: 1, mode: training });
  const found = await gradientsOf(system, training());
  for (const [i, { key, trainable, value }] of parameters.entries()) {
    const same = Buffer.from((await value.read()).buffer).equals(Buffer.from(before[i].buffer));
    const masked = key.endsWith("masked_spec_embed"); // learns only where frames are masked
    if (!masked) assert.equal(same, !trainable, `${key} ${same ? "stayed" : "changed"}`);
    if (!trainable) assert.ok(!found.has(key), `${key} is frozen but got a gradient`);
  }
  assert.ok(frozen.some((p) => p.key.startsWith("hubert.feature_extractor.")));
  assert.ok(frozen.some((p) => p.key.startsWith("bert.")));
  optimizer.dispose();
  system.weights.dispose();
});

test("a frozen convolution stack leaves nothing on the tape", async () => {
  const system = await tinySystem(device, "acoustic-asr", 1);
  const dispatches = async () => {
    const { dispatches: before } = device.recorder;
    await gradientsOf(system, training());
    return device.recorder.dispatches - before;
  };
  await dispatches();
  const all = await dispatches();
  freeze(system.weights.parameters, ["cnn"]);
  await dispatches();
  const fewer = await dispatches();
  assert.ok(fewer < all - 15, `${fewer} dispatches with the stack frozen, ${all} without`);
  system.weights.dispose();
});

test("recomputing layers gives the same gradients to the bit, dropout and LayerDrop included", async () => {
  const system = await tinySystem(device, "both-cmgi", 2, {
    hidden_dropout: 0.2,
    attention_dropout: 0.2,
    layerdrop: 0.3,
  });
  const { pool } = device;
  const kept = await gradientsOf(system, training());
  const { live } = pool.statistics;
  const recomputed = await gradientsOf(system, { ...training(), checkpoint: true });
  assert.deepEqual([...recomputed.keys()], [...kept.keys()]);
  for (const [key, g] of kept) assert.deepEqual(recomputed.get(key), g, `the gradient of ${key} differs`);
  assert.equal(pool.statistics.live, live, "bytes are left alive in the pool");
  system.weights.dispose();
});

test("products in f16 give gradients near those in f32", {
  skip: !device.info.f16 && "no shader-f16",
}, async () => {
  const system = await tinySystem(device, "both-cmgi", 2);
  const exact = await gradientsOf(system, {});
  for (const p of system.weights.parameters) p.matmulDType = "f16";
  const half = await gradientsOf(system, {});
  const largest = Math.max(...[...exact.values()].flatMap((g) => Array.from(g, Math.abs)));
  for (const [key, g] of exact) {
    const small = g.every((x) => Math.abs(x) < 1e-4 * largest); // rounding noise, zero analytically
    if (!small) assert.ok(relativeL2(half.get(key)!, g) < 0.05, `${key}: ${relativeL2(half.get(key)!, g)}`);
  }
  assert.ok(
    [...exact].some(([key, g]) => relativeL2(half.get(key)!, g) > 0),
    "f16 changed nothing",
  );
  system.weights.dispose();
});

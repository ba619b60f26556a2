import assert from "node:assert/strict";
import { test } from "node:test";
import { AdamW } from "../src/train/optimizer.ts";
import { trainingStream } from "../src/train/seeds.ts";
import { update } from "../src/train/update.ts";
import { testDevice } from "./device.ts";
import { tinyBatch, tinySystem } from "./tiny_system.ts";

const device = await testDevice();

test("update() with micro-batches equals one of their mean, and counts no step that was not finite", async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 0, maxGradNorm: 1 });
  const [a, b] = [tinyBatch(2, 0.6, 1), tinyBatch(2, 0.6, 2)];
  const mode = () => ({});
  const run = (...batches: (typeof a)[]) => update(device, task, optimizer, batches, { factor: 1, mode });
  const [one, two, both] = [await run(a), await run(b), await run(a, b)];
  assert.ok(Math.abs(both.loss - (one.loss + two.loss) / 2) < 1e-6);
  assert.ok(both.gradientNorm > 0 && both.gradientNorm <= (one.gradientNorm + two.gradientNorm) / 2 + 1e-6);
  const { steps } = optimizer;
  const bad = await run({ ...a, audio: a.audio.map((x, i) => (i === 9 ? Number.NaN : x)) });
  assert.equal(bad.finite, false);
  assert.deepEqual(optimizer.steps, steps);
  assert.equal((await run(a)).loss, one.loss);
  optimizer.dispose();
  weights.dispose();
});

test("memory stays flat over 200 updates of mixed lengths", async () => {
  // Without masks, whose number is random and now and then none.
  const { weights, task } = await tinySystem(device, "both-cmgi", 2, { apply_spec_augment: false });
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 1e-3, maxGradNorm: 1 });
  const shapes = [0.4, 1.3, 0.6, 2, 0.8, 1, 0.5, 1.6].map((seconds, i) => tinyBatch(1 + (i % 3), seconds, i));
  const step = (i: number) =>
    update(device, task, optimizer, [shapes[(5 * i) % shapes.length]], {
      factor: 1,
      mode: () => ({ training: trainingStream(i) }),
    });
  for (let i = 0; i < 16; i++) await step(i);
  const { live, allocated, buffers, created } = { ...device.pool.statistics };
  for (let i = 16; i < 216; i++) await step(i);
  assert.deepEqual(
    { ...device.pool.statistics, peak: 0 },
    { live, allocated, buffers, created, peak: 0 },
    "a warm step allocates nothing and leaves nothing",
  );
  optimizer.dispose();
  weights.dispose();
});

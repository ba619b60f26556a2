/** What trainStage() does around its updates: loss scale, checkpoints by the clock, notes in the log. */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { recipeOf } from "../src/speech/recipes/config.ts";
import { currentHost } from "../src/host/current.ts";
import { scale } from "../src/ops/elementwise.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import type { Batch } from "../src/speech/training/examples.ts";
import { trainStage } from "../src/train/loop.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import type { Task } from "../src/train/task.ts";
import { testDevice } from "./device.ts";
import { temporary } from "./temporary.ts";
import { tinyBatch, tinySystem } from "./tiny_system.ts";

const device = await testDevice();
const host = await currentHost();

const nano = () => trainConfig({ preset: "nano", system: "both-cmgi", data: "corpus", fold: 1 });

test("in f16 a step that overflows is skipped and halves the loss scale, and the stage goes on", {
  skip: !device.info.f16 && "no shader-f16",
}, async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  for (const parameter of weights.parameters) parameter.matmulDType = "f16";
  const last = weights.parameters.at(-1)!;
  const before = await last.value.read();
  // A loss so steep that the squares of its gradient go beyond f32 at the first scales.
  const steep: Task<Batch> = {
    parameters: task.parameters,
    plan: () => Array.from({ length: 16 }, (_, i) => [i]),
    load: async ([i]) => tinyBatch(2, 0.6, i),
    amount: () => 1,
    losses: (batch, mode) => ({ loss: scale(task.losses(batch, mode).loss, 1e15), parts: {} }),
    evaluate: async () => undefined,
    save: (folder) => task.save(folder),
  };
  await temporary(async (folder) => {
    const run = await RunFolder.create(host, join(folder, "run"), {});
    const config = { ...recipeOf(nano().stage1), epochs: 1, precision: "f16" as const };
    await trainStage({
      ...{ device, run, task: steep, stage: 1 as const, config, seed: 1, bests: {} },
      of: { recipe: "", data: "" },
      checkpoints: { keep: 1, every: 0 },
      group: () => "heads",
      signal: new AbortController().signal,
    });
    await run.flush();
    const lines = (await readFile(join(run.path, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
    const steps = lines.map((line) => JSON.parse(line) as { loss_scale: number; skipped: boolean });
    const skipped = steps.filter((step) => step.skipped).length;
    assert.ok(skipped > 1 && skipped < 12, `${skipped} of ${steps.length} steps were skipped`);
    let expected = 2 ** 16;
    for (const { loss_scale, skipped } of steps) {
      assert.equal(loss_scale, expected);
      if (skipped) expected /= 2;
    }
    const [name] = await readdir(join(run.path, "checkpoints"));
    const state = JSON.parse(await readFile(join(run.path, "checkpoints", name, "state.json"), "utf8"));
    assert.equal(state.lossScale, expected);
    assert.equal(state.updates[last.key], 16 - skipped, "skipped steps count as no update");
  });
  assert.notDeepEqual(await last.value.read(), before, "no step changed a weight");
  weights.dispose();
});

test("trainStage() saves by the clock within an epoch, and by its own clock where an old recipe names none", async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  const eight: Task<Batch> = {
    parameters: task.parameters,
    plan: () => Array.from({ length: 8 }, (_, i) => [i]),
    load: async ([i]) => tinyBatch(1, 0.4, i),
    amount: () => 1,
    losses: (batch, mode) => task.losses(batch, mode),
    evaluate: async () => undefined,
    save: (folder) => task.save(folder),
  };
  const saved = async (minutes?: number) => {
    const names = new Set<string>();
    await temporary(async (folder) => {
      const run = await RunFolder.create(host, join(folder, "run"), {});
      await trainStage({
        ...{ device, run, task: eight, stage: 1 as const, seed: 1, bests: {} },
        config: { ...recipeOf(nano().stage1), epochs: 1 },
        of: { recipe: "", data: "" },
        checkpoints: { keep: 9, every: 0, ...(minutes === undefined ? {} : { minutes }) },
        group: () => "heads",
        signal: new AbortController().signal,
      });
      for (const name of await readdir(join(run.path, "checkpoints"))) names.add(name);
    });
    return names.size;
  };
  assert.equal(await saved(1e-9), 8, "after every update");
  assert.equal(await saved(), 1, "at the end of the epoch");
  assert.equal(await saved(10), 1);
  weights.dispose();
});

test("trainStage() names in the log the parameters that no gradient reached", async () => {
  const { weights, task } = await tinySystem(device, "acoustic", 1);
  await temporary(async (folder) => {
    const run = await RunFolder.create(host, join(folder, "run"), {});
    const plain: Task<Batch> = {
      parameters: task.parameters,
      plan: () => [[0]],
      load: async ([i]) => tinyBatch(2, 0.6, i),
      amount: () => 1,
      losses: (batch) => task.losses(batch, {}), // no frame is masked
      evaluate: async () => undefined,
      save: (to) => task.save(to),
    };
    await trainStage({
      ...{ device, run, task: plain, stage: 1 as const, seed: 1, bests: {}, of: { recipe: "", data: "" } },
      config: { ...recipeOf(nano().stage1), epochs: 2 },
      checkpoints: { keep: 1, every: 0 },
      group: () => "heads",
      signal: new AbortController().signal,
    });
    await run.flush();
    const notes = (await readFile(join(run.path, "log.txt"), "utf8")).match(/note: .*/g);
    assert.deepEqual(notes, [
      "note: no gradient reached hubert.masked_spec_embed in the first epoch of stage 1; not trained so far",
    ]);
  });
  weights.dispose();
});

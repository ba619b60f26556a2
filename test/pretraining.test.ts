/** Pretraining of a speech encoder: by transcripts, and by masked prediction of units in two iterations. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { newRun, prepareRun, resumedRun } from "../src/speech/training/prepare_run.ts";
import { trainRun } from "../src/speech/training/run.ts";
import { testDevice } from "./device.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";

const device = await testDevice();
const host = await currentHost();
const scratch = await mkdtemp(join(tmpdir(), "pretraining-"));
let corpus: TinyRelease;

before(async () => {
  corpus = await tinyRelease({ turns: 4, seconds: [0.4, 0.8] });
});
after(async () => {
  await corpus.remove();
  await rm(scratch, { recursive: true, force: true });
});

const SETTINGS = [
  ...["stage1.epochs=2", "stage2.epochs=2", "stage1.batch.items=4", "stage2.batch.items=4"],
  ...["checkpoints.every=1"],
];
const UNITS = ["units.clusters={\"mfcc\":6,\"layer\":5}", "units.frames=400", "units.iterations=4"];

/** Trains as the command line does; `stopAfter` updates, in all stages together, it is interrupted. */
async function train(
  out: string,
  system: string,
  {
    set = [],
    resume = false,
    stopAfter = Number.POSITIVE_INFINITY,
    data = corpus.root,
    ...choice
  }: {
    set?: string[];
    resume?: boolean;
    stopAfter?: number;
    data?: string;
    hubert?: string;
    stage?: 1 | 2;
    stageModels?: { 1: string };
  } = {},
) {
  const path = join(scratch, out);
  const notes: string[] = [];
  const onNote = (line: string) => notes.push(line);
  const planned = resume
    ? await resumedRun(host, path)
    : newRun({ preset: "nano", system, data, set: [...SETTINGS, ...set], ...choice }, onNote);
  const { config, data: read } = await prepareRun(host, path, planned, { onNote });
  await host.makeDirectory(path);
  const run = resume ? await RunFolder.open(host, path) : await RunFolder.create(host, path, config);
  const stop = new AbortController();
  let steps = 0;
  const finished = await trainRun({
    ...{ device, run, config, data: read, resume, signal: stop.signal, onNote },
    onStep: () => {
      if (++steps === stopAfter) stop.abort();
    },
  });
  return { path, model: `${path}/model`, finished, notes, config };
}

/** Lines of metrics.jsonl without what the clock and the pool say. */
async function metrics(path: string): Promise<Record<string, number>[]> {
  const lines = (await readFile(join(path, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
  return lines.map((line) => {
    const { seconds: _s, bytes: _b, buffers: _n, bind_groups: _g, ...rest } = JSON.parse(line);
    return rest;
  });
}

test("hubert-pretrain trains two iterations, and a run that is stopped in either ends with the same bits", async () => {
  const whole = await train("whole", "hubert-pretrain", { set: UNITS });
  assert.ok(whole.finished);
  assert.match(whole.notes.join("\n"), /units: 6 clusters of \d+ frames of \d+ recordings, by mfcc\n/);
  assert.match(whole.notes.join("\n"), /units: 5 clusters of \d+ .*, by layer 1 of the model of stage 1$/m);
  const dev = (await metrics(whole.path)).filter((line) => line.dev_loss !== undefined);
  assert.equal(dev.length, 4);
  for (const { dev_accuracy } of dev) assert.ok(dev_accuracy >= 0 && dev_accuracy <= 1);
  const steps = (await metrics(whole.path)).filter((line) => line.dev_loss === undefined).length;

  for (const stopAfter of [1, steps / 2 + 2]) {
    const name = `stopped${stopAfter}`;
    assert.equal((await train(name, "hubert-pretrain", { set: UNITS, stopAfter })).finished, false);
    const { path, model, finished } = await train(name, "hubert-pretrain", { resume: true });
    assert.ok(finished);
    assert.deepEqual(await metrics(path), await metrics(whole.path));
    for (const file of ["model.safetensors", "units.safetensors"])
      assert.ok((await readFile(join(model, file))).equals(await readFile(join(whole.model, file))), file);
  }

  const config = JSON.parse(await readFile(join(whole.model, "config.json"), "utf8"));
  assert.deepEqual([config.model_type, config.architectures], ["hubert", ["HubertModel"]]);
  const { tensors } = await openSafetensors(host, join(whole.model, "model.safetensors"));
  assert.deepEqual(tensors.get("label_embs_concat")?.shape, [5, 16]);
  assert.ok(tensors.has("hubert.masked_spec_embed") && tensors.has("final_proj.weight"));
});

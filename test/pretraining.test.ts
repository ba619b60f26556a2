/** Pretraining of a speech encoder: by transcripts, and by masked prediction of units in two iterations. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { rowsOf } from "../src/speech/recipes/tables.ts";
import { openModelFolder } from "../src/speech/system/folder.ts";
import { newRun, prepareRun, resumedRun } from "../src/speech/training/prepare_run.ts";
import { trainRun } from "../src/speech/training/run.ts";
import { testDevice } from "./device.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";

const device = await testDevice();
const host = await currentHost();
/** wgpu compiles every kernel anew in each process: there one stop has to do. */
const slow = "Deno" in globalThis;
const scratch = await mkdtemp(join(tmpdir(), "pretraining-"));
let corpus: TinyRelease;

before(async () => {
  corpus = await tinyRelease({ turns: 2, seconds: [0.4, 0.45] });
});
after(async () => {
  await corpus.remove();
  await rm(scratch, { recursive: true, force: true });
});

const SETTINGS = [
  ...["stage1.epochs=1", "stage2.epochs=1", "stage1.batch.items=4", "stage2.batch.items=4"],
  ...["checkpoints.every=1"],
];
const UNITS = ['units.clusters={"mfcc":6,"layer":5}', "units.frames=400", "units.iterations=4"];

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

/** The encoder's config in a model folder, without what is not the encoder's. */
function folderConfig(folder: string) {
  return JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
}

test("hubert-pretrain trains two iterations, and a run that is stopped in either ends with the same bits", async () => {
  const whole = await train("whole", "hubert-pretrain", { set: UNITS });
  assert.ok(whole.finished);
  assert.match(whole.notes.join("\n"), /units: 6 clusters of \d+ frames of \d+ recordings, by mfcc\n/);
  assert.match(whole.notes.join("\n"), /units: 5 clusters of \d+ .*, by layer 1 of the model of stage 1$/m);
  const dev = (await metrics(whole.path)).filter((line) => line.dev_loss !== undefined);
  assert.equal(dev.length, 2);
  for (const { dev_accuracy } of dev) assert.ok(dev_accuracy >= 0 && dev_accuracy <= 1);
  const steps = (await metrics(whole.path)).filter((line) => line.dev_loss === undefined).length;

  for (const stopAfter of slow ? [steps / 2 + 1] : [1, steps / 2 + 1]) {
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
  const file = await openSafetensors(host, join(whole.model, "model.safetensors"));
  const { tensors } = file;
  await file.close();
  assert.deepEqual(tensors.get("label_embs_concat")?.shape, [5, 16]);
  assert.ok(tensors.has("hubert.masked_spec_embed") && tensors.has("final_proj.weight"));
});

test("hubert-ctc-pretrain gives a HubertForCTC with which stage 1 and hubert-pretrain begin", async () => {
  const listed = join(scratch, "listed");
  const { utterances } = await readIemocap(host, corpus.root, { all: true });
  const lines = utterances.map(({ wav, text, speaker }) => ({
    path: wav.slice(corpus.root.length + 1),
    text,
    speaker,
  }));
  await mkdir(listed);
  for (const session of ["Session1", "Session2", "Session3"])
    await symlink(join(corpus.root, session), join(listed, session));
  const again = { ...lines[0], text: "Twice." };
  const silent = { path: "none.wav", text: "Where?", speaker: "x" };
  const unspoken = { path: lines[1].path.replace(".wav", ".wav.wav"), speaker: "y" };
  const text = [...lines, again, silent, unspoken].map((line) => `${JSON.stringify(line)}\n`).join("");
  await writeFile(join(listed, "manifest.jsonl"), text);
  const { model, notes, config, path } = await train("ctc", "hubert-ctc-pretrain", { data: listed });
  assert.equal(config.fold, "none");
  const told = notes.join("\n");
  assert.match(told, /^nothing held out; \d+ to learn from, \d+ to choose the epoch$/m);
  for (const what of ["duplicate id 1", "missing wav 1", "missing transcript 1"])
    assert.match(told, new RegExp(what));
  const dev = (await metrics(path)).filter((line) => line.dev_loss !== undefined);
  assert.ok(dev.length === 1 && dev.every(({ dev_wer }) => dev_wer > 0));
  const folder = await openModelFolder(host, model);
  await folder.weights.close();
  assert.equal(folder.architecture, "HubertForCTC");
  assert.ok(folder.vocabulary);

  const emotion = await train("emotion", "acoustic-asr", { hubert: model });
  assert.ok(emotion.finished);
  assert.deepEqual(emotion.config.model.hubert, { ...folderConfig(model), pad_token_id: 0 });
  const units = await train("units", "hubert-pretrain", { hubert: model, stage: 2, set: UNITS });
  assert.ok(units.finished, "the layer of the checkpoint gives the units");
});

test("hubert-pretrain learns from a folder of recordings", async () => {
  const wavs = join(corpus.root, "Session1/sentences/wav");
  const { finished, notes } = await train("folder", "hubert-pretrain", {
    data: wavs,
    stage: 1,
    set: [...UNITS, "dev=0.5"],
  });
  assert.ok(finished);
  assert.ok(!notes.some((line) => /transcript/.test(line)), notes.join("\n"));
  await assert.rejects(train("none", "hubert-ctc-pretrain", { data: wavs }), {
    message: `Cannot read words from ${wavs}: it has no manifest.csv or manifest.jsonl, and recordings alone have no words`,
  });
  const texts = join(corpus.root, "Session1/dialog");
  await assert.rejects(train("none", "hubert-pretrain", { data: texts, set: UNITS }), {
    message: /^Cannot read a corpus from .*dialog: expected Session1 to Session5 .* with 0 wav files$/,
  });
});

test("what a system of pretraining does not read is refused", () => {
  const plan = (system: string, ...set: string[]) =>
    newRun({ preset: "nano", system, data: "corpus", set }, () => {});
  for (const [system, setting, why] of [
    [
      "hubert-pretrain",
      "stage1.augment.noise=0.1",
      /nothing reads .*: .* predicts the units of recordings as they are/,
    ],
    ["hubert-pretrain", "stage1.select=wer", /recognises no words/],
    ["hubert-ctc-pretrain", "stage1.select=ua", /recognises no emotion/],
    ["hubert-ctc-pretrain", "units.layer=1", /nothing reads units.layer: .* clusters no frames/],
    ["hubert-pretrain", "units.temperature=0", /units.temperature is 0/],
    ["both-cmgi", "units.layer=1", /nothing reads units.layer: the system both-cmgi clusters no frames/],
  ] as const)
    assert.throws(() => plan(system, setting), why, `${system} ${setting}`);
  assert.throws(() => rowsOf(["hubert-pretrain"]), /it is pretraining, which recognises no emotion/);
});

test("layers and masks that the model lacks are refused before training", async () => {
  const refused = (set: string[], message: RegExp) =>
    assert.rejects(train("refused", "hubert-pretrain", { set: [...UNITS, ...set] }), { message });
  await refused(["units.layer=3"], /Cannot cluster by layer 3: units.layer should be at most 2,/);
  await refused(
    ["model.hubert.mask_time_prob=0", "model.hubert.mask_feature_prob=0"],
    /mask_time_prob is 0 but should be above 0/,
  );
});

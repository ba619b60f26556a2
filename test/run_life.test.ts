/** The life of a run: killed at any moment, resumed, its folder damaged, its corpus lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Utterance } from "../src/corpora/corpus.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { Linear } from "../src/nn/linear.ts";
import { Weights } from "../src/nn/weights.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import { trainConfig } from "../src/recipes.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import type { build } from "../src/train/build.ts";
import { saveWeights } from "../src/train/checkpoint.ts";
import { applySettings, checkConfig, type TrainConfig } from "../src/train/config.ts";
import { type RunOptions, trainRun } from "../src/train/run.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import type { Task } from "../src/train/task.ts";
import { wholeRecords } from "../src/train/tensorboard.ts";
import { type Disk, diskHost } from "./memory_disk.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const host = await currentHost();

const utterance: Utterance = {
  ...{ id: "u", wav: "u.wav", text: "so", words: "SO", label: "sad", speaker: "01F", session: "Session1" },
  ...{ dialogue: "d", improvised: true, start: 0, end: 1, seconds: 1 },
};
const data: RunOptions["data"] = {
  examined: {
    ...{ utterances: [utterance], problems: [] },
    ...{ notForTraining: new Set<string>(), notForCtc: new Set<string>() },
  },
  fold: { name: "Session1", train: [utterance], dev: [], test: [] },
};

const recipe = (...settings: string[]): TrainConfig =>
  checkConfig(
    applySettings(trainConfig({ preset: "nano", system: "both-cmgi", data: "corpus", fold: 1 }), [
      ...["stages=[1,2]", "stage1.epochs=2", "stage2.epochs=1", "stage1.select=loss", "stage2.select=last"],
      ...["checkpoints.every=1", ...settings],
    ]),
    "the test",
  );

/** What a fake task's files are like: which items of an epoch can be read, and how many of the dev set. */
interface Corpus {
  readonly items: number;
  reads(index: number, epoch: number): boolean;
  dev?(): { loss: number; utterances: number; of: number };
}
const whole: Corpus = { items: 2, reads: () => true };

/** A system of one linear map, four weights in all: what a run does around it is what is tested. */
function tiny(on: Host, corpus: Corpus): typeof build {
  return async (_device, config, stage, chosen, checkpoint) => {
    const folder = checkpoint ?? chosen[1];
    const file = folder === undefined ? undefined : await openSafetensors(on, `${folder}/model.safetensors`);
    const weights = new Weights(device, { file, path: folder, seed: config.seed });
    const head = new Linear(weights.root.at("head"), 1, 2);
    await weights.load();
    await file?.close();
    const task: Task<readonly number[]> = {
      parameters: weights.parameters,
      plan: (epoch) => Array.from({ length: corpus.items }, (_, i) => [(i + epoch) % corpus.items]),
      load: async (indices, epoch) => {
        const read = indices.filter((i) => corpus.reads(i, epoch));
        return read.length > 0 ? read : undefined;
      },
      size: (batch) => batch.length,
      amount: (batch) => batch.length,
      losses: ([i]) => {
        const x = Tensor.from(device, Float32Array.of(1 + i), [1, 1]);
        return { loss: crossEntropy(head.forward(x), [(i + stage) % 2]), parts: {} };
      },
      evaluate: async () => {
        const [w] = await head.weight.value.read();
        return corpus.dev?.() ?? { loss: 1 + Math.abs(w) };
      },
      save: (path) => saveWeights(on, `${path}/model.safetensors`, weights.parameters),
    };
    return { weights, task: task as Task<unknown> };
  };
}

/** What its owner types until the run is done: the same command, or --resume once the run has its config. */
async function go(
  on: Host,
  config: TrainConfig,
  {
    corpus = whole,
    signal,
    onStep,
  }: Partial<Pick<RunOptions, "signal" | "onStep">> & { corpus?: Corpus } = {},
): Promise<string[]> {
  const resume = (await on.kind("run/config.json")) === "file";
  const run = resume ? await RunFolder.open(on, "run") : await RunFolder.create(on, "run", config);
  const notices: string[] = [];
  await trainRun({
    ...{ device, run, config, data, resume, measure: () => ({ ua: 0, wa: 0 }) },
    signal: signal ?? new AbortController().signal,
    buildStage: tiny(on, corpus),
    onStep,
    onNotice: (line) => notices.push(line),
  });
  return notices;
}

const text = (disk: Disk, path: string): string => {
  const found = disk.get(`run/${path}`);
  assert.ok(found instanceof Uint8Array, `${path} is not there`);
  return new TextDecoder("latin1").decode(found);
};
const lines = (disk: Disk) =>
  text(disk, "metrics.jsonl")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { seconds: _s, bytes: _b, ...rest } = JSON.parse(line);
      return rest;
    });
/** All that a run leaves, without what the clock says. */
const outcome = (disk: Disk) => ({
  names: [...disk.keys()].filter((name) => name !== "run/log.txt").sort(),
  model: text(disk, "model/model.safetensors"),
  metrics: lines(disk),
  events: text(disk, "events.out.tfevents.wavegate").length,
});

/** A run that nothing disturbs, with the disk as it was after each change. */
const config = recipe();
const unbroken: Disk = new Map();
const moments = await momentsOf(unbroken, config);
const expected = outcome(unbroken);

/** Runs on `disk` to the end; the disk after each change on the way. */
async function momentsOf(disk: Disk, recipe: TrainConfig): Promise<Disk[]> {
  const seen: Disk[] = [];
  await go(
    diskHost(host, disk, () => seen.push(new Map(disk))),
    recipe,
  );
  return seen;
}

async function endsTheSame(moment: Disk, when: string): Promise<void> {
  const disk = new Map(moment);
  await go(diskHost(host, disk), config).catch((error: Error) => assert.fail(`${when}: ${error.message}`));
  assert.deepEqual(outcome(disk), expected, when);
}

test("trainRun() ends with the same bits wherever it was killed, and wherever its resumption was", async () => {
  assert.ok(moments.length > 100, `${moments.length} changes`);
  for (const [k, moment] of moments.entries()) {
    await endsTheSame(moment, `killed after change ${k + 1} of ${moments.length}`);
    if (k % 5 !== 0) continue;
    const again = await momentsOf(new Map(moment), config);
    const j = (7 * k) % Math.max(1, Math.min(again.length, 40));
    if (again[j]) await endsTheSame(again[j], `killed after changes ${k + 1} and then ${j + 1}`);
  }
});

test("trainRun() keeps the checkpoint of a stop until the one of the same step is whole", async () => {
  const disk: Disk = new Map();
  const controller = new AbortController();
  // The last update of the first epoch: its figures are still to come, and then a checkpoint of the same step.
  const onStep = ({ step }: { step: number }) => step === 2 && controller.abort();
  await go(diskHost(host, disk), config, { signal: controller.signal, onStep });
  assert.deepEqual(
    [...disk.keys()].filter((name) => name.endsWith("0000002")),
    ["run/checkpoints/stage1-0000002"],
  );
  const again = await momentsOf(new Map(disk), config);
  for (const [k, moment] of again.slice(0, 45).entries())
    await endsTheSame(moment, `stopped, then killed after change ${k + 1}`);
});

/** The disk at the moment when `path` was first there. */
const since = (path: string): Disk => {
  const found = moments.find((disk) => disk.has(path));
  assert.ok(found, path);
  return new Map(found);
};

test("trainRun() begins anew, and says so, where a run was killed before its first checkpoint", async () => {
  const early = recipe("checkpoints.every=0");
  const all: Disk = new Map();
  const between = (await momentsOf(all, early)).find((disk) =>
    disk.has("run/best/stage1-epoch001/state.json"),
  );
  assert.ok(between && ![...between.keys()].some((name) => name.startsWith("run/checkpoints/")));
  const disk = new Map(between);
  const notices = await go(diskHost(host, disk), early);
  assert.deepEqual(notices, ["run has no checkpoint yet: it starts from the beginning"]);
  assert.deepEqual(outcome(disk), outcome(all));
  // The same command again would lose the model of the first epoch, and says what to type.
  await assert.rejects(RunFolder.create(diskHost(host, new Map(between)), "run", early), {
    message: "Cannot start a run in run: one is there already; --resume --out run goes on with it",
  });
  for (const path of ["run/config.json", "run/checkpoints", "run/checkpoints/stage1-0000001.partial"])
    await RunFolder.create(diskHost(host, since(path)), "run", config);
  await assert.rejects(RunFolder.open(diskHost(host, since("run")), "run"), /starts again without --resume$/);
});

test("RunFolder.create() refuses a folder that is no run, names what is in it and touches nothing", async () => {
  const filled = (...names: string[]): Disk => {
    const disk: Disk = new Map([["run", "directory"]]);
    for (const name of names) disk.set(`run/${name}`, new Uint8Array(9));
    return disk;
  };
  const refused = async (disk: Disk, message: RegExp) => {
    const before = new Map(disk);
    for (const step of [RunFolder.check, RunFolder.create])
      await assert.rejects(step(diskHost(host, disk), "run", config), message);
    assert.deepEqual(disk, before);
  };
  await refused(
    filled("config.json", "model.safetensors", "vocab.json"),
    /^Error: Cannot start a run in run: it is no run and holds config\.json, model\.safetensors, vocab\.json, expected a new or an empty folder$/,
  );
  await refused(filled("metrics.jsonl"), /holds metrics\.jsonl, expected/);
  await refused(filled("log.txt"), /holds log\.txt, expected/);
  await refused(filled("model/a", "best/b", "checkpoints/c"), /holds /);
  await refused(filled(..."abcdefgh"), /holds a, b, c, d, e, f and 2 more, expected/);
  await refused(new Map([["run", new Uint8Array(1)]]), /Cannot start a run in run: it is a file$/);
  await refused(new Map(unbroken), /one is there already/);
  for (const disk of [filled(), filled("lock", "lock.7.tmp"), new Map() as Disk])
    await RunFolder.create(diskHost(host, disk), "run", config);
});

test("trainRun() goes on without figures that were deleted or cut, and says what is lost", async () => {
  const half = since("run/checkpoints/stage1-0000004");
  const damage = async (
    name: string,
    change: (bytes: Uint8Array) => Uint8Array | undefined,
    said: RegExp,
  ) => {
    const disk = new Map(half);
    const changed = change(disk.get(`run/${name}`) as Uint8Array);
    if (changed) disk.set(`run/${name}`, changed);
    else disk.delete(`run/${name}`);
    const notices = await go(diskHost(host, disk), config);
    assert.match(notices.join("; "), said);
    assert.equal(text(disk, "model/model.safetensors"), expected.model);
    return disk;
  };
  const lost = (name: string) =>
    new RegExp(`^run/${name} lacks \\d+ of the \\d+ bytes from before the checkpoint: .*$`);
  const removed = await damage("metrics.jsonl", () => undefined, lost("metrics\\.jsonl"));
  assert.deepEqual(lines(removed), expected.metrics.slice(-lines(removed).length));
  const cut = await damage("metrics.jsonl", (b) => b.subarray(0, b.length - 200), lost("metrics\\.jsonl"));
  assert.ok(lines(cut).length > lines(removed).length, "the lines that were whole are lost");
  const events = "events.out.tfevents.wavegate";
  for (const change of [(b: Uint8Array) => b.subarray(0, b.length - 7), () => undefined]) {
    const disk = await damage(events, change, lost("events\\.out\\.tfevents\\.wavegate"));
    const bytes = disk.get(`run/${events}`) as Uint8Array;
    assert.equal(wholeRecords(bytes), bytes.length);
    assert.match(text(disk, events).slice(0, 60), /brain\.Event:2/);
  }
});

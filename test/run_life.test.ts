/** The life of a run: killed at any moment, resumed, its folder damaged, its corpus lost. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Utterance } from "../src/speech/corpora/corpus.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { Linear } from "../src/nn/linear.ts";
import { Weights } from "../src/nn/weights.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import type { build } from "../src/speech/training/build.ts";
import { saveWeights } from "../src/train/checkpoint.ts";
import { applySettings, checkConfig, type TrainConfig } from "../src/speech/recipes/config.ts";
import { prepareRun } from "../src/speech/training/prepare_run.ts";
import { type RunOptions, trainRun } from "../src/speech/training/run.ts";
import { refuseTooFew, type Task } from "../src/train/task.ts";
import { RunFolder } from "../src/train/run_folder.ts";
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
    await weights.initialize();
    await file?.close();
    const task: Task<readonly number[]> = {
      items: "utterances",
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
    ...{ device, run, config, data, resume },
    signal: signal ?? new AbortController().signal,
    buildStage: tiny(on, corpus),
    onStep,
    onNote: (line) => notices.push(line),
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
      const { seconds: _s, bytes: _b, buffers: _n, bind_groups: _g, ...rest } = JSON.parse(line);
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

/** Node resumes from every moment. Deno, which takes three times as long for it, from every third. */
const EVERY = "Deno" in globalThis ? 3 : 1;

/** Does `act` to these moments, several at a time: a run mostly waits. */
async function together(all: readonly Disk[], act: (disk: Disk, k: number) => Promise<void>): Promise<void> {
  const left = [...all.entries()].filter(([k]) => k % EVERY === 0);
  const work = async () => {
    for (let next = left.shift(); next; next = left.shift()) await act(next[1], next[0]);
  };
  await Promise.all(Array.from({ length: 12 }, work));
}

async function endsTheSame(moment: Disk, when: string): Promise<void> {
  const disk = new Map(moment);
  await go(diskHost(host, disk), config).catch((error: Error) => assert.fail(`${when}: ${error.message}`));
  assert.deepEqual(outcome(disk), expected, when);
}

test("trainRun() ends with the same bits wherever it was killed, and wherever its resumption was", async () => {
  assert.ok(moments.length > 100, `${moments.length} changes`);
  await together(moments, async (moment, k) => {
    await endsTheSame(moment, `killed after change ${k + 1} of ${moments.length}`);
    if (k % 5 !== 0) return;
    const again = await momentsOf(new Map(moment), config);
    const j = (7 * k) % Math.max(1, Math.min(again.length, 40));
    if (again[j]) await endsTheSame(again[j], `killed after changes ${k + 1} and then ${j + 1}`);
  });
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
  await together(again.slice(0, 45), (moment, k) =>
    endsTheSame(moment, `stopped, then killed after change ${k + 1}`),
  );
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
    message: "Cannot start a run in run: one is there already; resume it, or start in another folder",
  });
  for (const path of ["run/config.json", "run/checkpoints", "run/checkpoints/stage1-0000001.partial"])
    await RunFolder.create(diskHost(host, since(path)), "run", config);
  await assert.rejects(
    RunFolder.open(diskHost(host, since("run")), "run"),
    /one that was stopped before it wrote that starts anew$/,
  );
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

test("train says in its own words what a run is not, and how one that is there goes on", async () => {
  const disk = since("run/checkpoints/stage1-0000004");
  await assert.rejects(go(diskHost(host, new Map(disk)), recipe("stage1.epochs=9")), {
    message: "Cannot resume run: its config.json is not the one that the run began with",
  });
  const planned = { config, foldFrom: "choice" } as const;
  await assert.rejects(prepareRun(diskHost(host, disk), "run", planned, { onNote: () => {} }), {
    message: "Cannot start a run in run: one is there already; --resume --out run goes on with it",
  });
});

test("RunFolder.prune() keeps the models in best/ where a state does not say which of them it names", async () => {
  const kept = async (state: unknown) => {
    const disk: Disk = new Map();
    const run = await RunFolder.create(diskHost(host, disk), "run", config);
    for (const name of ["best/stage1-epoch001", "checkpoints/stage1-0000004"])
      disk.set(`run/${name}/state.json`, new TextEncoder().encode(JSON.stringify(state)));
    await run.prune(1);
    return [...disk.keys()].some((path) => path.startsWith("run/best/stage1-epoch001/"));
  };
  assert.equal(await kept({ bests: { 1: { folder: "stage1-epoch001" } } }), true);
  assert.equal(await kept({ bests: {} }), false);
  for (const damaged of [{}, { bests: [] }, { bests: { 1: {} } }, { bests: { 1: "stage1-epoch001" } }, [7]])
    assert.equal(await kept(damaged), true, JSON.stringify(damaged));
});

test("RunFolder.check() takes a lock that a run left for nothing, and refuses a file of that name that is somebody's own", async () => {
  const holding = (text: string) =>
    diskHost(
      host,
      new Map<string, Uint8Array | "directory">([
        ["run", "directory"],
        ["run/lock", new TextEncoder().encode(text)],
      ]),
    );
  for (const left of ["", '{"pid":7,"host":"here"}', "{", '{"pid":'])
    await RunFolder.check(holding(left), "run");
  for (const own of ["hello", "{}", '{"name":"x"}'])
    await assert.rejects(RunFolder.check(holding(own), "run"), {
      message: "Cannot start a run in run: it is no run and holds lock, expected a new or an empty folder",
    });
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

test("trainRun() stops, resumable, where more of the corpus than a few files is lost", async () => {
  const wide = recipe("checkpoints.every=0", "stage1.select=last", "stages=[1]", "stage1.epochs=3");
  const all: Corpus = { items: 12, reads: () => true };
  const expected: Disk = new Map();
  await go(diskHost(host, expected), wide, { corpus: all });
  // The files vanish in the second epoch; nothing of what follows counts as done, and no model is published.
  const disk: Disk = new Map();
  const lost: Corpus = { ...all, reads: (i, epoch) => epoch < 1 || (epoch === 1 && i > 0 && i < 7) };
  const vanish = () => go(diskHost(host, disk), wide, { corpus: lost });
  const message =
    "Cannot go on training: 3 of 12 utterances of epoch 2 can no longer be read, at most 5 % may be missing; what was learnt is saved, and resuming goes on once they are back";
  for (let n = 0; n < 2; n++) {
    await assert.rejects(vanish, { name: "Error", message });
    assert.ok(!disk.has("run/model"), "a model is published");
  }
  assert.deepEqual((await newestState(disk)).step, 18, "updates of which nothing was read count");
  // Where the run's own disk is full besides, the corpus is still what is told first.
  const full = new Map(disk);
  const on: Host = {
    ...diskHost(host, full),
    createAtomic: () => Promise.reject(new Error("Cannot write x: no space left on the disk")),
  };
  await assert.rejects(go(on, wide, { corpus: lost }), {
    message: `${message.split(";")[0]}; and what was learnt since the last checkpoint could not be saved: Cannot write x: no space left on the disk`,
  });
  assert.deepEqual((await newestState(full)).step, 18);
  await go(diskHost(host, disk), wide, { corpus: all });
  assert.deepEqual(outcome(disk).metrics, outcome(expected).metrics);
  assert.equal(outcome(disk).model, outcome(expected).model);
  // A few broken files cost only themselves, and are told.
  const few: Disk = new Map();
  const said = await go(diskHost(host, few), wide, { corpus: { ...all, reads: (i) => i !== 5 && i !== 9 } });
  assert.equal(
    said.filter((line) => /none of its 1 utterances can be read, no update$/.test(line)).length,
    6,
  );
  assert.equal(lines(few).filter(({ loss }) => loss !== undefined).length, 3 * 10);
});

test("trainRun() marks dev figures over fewer utterances and compares none over different ones", async () => {
  const config = recipe("stages=[1]", "stage1.epochs=4", "stage1.select=loss");
  const figures = [
    { loss: 2, utterances: 10, of: 10 },
    { loss: 1, utterances: 9, of: 10 },
    { loss: 1.9, utterances: 10, of: 10 },
    { loss: 1.95, utterances: 10, of: 10 },
  ];
  let epoch = 0;
  const disk: Disk = new Map();
  const corpus: Corpus = { ...whole, dev: () => figures[epoch++] };
  const said = await go(diskHost(host, disk), config, { corpus });
  assert.deepEqual(said, [
    "stage 1: dev figures over 9 utterances are not compared with those of the best, over 10: epoch 1 stays",
  ]);
  const marked = lines(disk).filter((line) => line.dev_loss !== undefined);
  assert.deepEqual(
    marked.map((line) => [line.dev_utterances, line.dev_of]),
    figures.map(({ utterances, of }) => [utterances, of]),
  );
  const state = await newestState(disk);
  assert.deepEqual(state.bests[1], { folder: "stage1-epoch003", epoch: 2, score: -1.9, utterances: 10 });
  assert.deepEqual([state.newBob.factor, state.newBob.last], [0.5, 1.95], "the first is not compared either");
  const lost = { ...whole, dev: () => refuseTooFew(3, 10, "the dev set") as never };
  const stopped: Disk = new Map();
  await assert.rejects(
    go(diskHost(host, stopped), config, { corpus: lost }),
    /^Error: Cannot go on training: 3 of 10/,
  );
  assert.deepEqual([(await newestState(stopped)).batch, stopped.has("run/best/stage1-epoch001")], [2, false]);
});

async function newestState(disk: Disk) {
  const on = diskHost(host, disk);
  const [folder] = await (await RunFolder.open(on, "run")).finished();
  return JSON.parse(await on.readText(`${folder}/state.json`));
}

test("openLatest() refuses a state that cannot be, and a tensor that is not as it was written", async () => {
  const half = since("run/checkpoints/stage1-0000004");
  const [newest, before] = ["stage1-0000004", "stage1-0000003"].map((name) => `run/checkpoints/${name}`);
  const refused = async (name: string, change: (bytes: Uint8Array) => Uint8Array, message: RegExp) => {
    const disk = new Map(half);
    // Of an older version: what is not as it was written shows by its sense alone.
    if (name === "state.json") disk.delete(`${newest}/${name}.sha256`);
    disk.set(`${newest}/${name}`, change((disk.get(`${newest}/${name}`) as Uint8Array).slice()));
    await assert.rejects(go(diskHost(host, disk), config), (error: Error) => {
      assert.match(error.message, message);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  };
  const state = (edit: (state: Record<string, never>) => unknown, message: RegExp) =>
    refused(
      "state.json",
      (bytes) => {
        const value = JSON.parse(new TextDecoder().decode(bytes));
        return new TextEncoder().encode(JSON.stringify({ ...value, ...(edit(value) as object) }));
      },
      message,
    );
  await state(
    () => ({ epoch: 1e308 }),
    /epoch is 1e\+308 but should be a whole number from 0 to 2\^53 - 1; without .*4 .* goes on from .*3$/,
  );
  await state(() => ({ epoch: 7 }), /epoch is 7 and batch 0, but stage 1 has 2 epochs/);
  await state(() => ({ epoch: 1 }), /step is 4 at epoch 1 and batch 0, but should be 2$/);
  await state(() => ({ batch: 1 }), /epoch is 2 and batch 1/);
  await state(() => ({ step: 0 }), /its stage and step are those of stage1-0000000/);
  await state(() => ({ stage: 2 }), /its stage and step are those of stage2-0000004/);
  await state(() => ({ lossScale: 4 }), /lossScale is 4 but should be 1 with f32/);
  await state(() => ({ lossScale: 1e308 }), /lossScale is 1e\+308 but should be at most/);
  await state(() => ({ newBob: { factor: 0 } }), /newBob\.factor is 0 but should be more than 0/);
  await state(
    () => ({ updates: { "head.weight": 9 } }),
    /updates of head\.weight are 9 but should be at most step, 4/,
  );
  const named = (folder: string, more = {}) => ({ bests: { 1: { folder, epoch: 1, score: -1, ...more } } });
  for (const folder of ["", "../x", "stage1-epoch002/..", "/tmp"])
    await state(
      () => named(folder),
      /bests\.1\.folder is ".*" but should be the name of a folder in best\/;/,
    );
  await state(() => named("stage1-epoch001"), /bests\.1\.folder is stage1-epoch001 but its epoch is 1/);
  await state(
    () => named("stage1-epoch006", { epoch: 5 }),
    /bests\.1\.epoch is 5 but should be less than epoch, 2/,
  );
  for (const name of ["model.safetensors", "optimizer.safetensors"])
    await refused(
      name,
      (bytes) => {
        bytes[bytes.length - 3] ^= 1;
        return bytes;
      },
      new RegExp(
        `${name}: it is damaged, its SHA-256 is \\w{8}… but was \\w{8}… .*; without ${newest} the run goes on from ${before}$`,
      ),
    );
  // Checkpoints of older versions have no checksums.
  const old = new Map([...half].filter(([name]) => !name.endsWith(".sha256")));
  await go(diskHost(host, old), config);
  assert.equal(text(old, "model/model.safetensors"), expected.model);
});

test("openLatest() refuses a state that was edited with sense, and tensors of another checkpoint with their checksums", async () => {
  const half = since("run/checkpoints/stage1-0000004");
  const [newest, before] = ["stage1-0000004", "stage1-0000003"].map((name) => `run/checkpoints/${name}`);
  const edited = new Map(half);
  edited.set(
    `${newest}/state.json`,
    new TextEncoder().encode(
      text(half, `${newest.slice(4)}/state.json`).replace('"steady": 4', '"steady": 3'),
    ),
  );
  await assert.rejects(go(diskHost(host, edited), config), {
    message: new RegExp(
      `^Cannot use ${newest}/state.json: it is damaged, .*; without ${newest} the run goes on`,
    ),
  });
  for (const name of ["model", "optimizer"]) {
    const swapped = new Map(half);
    for (const file of [`${name}.safetensors`, `${name}.safetensors.sha256`])
      swapped.set(`${newest}/${file}`, half.get(`${before}/${file}`) as Uint8Array);
    await assert.rejects(go(diskHost(host, swapped), config), {
      message: new RegExp(`^Cannot use ${newest}/${name}.safetensors: it is damaged, `),
    });
  }
});

test("openLatest() refuses a state without the model of a stage that is done", async () => {
  const disk = new Map(since("run/checkpoints/stage2-0000001"));
  const name = "run/checkpoints/stage2-0000001/state.json";
  const state = JSON.parse(text(disk, name.slice(4)));
  disk.delete(`${name}.sha256`);
  disk.set(name, new TextEncoder().encode(JSON.stringify({ ...state, bests: {} })));
  await assert.rejects(go(diskHost(host, disk), config), {
    message: `Cannot use ${name}: bests lacks 1, a stage that is done; without run/checkpoints/stage2-0000001 the run goes on from run/checkpoints/stage1-0000004`,
  });
});

test("trainRun() ends where its folder is taken away, and makes nothing anew", async () => {
  for (const change of [20, 31, 47, 60, 90, 120]) {
    const disk: Disk = new Map();
    let n = 0;
    const on = diskHost(host, disk, () => {
      if (++n === change) disk.clear();
    });
    await assert.rejects(go(on, config), {
      message:
        "Cannot go on with run: its config.json is gone, the folder was removed or moved while the run wrote to it",
    });
    assert.deepEqual([...disk.keys()], [], `after change ${change}`);
  }
});

/** The life of a run: killed at any moment, resumed, its folder damaged or gone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TrainConfig } from "../src/speech/recipes/config.ts";
import { prepareRun } from "../src/speech/training/prepare_run.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { wholeRecords } from "../src/train/tensorboard.ts";
import { type Disk, diskHost } from "./memory_disk.ts";
import { go, host, lines, newestState, outcome, recipe, text, whole } from "./tiny_run.ts";

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
  for (const change of [22, 33, 49, 62, 92, 122]) {
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

test("a stage stops early after so many epochs without a score as good as the best, wherever it was killed", async () => {
  const early = recipe("stage1.epochs=9", "stage1.earlyStoppingPatience=2", "stage2.epochs=1");
  // Epoch 4 is as good as epoch 2, which therefore is not the last hope.
  const losses = [3, 1, 2, 1, 2, 2, 0, 0, 0];
  const corpus = { ...whole, dev: (epoch: number) => ({ loss: losses[epoch] }) };
  const disk: Disk = new Map();
  const stopped: Disk[] = [];
  const told = await go(
    diskHost(host, disk, () => stopped.push(new Map(disk))),
    early,
    { corpus },
  );
  assert.deepEqual(told, ["stage 1  stops after epoch 6 of 9: since epoch 4 none was as good"]);
  const result = outcome(disk);
  const epochs = result.metrics.filter((line) => line.stage === 1 && line.dev_loss !== undefined);
  assert.deepEqual(
    epochs.map(({ epoch, dev_loss }) => [epoch, dev_loss]),
    losses.slice(0, 6).map((loss, epoch) => [epoch, loss]),
  );
  assert.equal((await newestState(disk)).bests[1].epoch, 3);
  const some = stopped.filter((_, k) => k % 3 === 0 || k > stopped.length - 12);
  await together(some, async (moment) => {
    const again = new Map(moment);
    await go(diskHost(host, again), early, { corpus });
    assert.deepEqual(outcome(again), result);
  });
});

test("early stopping without a score to wait for is refused", () => {
  assert.throws(
    () => recipe("stage2.select=last", "stage2.earlyStoppingPatience=3"),
    /^RangeError: Cannot use the test: stage2\.earlyStoppingPatience needs the score of a dev set, but stage2\.select is last$/,
  );
  assert.throws(() => recipe("stage1.earlyStoppingPatience=3", "dev=0"), /of a dev set, but dev is 0$/);
  assert.throws(() => recipe("stage1.earlyStoppingPatience=0"), /should be a whole number from 1/);
});

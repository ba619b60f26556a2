/** Recordings that can no longer be read while a run trains on them or measures over them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Host } from "../src/host/host.ts";
import { refuseTooFew } from "../src/train/task.ts";
import { type Disk, diskHost } from "./memory_disk.ts";
import { type Corpus, go, host, lines, newestState, outcome, recipe, whole } from "./tiny_run.ts";

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

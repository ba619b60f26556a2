/** What a run may begin in, and what of its folder it keeps. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RunFolder } from "../src/train/run_folder.ts";
import { type Disk, diskHost } from "./memory_disk.ts";
import { go, host, recipe } from "./tiny_run.ts";

const config = recipe();
const unbroken: Disk = new Map();
await go(diskHost(host, unbroken), config);

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

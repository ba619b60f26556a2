/**
 * Runs that are killed and go on: the same weights and the same metrics as a run that was never stopped.
 *
 *   WAVEGATE_KILLS=10 WAVEGATE_KILL_SEED=7 WAVEGATE_KILL_CORPUS=corpus/nano npm test -- resume
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { uniform } from "./reference.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";

/** wgpu compiles every kernel anew in each process: there one kill, one stage and the fewest kernels have to do. */
const slow = "Deno" in globalThis;
const KILLS = Number(process.env.WAVEGATE_KILLS ?? (slow ? 1 : 4));
const root = fileURLToPath(new URL("..", import.meta.url));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

let corpus: TinyRelease;
let runs: string;

interface Ended {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stderr: string;
}

/** Starts `wavegate train`; `stop` sends a signal a while after so many new checkpoints stand in RUN. */
async function train(
  args: readonly string[],
  stop?: { out: string; signal: "SIGKILL" | "SIGINT"; checkpoints: number; milliseconds: number },
): Promise<Ended> {
  const before = stop && (await checkpoints(stop.out));
  const child = spawn(process.execPath, [...runtime, "tools/train.ts", ...args], {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<Ended>((resolve) =>
    child.on("close", (status, signal) => resolve({ status, signal, stderr })),
  );
  if (stop && before) {
    let running = true;
    ended.then(() => {
      running = false;
    });
    const passed = async () => (await checkpoints(stop.out)).filter((name) => !before.includes(name)).length;
    while (running && (await passed()) < stop.checkpoints) await sleep(5);
    await sleep(stop.milliseconds);
    child.kill(stop.signal);
  }
  return await ended;
}

/** Folders in RUN/checkpoints, finished or not; the run keeps two. */
const checkpoints = (out: string) => readdir(join(out, "checkpoints")).catch((): string[] => []);

const start = (out: string) => [
  ...[
    "--system",
    slow ? "acoustic" : "both-cmgi",
    "--preset",
    "nano",
    "--data",
    corpus.root,
    "--fold",
    "3",
    "--out",
    out,
  ],
  ...["--set", "sentences=80", "--set", "stage0.batch.items=16", "--set", "checkpoints.every=1"],
  ...["--set", "stage1.batch.items=4", "--set", "stage2.batch.items=4", "--set", "stage2.accumulate=2"],
];

before(async () => {
  const given = process.env.WAVEGATE_KILL_CORPUS;
  corpus = given ? { root: resolve(given), remove: async () => {} } : await tinyRelease();
  runs = await mkdtemp(join(tmpdir(), "wavegate-runs-"));
  const { status, stderr } = await train(start(join(runs, "whole")));
  assert.equal(status, 0, stderr);
});

after(async () => {
  await corpus.remove();
  await rm(runs, { recursive: true, force: true });
});

/** Lines of metrics.jsonl without what the clock and the pool say. */
async function metrics(run: string): Promise<unknown[]> {
  const text = await readFile(join(runs, run, "metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { seconds: _s, bytes: _b, buffers: _n, bind_groups: _g, ...rest } = JSON.parse(line);
      return rest;
    });
}

async function same(run: string): Promise<void> {
  const model = (name: string) => readFile(join(runs, name, "model/model.safetensors"));
  assert.ok((await model(run)).equals(await model("whole")), "the weights differ from the unbroken run's");
  assert.deepEqual(await metrics(run), await metrics("whole"));
  const left = await readdir(join(runs, run, "checkpoints"));
  assert.ok(left.length <= 2 && left.every((name) => !name.endsWith(".tmp")), left.join());
}

test(`train --resume ends with the same bits after ${KILLS} SIGKILL(s) at random moments`, async () => {
  const next = uniform(Number(process.env.WAVEGATE_KILL_SEED ?? 5));
  const out = join(runs, "killed");
  let args = start(out);
  for (let kill = 0; kill < KILLS; kill++) {
    // Before the first step, between steps, and while a checkpoint is written.
    const stop = { out, checkpoints: next() < 0.25 ? 0 : 1, milliseconds: 400 * next() };
    const { signal, stderr } = await train(args, { ...stop, signal: "SIGKILL" });
    assert.equal(signal, "SIGKILL", `the run ended before kill ${kill + 1}: ${stderr}`);
    if ((await readdir(out).catch((): string[] => [])).includes("config.json"))
      args = ["--resume", "--out", out];
  }
  const { status, stderr } = await train(args);
  assert.equal(status, 0, stderr);
  await same("killed");
});

test("train saves and stops at Ctrl-C, and --resume ends with the same bits", async () => {
  const out = join(runs, "stopped");
  const stop = { out, signal: "SIGINT" as const, checkpoints: 2, milliseconds: 30 };
  const stopped = await train(start(out), stop);
  // Deno reports a child that was sent a signal as killed by it, however it ended.
  if (!("Deno" in globalThis)) assert.equal(stopped.status, 130, stopped.stderr);
  assert.match(await readFile(join(out, "log.txt"), "utf8"), /interrupted\n$/);
  const { status, stderr } = await train(["--resume", "--out", out]);
  assert.equal(status, 0, stderr);
  await same("stopped");
});

/** Runs that are killed and go on: the same weights and the same metrics as a run that was never stopped. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { uniform } from "./reference.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";

const KILLS = Number(process.env.WAVEGATE_KILLS ?? 3);
const root = fileURLToPath(new URL("..", import.meta.url));
const runtime = "Deno" in globalThis ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];

let corpus: TinyRelease;
let runs: string;
/** How long the unbroken run took: kills fall within it. */
let milliseconds: number;

interface Ended {
  readonly status: number | null;
  readonly stderr: string;
}

/** Starts `wavegate train`; `stop` sends a signal after some milliseconds. */
function train(
  args: readonly string[],
  stop?: { signal: "SIGKILL" | "SIGINT"; after: number },
): Promise<Ended> {
  const child = spawn(process.execPath, [...runtime, "tools/train.ts", ...args], {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const timer = stop && setTimeout(() => child.kill(stop.signal), stop.after);
  return new Promise((resolve) =>
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ status, stderr });
    }),
  );
}

const start = (out: string) => [
  ...["--system", "both-cmgi", "--preset", "nano", "--data", corpus.root, "--fold", "3", "--out", out],
  ...["--set", "sentences=80", "--set", "stage0.batch.items=16", "--set", "checkpoints.every=3"],
  ...["--set", "stage1.batch.items=4", "--set", "stage2.batch.items=4", "--set", "stage2.accumulate=2"],
];

before(async () => {
  corpus = await tinyRelease();
  runs = await mkdtemp(join(tmpdir(), "wavegate-runs-"));
  const begin = performance.now();
  const { status, stderr } = await train(start(join(runs, "whole")));
  assert.equal(status, 0, stderr);
  milliseconds = performance.now() - begin;
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
      const { seconds: _s, bytes: _b, ...rest } = JSON.parse(line);
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

test(`train --resume ends with the same bits after ${KILLS} SIGKILLs at random moments`, async () => {
  const next = uniform(Number(process.env.WAVEGATE_KILL_SEED ?? 5));
  const out = join(runs, "killed");
  let begun = false;
  for (let kill = 0; kill < KILLS; kill++) {
    const args = begun ? ["--resume", "--out", out] : start(out);
    // From before the first step to near the end: a kill may also find nothing saved yet.
    const { status } = await train(args, { signal: "SIGKILL", after: milliseconds * (0.3 + 0.6 * next()) });
    begun ||= (await readdir(out).catch((): string[] => [])).includes("config.json");
    if (status === 0) break;
  }
  const { status, stderr } = await train(begun ? ["--resume", "--out", out] : start(out));
  assert.equal(status, 0, stderr);
  await same("killed");
});

test("train saves and stops at Ctrl-C, and --resume ends with the same bits", async () => {
  const out = join(runs, "stopped");
  const stopped = await train(start(out), { signal: "SIGINT", after: milliseconds * 0.6 });
  assert.equal(stopped.status, 130, stopped.stderr);
  const { status, stderr } = await train(["--resume", "--out", out]);
  assert.equal(status, 0, stderr);
  await same("stopped");
});

/**
 * Cross-validations that are killed and go on: the models and the report of one that was never stopped.
 *
 *   WAVEGATE_KILLS=5 WAVEGATE_KILL_SEED=7 WAVEGATE_KILL_CORPUS=corpus/nano WAVEGATE_KILL_SYSTEMS=table2 WAVEGATE_KILL_FOLDS=2 \
 *     npm test -- crossvalidate_run
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { verb } from "../tools/crossvalidate.ts";
import { verb as train } from "../tools/train.ts";
import { uniform } from "./reference.ts";
import { acousticFolds, type TinyRelease, tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

/** wgpu compiles every kernel anew in each process. */
const slow = "Deno" in globalThis;
const KILLS = Number(process.env.WAVEGATE_KILLS ?? (slow ? 1 : 2));
const SYSTEMS = process.env.WAVEGATE_KILL_SYSTEMS ?? (slow ? "acoustic-asr" : "both-self");
const root = fileURLToPath(new URL("..", import.meta.url));
const runtime = slow ? ["run", "--allow-all", "--no-check"] : ["--import", "tsx"];
const folder = mkdtempSync(join(tmpdir(), "wavegate-cross-"));
// What is remembered of this machine's speed is no business of tests; compiled shaders are.
const { MESA_SHADER_CACHE_DIR, XDG_CACHE_HOME = join(homedir(), ".cache") } = process.env;
process.env.MESA_SHADER_CACHE_DIR = MESA_SHADER_CACHE_DIR ?? XDG_CACHE_HOME;
process.env.XDG_CACHE_HOME = join(folder, "cache");

let corpus: TinyRelease;
let settings: string[];
const whole = join(folder, "whole");
/** Milliseconds that the unbroken one took in this process. */
let took = 0;

/** Does every job in this process, one after the other, as a scheduler would. */
before(async () => {
  const given = process.env.WAVEGATE_KILL_CORPUS;
  corpus = given ? { root: resolve(given), remove: async () => {} } : await tinyRelease({ turns: 4 });
  settings = ["--systems", SYSTEMS, "--data", corpus.root, "--preset", "nano"];
  settings.push("--folds", process.env.WAVEGATE_KILL_FOLDS ?? "1", "--set", "checkpoints.every=1");
  if (!given)
    for (const set of ["stage1.epochs=1", "stage2.epochs=1", "stage1.batch.items=4", "stage2.batch.items=4"])
      settings.push("--set", set);
  if (!given && !slow) settings.push("--set", "sentences=40", "--set", "stage0.batch.items=16");
  const began = performance.now();
  const { printed, error } = await runHere(verb, ...settings, "--out", whole, "--print-jobs");
  assert.equal(error, undefined);
  for (const [i, line] of printed.entries()) {
    const args = line.slice(line.indexOf(" --out ") + 1).split(" ");
    if (i === 0) await lose(args);
    const done = await runHere(verb, ...args);
    assert.equal(done.status, 0, `${line}: ${done.error?.message} ${done.notes.join("; ")}`);
    if (i === 0) assert.match(done.notes[0], /: that was this task before Slurm started it again, /);
    for (const name of ["SLURM_JOB_ID", "SLURM_RESTART_COUNT"]) delete process.env[name];
  }
  took = performance.now() - began;
});

/** Leaves the first job locked by a Slurm task on another machine: only that task, started again, may take it over. */
async function lose(args: string[]): Promise<void> {
  const job = join(whole, "jobs", args.at(-1) as string);
  mkdirSync(job, { recursive: true });
  writeFileSync(join(job, "lock"), JSON.stringify({ pid: 1, host: "another machine" }));
  writeFileSync(join(job, "slurm.txt"), "77\n");
  process.env.SLURM_RESTART_COUNT = "1";
  for (const task of [undefined, "78"]) {
    if (task !== undefined) process.env.SLURM_JOB_ID = task;
    const { error } = await runHere(verb, ...args);
    assert.match(error?.message ?? "", /^Cannot do the job in .*: process 1 of another machine is at it; /);
  }
  process.env.SLURM_JOB_ID = "77";
}

after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await corpus.remove();
});

/** Starts `wavegate crossvalidate`; resolves once it has ended. */
function start(...args: string[]) {
  const child = spawn(process.execPath, [...runtime, "tools/crossvalidate.ts", ...args], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => {
      output += chunk;
    });
  const ended = new Promise<{ status: number | null; output: string }>((resolve) =>
    child.on("close", (status) => resolve({ status, output })),
  );
  return { child, ended };
}

const names = (path: string): string[] => {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
};
const content = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};

/** Numbers of the processes that are at a job of OUT. */
const workers = (out: string): number[] =>
  names(join(out, "jobs")).flatMap((id) => {
    const { pid } = JSON.parse(content(join(out, "jobs", id, "lock")) || "{}");
    return pid === undefined ? [] : [pid];
  });

const kill = (pid: number) => {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended already.
  }
};

/** Kills the queue, or the process of a job, or both. */
const HOW = ["queue", "both", "job"] as const;
function strike(out: string, child: ChildProcess, how: (typeof HOW)[number]): void {
  if (how !== "job") kill(child.pid as number);
  if (how !== "queue") for (const pid of workers(out)) kill(pid);
}

/** Every file of OUT that equal cross-validations have in common, by name. */
function outcome(out: string): Map<string, string> {
  const found = new Map<string, string>();
  const add = (path: string) => found.set(path, readFileSync(join(out, path), "latin1"));
  for (const name of ["report.json", "report.html", "tables.md", "answers.csv"]) add(name);
  for (const name of names(join(out, "answers"))) add(`answers/${name}`);
  for (const id of names(join(out, "jobs")))
    for (const name of names(join(out, "jobs", id, "run/model")))
      if (statSync(join(out, "jobs", id, "run/model", name)).isFile()) add(`jobs/${id}/run/model/${name}`);
  return found;
}

function same(out: string): void {
  const [own, expected] = [outcome(out), outcome(whole)];
  assert.deepEqual([...own.keys()], [...expected.keys()]);
  for (const [path, bytes] of expected) assert.ok(own.get(path) === bytes, `${path} differs`);
  for (const id of names(join(out, "jobs"))) {
    const log = content(join(out, "jobs", id, "log.txt"))
      .trimEnd()
      .split("\n");
    assert.equal(log.filter((line) => line.endsWith("  done")).length, 1, `${id} was done once`);
    assert.match(log.at(-1) ?? "", / {2}done$/, "nothing came after it");
  }
}

test(`crossvalidate ends with the same report after ${KILLS} SIGKILL(s) of queues and jobs at random moments`, async () => {
  const next = uniform(Number(process.env.WAVEGATE_KILL_SEED ?? 3));
  const out = join(folder, "killed");
  for (let n = 0; n < KILLS; n++) {
    const { child, ended } = start(...settings, "--out", out);
    let running = true;
    ended.then(() => {
      running = false;
    });
    // A while after a job began, so that every kind of moment comes about: what is done already takes no time.
    while (running && workers(out).length === 0) await sleep(20);
    await sleep((next() * took) / (2 * KILLS));
    strike(out, child, HOW[n % HOW.length]);
    const { status, output } = await ended;
    // A machine that is busy now and then may be quick: then there is nothing left to kill.
    if (n > 0 && status === 0) break;
    assert.notEqual(status, 0, `it ended before the first kill: ${output}`);
  }
  const { status, output } = await start("--out", out).ended;
  assert.equal(status, 0, output);
  same(out);
  const again = await runHere(verb, "--out", out, "--dry-run");
  assert.equal(again.printed.at(-1), "every job is done");
});

test("the jobs of a system end with the same model as a run that trains all its stages", async () => {
  // Of several systems those that share stages are compared by the test above.
  const [system, run] = [/^table|,/.test(SYSTEMS) ? "both-self" : SYSTEMS, join(folder, "run")];
  const rest = settings.slice(settings.indexOf("--set"));
  const args = ["--system", system, "--data", corpus.root, "--preset", "nano", "--fold", "1", ...rest];
  const { status, error } = await runHere(train, ...args, "--out", run);
  assert.equal(status, 0, error?.message);
  const last = names(join(whole, "jobs"))
    .filter((id) => id.startsWith(`${system}-stage`) && id.includes("-Session1-"))
    .at(-1) as string;
  for (const name of ["model.safetensors", "config.json", "training.json"])
    assert.ok(
      readFileSync(join(run, "model", name)).equals(
        readFileSync(join(whole, "jobs", last, "run/model", name)),
      ),
      `${name} differs`,
    );
});

test("crossvalidate keeps what needs a failed job from beginning, does the others, and says so with status 1", async () => {
  const out = join(folder, "failed");
  const args = acousticFolds(corpus.root, 1, out);
  const { printed } = await runHere(verb, ...args, "--print-jobs");
  const [first] = printed.map((line) => line.slice(line.lastIndexOf(" ") + 1));
  // A file stands where the run of the first job should be.
  mkdirSync(join(out, "jobs", first), { recursive: true });
  writeFileSync(join(out, "jobs", first, "run"), "");
  const { status, output } = await start(...args).ended;
  assert.equal(status, 1, output);
  assert.match(
    output,
    new RegExp(`^${first}: Cannot start a run in .*run: it is a file; .*/log\\.txt has more$`, "m"),
  );
  assert.match(output, /^no report: no evaluation is done$/m);
  assert.match(output, new RegExp(`^evaluate-.*: not begun, ${first} failed$`, "m"));
});

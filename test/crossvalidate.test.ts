/** The plan of a cross-validation, its queue and its batch scripts; nothing is trained. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { estimate, ratesOf } from "../src/speech/crossvalidate/estimate.ts";
import { argumentsOf, keepPlan, productOf } from "../src/speech/crossvalidate/folder.ts";
import { makePlan } from "../src/speech/crossvalidate/make_plan.ts";
import type { CrossChoice, Job, Plan } from "../src/speech/crossvalidate/plan.ts";
import { levelsOf, type Queued, runQueue } from "../src/speech/crossvalidate/queue.ts";
import { batchesOf, batchScript, shellWord } from "../src/speech/crossvalidate/slurm.ts";
import { PAPER_ROWS } from "../src/speech/recipes/tables.ts";
import { parse } from "../tools/cli.ts";
import { verb } from "../tools/crossvalidate.ts";
import { verb as evaluate } from "../tools/evaluate.ts";
import { verb as train } from "../tools/train.ts";
import { temporary } from "./temporary.ts";
import { type TinyRelease, tinyRelease } from "./tiny_release.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
let corpus: TinyRelease;
before(async () => {
  corpus = await tinyRelease({ turns: 4 });
});
after(() => corpus.remove());

async function planOf(choice: Partial<CrossChoice>): Promise<{ plan: Plan; notes: string[] }> {
  const notes: string[] = [];
  const whole: CrossChoice = {
    ...{ systems: ["table1", "table2"], data: corpus.root, folds: "all", foldsBy: "session", seeds: 1 },
    ...{ preset: "nano", set: [] },
    ...choice,
  };
  return { plan: await makePlan(host, whole, { onNote: (line) => notes.push(line) }), notes };
}
const count = (jobs: readonly Job[], of: Partial<Job>) =>
  jobs.filter((job) => Object.entries(of).every(([key, value]) => job[key as keyof Job] === value)).length;

test("makePlan() trains what systems, folds and rows have in common once, each job after those that it needs", async () => {
  const systems = ["acoustic-asr", "both-none", "table2"];
  const { plan } = await planOf({ systems, seeds: 2 });
  const { jobs } = plan;
  assert.equal(new Set(jobs.map(({ id }) => id)).size, jobs.length);
  for (const [i, job] of jobs.entries())
    for (const id of job.after)
      assert.ok(jobs.findIndex((each) => each.id === id) < i, `${job.id} after ${id}`);
  // A text encoder for each seed; a stage 1 for each fold and seed, and that of acoustic-asr, which UA selects, apart.
  assert.equal(count(jobs, { kind: "train", stage: 0 }), 2);
  assert.equal(count(jobs, { kind: "train", stage: 1 }), 2 * 6);
  assert.equal(count(jobs, { kind: "train", stage: 2 }), 7 * 6);
  // Both rows of both-none are one model.
  assert.equal(count(jobs, { kind: "evaluate", system: "both-none" }), 2 * 6);
  assert.equal(count(jobs, { kind: "evaluate" }), (1 + 2 + 6) * 6);
  const fused = jobs.find(({ id }) => id === "both-cmgi-stage2-Session3-2") as Job;
  assert.deepEqual(fused.after, ["both-none-stage0-2", "both-none-stage1-Session3-2"]);
  // Where UA selects every stage, the speech encoder of acoustic-asr is that of all.
  const alike = await planOf({ systems, set: ["stage1.select=ua"] });
  assert.equal(count(alike.plan.jobs, { kind: "train", stage: 1 }), 3);
  assert.deepEqual(plan.asked.folds, ["Session1", "Session2", "Session3"]);
});

test("makePlan() gives every row of both tables a job, and wav2vec 2.0 an encoder of its own", async () => {
  const { plan, notes } = await planOf({ folds: "1" });
  const evaluated = plan.jobs.filter(({ kind }) => kind === "evaluate").map(({ id }) => id);
  assert.ok(evaluated.includes("evaluate-acoustic-none-Session1-1"));
  assert.ok(evaluated.includes("evaluate-both-none-true-Session1-1"));
  const rows = PAPER_ROWS.filter(({ table }) => table === 1 || table === 2);
  assert.deepEqual(
    rows.filter((row) => row.system === undefined).map(({ title }) => title),
    [],
  );
  assert.equal(evaluated.length, rows.length);
  assert.equal(count(plan.jobs, { stage: 0 }), 1);
  const single = plan.jobs.find(({ id }) => id === "wav2vec2-both-stage2-Session1-1");
  assert.deepEqual(single?.after, [plan.jobs.find(({ stage }) => stage === 0)?.id]);
  assert.equal(notes.length, 1);
  assert.match(notes[0], /^IEMOCAP: angry \d+ = ang \d+, .*; folds are sessions$/);
  for (const job of plan.jobs) {
    const args = argumentsOf("/out", plan, job, false);
    assert.notEqual(job.kind === "train" ? parse(train, args) : parse(evaluate, args), "help");
  }
});

test("makePlan() gives a setting to the systems that have its key, and another key to what it changes", async () => {
  const plain = await planOf({ systems: ["acoustic", "both-none"], folds: "1" });
  const set = ["stage1.alpha=0.2", "stage2.epochs=1"];
  const { plan, notes } = await planOf({ systems: ["acoustic", "both-none"], folds: "1", set });
  assert.match(
    notes.join(),
    /--set stage1\.alpha=0\.2 is left out for acoustic: nothing reads stage1\.alpha/,
  );
  const changed = plan.jobs.filter(
    ({ id, key }) => plain.plan.jobs.find((job) => job.id === id)?.key !== key,
  );
  assert.deepEqual(
    changed.filter(({ kind }) => kind === "train").map(({ id }) => id),
    ["both-none-stage1-Session1-1", "both-none-stage2-Session1-1"],
  );
  const [fused] = changed.filter(({ stage }) => stage === 2);
  assert.deepEqual(fused.set, ["stage2.epochs=1"]);
  const args = argumentsOf("/out", plan, fused, false);
  assert.equal(args[args.indexOf("--stage-model") + 1], "0=/out/jobs/both-none-stage0-1/run/model");
  assert.deepEqual(argumentsOf("/out", plan, fused, true), [
    "--resume",
    "--out",
    "/out/jobs/both-none-stage2-Session1-1/run",
  ]);
});

test("makePlan() holds out speakers where that is asked for", async () => {
  const { plan } = await planOf({ systems: ["acoustic"], foldsBy: "speaker", folds: "2" });
  assert.deepEqual(plan.asked.folds, ["01F", "01M"]);
  assert.equal(productOf("/out", plan.jobs[1]), "/out/answers/acoustic-none-01F-1.csv");
});

test("crossvalidate refuses in one line what cannot be: systems, folds, plans, folders and options", async () => {
  await temporary(async (folder) => {
    const out = join(folder, "out");
    const start = ["--data", corpus.root, "--out", out, "--preset", "nano", "--print-jobs"];
    const refused = async (message: RegExp, ...args: string[]) => {
      const { error } = await runHere(verb, ...args);
      assert.match(error?.message ?? "no error", message);
      assert.ok(!error?.message.includes("\n"));
    };
    await refused(
      /^Cannot list the rows of both-cmgu: expected table1, table2 or a system, /,
      "--systems",
      "both-cmgu",
      ...start,
    );
    await refused(
      /^Cannot hold out fold 7 of .*: its sessions are Session1, Session2, Session3, its speakers 01F, /,
      "--systems",
      "acoustic",
      ...start,
      "--folds",
      "1,7",
    );
    await refused(
      /^Cannot use --folds 4: a number takes that many, and .* has 3 \(Session1, /,
      "--systems",
      "acoustic",
      ...start,
      "--folds",
      "4",
    );
    await refused(
      /^Cannot use --folds 1,Session1: Session1 is named twice$/,
      "--systems",
      "acoustic",
      ...start,
      "--folds",
      "1,Session1",
    );
    await refused(
      /^Cannot use --set seed=3: --seeds N takes the seeds from 1 to N$/,
      "--systems",
      "acoustic",
      ...start,
      "--set",
      "seed=3",
    );
    await refused(
      /^Cannot use the recipe with --set: nothing reads stage1\.alpha: /,
      "--systems",
      "acoustic",
      ...start,
      "--set",
      "stage1.alpha=1",
    );
    await refused(/^Cannot cross-validate without --systems NAMES$/, ...start);
    await refused(
      /^Cannot use --dry-run together with --print-jobs$/,
      "--systems",
      "acoustic",
      ...start,
      "--dry-run",
    );
    await refused(
      /^Cannot use --sbatch without --slurm, which it is for$/,
      "--systems",
      "acoustic",
      ...start,
      "--sbatch=--gpus=1",
    );
    await refused(
      /^Cannot use --data together with --job: the plan in --out OUT has it$/,
      "--out",
      out,
      "--data",
      corpus.root,
      "--job",
      "x",
    );
    await refused(/^Cannot do a job of .*out: it holds no plan\.json$/, "--out", out, "--job", "x");
    // Something else is there, as a run of train.
    mkdirSync(out);
    writeFileSync(join(out, "config.json"), "{}");
    await refused(
      /^Cannot cross-validate in .*out: it holds config\.json and no plan\.json, expected a new or an empty folder$/,
      "--systems",
      "acoustic",
      ...start,
    );
    const other = ["--data", corpus.root, "--out", join(folder, "other"), "--preset", "nano", "--print-jobs"];
    const begun = await runHere(verb, "--systems", "acoustic", ...other);
    assert.equal(begun.status, 0, begun.error?.message);
    assert.equal(begun.printed.length, 3 + 3 + 1);
    await refused(
      /^Cannot cross-validate in .*other: its plan has seeds 1 and not 1,2; --out .*other alone goes on with it, /,
      "--systems",
      "acoustic",
      ...other,
      "--seeds",
      "2",
    );
    await refused(
      /: its plan has set none and not stage1\.epochs=1; /,
      "--systems",
      "acoustic",
      ...other,
      "--set",
      "stage1.epochs=1",
    );
    await refused(
      /^Cannot do job acoustic-stage1-Session1 of .*: its plan has no such job; did you mean acoustic-stage1-Session1-1\?$/,
      "--out",
      join(folder, "other"),
      "--job",
      "acoustic-stage1-Session1",
    );
    await refused(
      /^Cannot do evaluate-acoustic-none-Session1-1: it needs acoustic-stage1-Session1-1, which is not done$/,
      "--out",
      join(folder, "other"),
      "--job",
      "evaluate-acoustic-none-Session1-1",
    );
    // Two at a time in one folder.
    const lock = host.lock(join(folder, "other"), "test in");
    writeFileSync(
      join(folder, "other/lock"),
      readFileSync(join(folder, "other/lock"), "utf8")
        .replace(/"pid":\d+/, '"pid":1')
        .replace(/,"began":"[^"]*"/, ""),
    );
    await refused(
      /^Cannot cross-validate in .*other: process 1 of .* is at it; /,
      "--systems",
      "acoustic",
      ...other,
    );
    lock.release();
    // A plan whose recipes another version would make otherwise.
    const { plan } = await planOf({ systems: ["acoustic"] });
    const changed = { ...plan, jobs: plan.jobs.map((job, i) => (i === 2 ? { ...job, key: "x" } : job)) };
    await assert.rejects(keepPlan(host, join(folder, "other"), changed), {
      message:
        /other: its recipes are those of another version of this program \(acoustic-stage1-Session2-1\); /,
    });
  });
});

test("crossvalidate --dry-run shows the jobs, says that their time is unknown, and writes nothing", async () => {
  await temporary(async (folder) => {
    const args = [
      "--systems",
      "acoustic",
      "--data",
      corpus.root,
      "--preset",
      "nano",
      "--set",
      "stage1.maxGradNorm=0.123",
    ];
    const out = join(folder, "out");
    const { status, printed } = await runHere(verb, ...args, "--out", out, "--dry-run");
    assert.equal(status, 0);
    assert.match(
      printed[1],
      /^acoustic-stage1-Session1-1 +\d+ s of audio +unknown +nothing like it was done here$/,
    );
    assert.equal(printed.at(-1), "6 of 6 jobs are left: how long they take is unknown");
    assert.equal(await host.kind(out), undefined);
  });
});

test("estimate() takes the rate of jobs of equal speed, those of this cross-validation first", () => {
  const job = { speed: "a", amount: 100 } as Job;
  const here = ratesOf([1, 2, 30].map((seconds) => ({ speed: "a", seconds, amount: 10 })));
  assert.deepEqual(estimate(job, here, { a: 7 }), { seconds: 20, from: "jobs done here" });
  assert.deepEqual(estimate(job, {}, { a: 7 }), { seconds: 700, from: "remembered here" });
  assert.equal(estimate(job, {}, { b: 7 }), undefined);
});

const jobs: Queued[] = [
  { id: "a", after: [] },
  { id: "b", after: ["a"] },
  { id: "c", after: [] },
  { id: "d", after: ["b", "c"] },
  { id: "e", after: ["c"] },
];

test("runQueue() does each job once, after those that it needs, and no more at a time than there are workers", async () => {
  for (const workers of [1, 2, 9]) {
    const ended: string[] = [];
    const busy = new Set<number>();
    const { done, failed } = await runQueue({
      ...{ jobs, workers, done: new Set(["c"]), signal: new AbortController().signal },
      run: async ({ id, after }, worker) => {
        assert.ok(worker < workers && !busy.has(worker));
        assert.ok(after.every((each) => each === "c" || ended.includes(each)));
        busy.add(worker);
        await new Promise((resolve) => setTimeout(resolve, id === "a" ? 9 : 1));
        busy.delete(worker);
        ended.push(id);
        return undefined;
      },
    });
    assert.deepEqual([...ended].sort(), ["a", "b", "d", "e"]);
    assert.equal(done.size, 5);
    assert.equal(failed.size, 0);
  }
});

test("runQueue() keeps what needs a failed job from beginning, does the others, and begins nothing once it is stopped", async () => {
  const begun: string[] = [];
  const controller = new AbortController();
  const options = { jobs, workers: 2, done: new Set<string>(), signal: controller.signal };
  const run = async ({ id }: Queued) => {
    begun.push(id);
    return id === "a" ? "it broke" : undefined;
  };
  const result = await runQueue({ ...options, run });
  assert.deepEqual(begun.sort(), ["a", "c", "e"]);
  assert.deepEqual([...result.failed], [["a", "it broke"]]);
  assert.deepEqual(
    [...result.blocked],
    [
      ["b", "a"],
      ["d", "a"],
    ],
  );
  const stopped = await runQueue({
    ...{ ...options, workers: 1 },
    run: async () => {
      controller.abort();
      return "interrupted";
    },
  });
  assert.deepEqual([stopped.done.size, stopped.failed.size, stopped.blocked.size], [0, 0, 0]);
});

test("levelsOf() puts jobs behind those that they need, without those that are done", () => {
  const ids = (done: string[]) => levelsOf(jobs, new Set(done)).map((level) => level.map(({ id }) => id));
  assert.deepEqual(ids([]), [["a", "c"], ["b", "e"], ["d"]]);
  assert.deepEqual(ids(["a", "c"]), [["b", "e"], ["d"]]);
  assert.deepEqual(ids(jobs.map(({ id }) => id)), []);
});

test("batchScript() gives each task its job, whatever is in the command", () => {
  const command = ["printf", "%s|%s|%s\n", "it's $HOME", "a b"];
  const script = batchScript({ name: "level", ids: ["first", "second"] }, command, "/out/100%", ["--gpus=1"]);
  assert.match(script, /^#SBATCH --array=0-1$/m);
  assert.match(script, /^#SBATCH --output=\/out\/100%%\/%x-%a\.txt$/m);
  assert.match(script, /^#SBATCH --gpus=1$/m);
  for (const [task, id] of ["first", "second"].entries()) {
    const { stdout, stderr } = spawnSync("sh", {
      input: script,
      encoding: "utf8",
      env: { ...process.env, SLURM_ARRAY_TASK_ID: `${task}` },
    });
    assert.equal(stdout, `it's $HOME|a b|${id}\n`, stderr);
  }
  assert.equal(shellWord("/a/b-c=1,2"), "/a/b-c=1,2");
  const many = batchesOf(
    0,
    Array.from({ length: 2001 }, (_, i) => `${i}`),
  );
  assert.deepEqual(
    many.map(({ name, ids }) => [name, ids.length]),
    [
      ["wavegate-1-1", 1000],
      ["wavegate-1-2", 1000],
      ["wavegate-1-3", 1],
    ],
  );
});

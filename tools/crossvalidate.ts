/** `wavegate crossvalidate`: trains and evaluates systems on every fold, as jobs that can be stopped, shared out and gone on with. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { listed } from "../src/io/listed.ts";
import { nearest } from "../src/io/nearest.ts";
import { CORPUS_NAMES } from "../src/speech/corpora/read.ts";
import { estimate, ratesOf, readRates } from "../src/speech/crossvalidate/estimate.ts";
import { checkFolder, keepPlan, readAllDone } from "../src/speech/crossvalidate/folder.ts";
import { makePlan } from "../src/speech/crossvalidate/make_plan.ts";
import {
  type CrossChoice,
  PLAN_FILE,
  type Plan,
  readPlan,
  requireSame,
} from "../src/speech/crossvalidate/plan.ts";
import { runQueue } from "../src/speech/crossvalidate/queue.ts";
import { shellWord } from "../src/speech/crossvalidate/slurm.ts";
import { PRESETS, type PresetName } from "../src/speech/recipes/presets.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError, withoutSlash } from "./cli.ts";
import { runChild } from "./crossvalidate/children.ts";
import { type JobOptions, jobCommand } from "./crossvalidate/command.ts";
import { report } from "./crossvalidate/report.ts";
import { submit } from "./crossvalidate/submit.ts";
import { work } from "./crossvalidate/work.ts";
import { type DeviceChoice, deviceOptions, tuningOptions } from "./device.ts";
import { formatSeconds, formatTable } from "./format.ts";
import { modelOf, OR_HUB } from "./hub.ts";
import { SUMMARIES } from "./summaries.ts";

/** Stands for the report where a job is named. */
const REPORT = "report";

export const verb = defineVerb({
  name: "crossvalidate",
  summary: SUMMARIES.crossvalidate,
  usage: `--systems NAME,… --data DIR --out OUT [options]
       wavegate crossvalidate --out OUT`,
  example:
    "wavegate crossvalidate --systems table2 --preset nano --data corpus/nano --folds 2 --out runs/table2",
  interruptible: true,
  options: {
    systems: {
      type: "string",
      value: "NAMES",
      help: "table1, table2 or names of systems, separated by commas",
    },
    data: {
      type: "string",
      value: "DIR",
      help: "a corpus: IEMOCAP, RAVDESS, CREMA-D, EMO-DB, TESS, MELD or a manifest",
    },
    corpus: { type: "string", choices: CORPUS_NAMES, help: "layout of the corpus (found from the folder)" },
    out: {
      type: "string",
      value: "OUT",
      help: "folder of the cross-validation; alone it goes on with what is there",
    },
    folds: {
      type: "string",
      value: "FOLDS",
      help: "all, the first N, or names separated by commas, as Session1,Session3 (all)",
    },
    "folds-by": { type: "string", choices: ["session", "speaker"], help: "what is held out (session)" },
    seeds: { type: "count", value: "N", help: "trainings of each with the seeds 1 to N (1)" },
    preset: {
      type: "string",
      choices: Object.keys(PRESETS) as PresetName[],
      help: "recipe to start from (safe)",
    },
    set: {
      type: "string",
      value: "KEY=VALUE",
      multiple: true,
      help: "change a key of the recipe of every system that has it",
    },
    hubert: { type: "string", value: "DIR", help: `Hugging Face folder of the speech encoder, ${OR_HUB}` },
    wav2vec2: { type: "string", value: "DIR", help: "as --hubert, of systems that need wav2vec 2.0" },
    bert: { type: "string", value: "DIR", help: "as --hubert, of the text encoder" },
    jobs: { type: "count", value: "N", help: "jobs at a time (one for each name of --adapter)" },
    "dry-run": { type: "boolean", help: "show the jobs and how long they will take, and do none" },
    "print-jobs": { type: "boolean", help: "print a command for each job that is left, and do none" },
    slurm: { type: "boolean", help: "write sbatch scripts for the jobs that are left, and submit them" },
    sbatch: {
      type: "string",
      value: "OPTION",
      multiple: true,
      help: "option of sbatch for every job, as --sbatch=--gpus=1",
    },
    job: { type: "string", value: "ID", help: "do this job alone, as a scheduler does" },
    ...deviceOptions,
    adapter: { type: "string", value: "NAMES", help: "parts of adapters' names, separated by commas" },
    ...tuningOptions,
  },
  async main(context): Promise<number | undefined> {
    const { values } = context;
    if (values.out === undefined) throw new UsageError("Cannot cross-validate without --out OUT");
    checkModes(values);
    const host = await currentHost();
    const out = resolve(withoutSlash(values.out));
    if (values.job !== undefined) return await doJob(host, out, values.job, context);
    const former = await readPlan(host, out);
    const choice = await choiceOf(host, values, former, context);
    await checkFolder(host, out);
    const plan = await makePlan(host, choice, { onNote: context.note, signal: context.signal });
    if (former) requireSame(out, former, plan);
    if (values["dry-run"]) return await showPlan(host, out, plan, context);
    await host.makeDirectory(out);
    const lock = host.lock(out, "cross-validate in");
    try {
      await keepPlan(host, out, plan);
      if (values["print-jobs"]) return await printJobs(host, out, plan, context);
      if (values.slurm) return await submitJobs(host, out, plan, context);
      return await doAll(host, out, plan, context);
    } finally {
      lock.release();
    }
  },
});

type Own = Context<typeof verb.options>;
type Values = Own["values"];

/** Throws where options exclude each other. */
function checkModes(values: Values): void {
  const modes = (["dry-run", "print-jobs", "slurm", "job"] as const).filter((name) => values[name]);
  if (modes.length > 1) throw new UsageError(`Cannot use --${modes[0]} together with --${modes[1]}`);
  if (values.sbatch.length > 0 && !values.slurm)
    throw new UsageError("Cannot use --sbatch without --slurm, which it is for");
  if (values.jobs !== undefined && modes.length > 0 && modes[0] !== "dry-run")
    throw new UsageError(
      `Cannot use --jobs together with --${modes[0]}: a scheduler decides how many run at a time`,
    );
  if (values.job === undefined) return;
  const asked = (
    [
      "systems",
      "data",
      "corpus",
      "folds",
      "folds-by",
      "seeds",
      "preset",
      "hubert",
      "wav2vec2",
      "bert",
    ] as const
  ).find((name) => values[name] !== undefined);
  if (asked !== undefined || values.set.length > 0)
    throw new UsageError(`Cannot use --${asked ?? "set"} together with --job: the plan in --out OUT has it`);
}

/** What is asked for: by the options, or where there are none by the plan that is there. */
async function choiceOf(
  host: Host,
  values: Values,
  former: Plan | undefined,
  output: Pick<Own, "note" | "progress" | "signal">,
): Promise<CrossChoice> {
  const { systems, data, corpus, folds, seeds, preset, set, hubert, wav2vec2, bert } = values;
  const foldsBy = values["folds-by"];
  const given = [systems, data, corpus, folds, foldsBy, seeds, preset, hubert, wav2vec2, bert, set[0]];
  if (former && given.every((value) => value === undefined)) {
    const { asked } = former;
    return { ...asked, folds: asked.folds.join(","), foldsBy: "session", seeds: asked.seeds.length };
  }
  if (systems === undefined) throw new UsageError("Cannot cross-validate without --systems NAMES");
  if (data === undefined) throw new UsageError("Cannot cross-validate without --data DIR");
  const folder = async (name: string | undefined) =>
    name && resolve(await modelOf(host, name, "crossvalidate", output));
  return {
    systems: systems.split(",").filter((name) => name !== ""),
    ...{ data: resolve(data), corpus, folds: folds ?? "all" },
    ...{ foldsBy: foldsBy ?? "session", seeds: seeds ?? 1 },
    ...{ preset: preset ?? "safe", set },
    ...{ hubert: await folder(hubert), wav2vec2: await folder(wav2vec2), bert: await folder(bert) },
  };
}

/** The options that jobs take as they are; `adapter`: of one worker. */
const optionsOf = (values: Values, adapter = values.adapter): JobOptions => ({
  ...{ adapter, implementation: values.implementation, memory: values.memory },
  "no-tune": values["no-tune"],
});

const adaptersOf = ({ adapter }: Values): readonly string[] =>
  adapter?.split(",").filter((name) => name !== "") ?? [];

/** The device of this process. */
const deviceOf = (values: Values): DeviceChoice => ({ ...values, adapter: adaptersOf(values)[0] });

/** Does every job that is left in processes of their own, then the report. */
async function doAll(host: Host, out: string, plan: Plan, context: Own): Promise<number | undefined> {
  const { values, note, print, printJson, signal } = context;
  const adapters = adaptersOf(values);
  const before = new Set((await readAllDone(host, out, plan)).keys());
  const total = plan.jobs.length;
  if (before.size > 0) note(`${before.size} of ${total} jobs are done already`);
  let count = before.size;
  const began = new Map<string, number>();
  const { done, failed, blocked } = await runQueue({
    ...{ jobs: plan.jobs, done: before, signal },
    workers: values.jobs ?? Math.max(1, adapters.length),
    run: (job, worker) => {
      began.set(job.id, performance.now());
      return runChild(out, job.id, optionsOf(values, adapters[worker % adapters.length]), signal);
    },
    onEnd: ({ id }, failure) => {
      const took = formatSeconds((performance.now() - (began.get(id) as number)) / 1000);
      if (failure === undefined) note(`${++count} of ${total}: ${id} took ${took}`);
      else note(`${id} failed after ${took}`);
    },
  });
  if (signal.aborted) {
    note(`${done.size} of ${total} jobs are done; wavegate crossvalidate --out ${shellWord(out)} goes on`);
    return undefined;
  }
  const result = await report(host, out, plan, deviceOf(values), context);
  for (const [id, why] of failed) note(`${id}: ${why}; ${out}/jobs/${id}/log.txt has more`);
  for (const [id, needed] of blocked) note(`${id}: not begun, ${needed} failed`);
  const complete = failed.size === 0 && blocked.size === 0;
  if (!complete) print(`${done.size} of ${total} jobs are done; the same command tries the others again`);
  printJson({
    ...{ out, jobs: total, done: done.size, failed: Object.fromEntries(failed) },
    ...{ blocked: Object.fromEntries(blocked), ...result },
  });
  return complete ? 0 : 1;
}

/** Does a single job, or the report. */
async function doJob(host: Host, out: string, id: string, context: Own): Promise<number | undefined> {
  const plan = await readPlan(host, out);
  if (!plan) throw new Error(`Cannot do a job of ${out}: it holds no ${PLAN_FILE}`);
  if (id === REPORT) {
    const { missing, ...result } = await report(host, out, plan, deviceOf(context.values), context);
    context.printJson({ out, missing, ...result });
    if (missing.length > 0) context.note(`${missing.length} jobs are not done: ${listed(missing, 5)}`);
    return missing.length > 0 ? 1 : 0;
  }
  const job = plan.jobs.find((each) => each.id === id);
  if (!job) {
    const near = nearest(id, [...plan.jobs.map((each) => each.id), REPORT]);
    throw new UsageError(
      `Cannot do job ${id} of ${out}: its plan has no such job${near === undefined ? "" : `; did you mean ${near}?`}`,
    );
  }
  const adapters = adaptersOf(context.values);
  if (adapters.length > 1)
    throw new UsageError(`Cannot do one job on the adapters ${adapters.join(" and ")}: --adapter names one`);
  const status = await work(host, out, plan, job, optionsOf(context.values), context);
  context.printJson({ out, job: id, done: status === 0 });
  return status;
}

/** Prints a command for each job that is left, in an order in which they can be done. */
async function printJobs(
  host: Host,
  out: string,
  plan: Plan,
  { values, print, printJson }: Own,
): Promise<number> {
  const done = await readAllDone(host, out, plan);
  const command = jobCommand(out, optionsOf(values));
  const ids = [...plan.jobs.map((job) => job.id).filter((id) => !done.has(id)), REPORT];
  const after = new Map(plan.jobs.map((job) => [job.id, job.after.filter((id) => !done.has(id))]));
  for (const id of ids) print([...command, id].map(shellWord).join(" "));
  printJson(ids.map((id) => ({ id, command: [...command, id], after: after.get(id) ?? ids.slice(0, -1) })));
  return 0;
}

/** Submits the jobs that are left to Slurm. */
async function submitJobs(
  host: Host,
  out: string,
  plan: Plan,
  { values, print, printJson }: Own,
): Promise<number> {
  const done = new Set((await readAllDone(host, out, plan)).keys());
  const command = jobCommand(out, optionsOf(values));
  const jobs = await submit(host, out, plan, done, command, values.sbatch);
  for (const { id, name, tasks } of jobs)
    print(`submitted ${name} as ${id}: ${tasks} ${tasks === 1 ? "task" : "tasks"}`);
  print(`scripts and output are in ${out}/slurm; the report follows when all have ended`);
  printJson({ out, submitted: jobs });
  return 0;
}

/** Shows every job with its expected time. */
async function showPlan(
  host: Host,
  out: string,
  plan: Plan,
  { values, print, printJson }: Own,
): Promise<number> {
  const done = await readAllDone(host, out, plan);
  const here = ratesOf(done.values());
  const adapters = adaptersOf(values);
  const remembered = await readRates(host, hostname(), adapters[0]);
  const rows = plan.jobs.map((job) => {
    const finished = done.get(job.id);
    return { job, finished, expected: finished ? undefined : estimate(job, here, remembered) };
  });
  const unit = (stage?: number) => (stage === 0 ? "sentences" : "s of audio");
  const table = rows.map(({ job, finished, expected }) => [
    ...[job.id, `${job.amount} ${unit(job.stage)}`],
    finished ? "done" : expected ? formatSeconds(expected.seconds) : "unknown",
    finished ? "" : (expected?.from ?? "nothing like it was done here"),
  ]);
  for (const line of formatTable(["job", "learns or hears", "time", "known from"], table)) print(line);
  const left = rows.filter(({ finished }) => !finished);
  const unknown = left.filter(({ expected }) => !expected).length;
  const seconds = left.reduce((sum, { expected }) => sum + (expected?.seconds ?? 0), 0);
  const workers = values.jobs ?? Math.max(1, adapters.length);
  const atOnce = workers > 1 ? `, ${formatSeconds(seconds / workers)} or more with ${workers} at a time` : "";
  const time =
    unknown === left.length && unknown > 0
      ? "how long they take is unknown"
      : `${formatSeconds(seconds)}${atOnce}${unknown > 0 ? `, and ${unknown} of unknown time` : ""}`;
  print("");
  print(left.length === 0 ? "every job is done" : `${left.length} of ${rows.length} jobs are left: ${time}`);
  printJson({
    ...{ out, jobs: rows.length, left: left.length, seconds, unknown },
    plan: rows.map(({ job, finished, expected }) => ({ ...job, done: finished !== undefined, ...expected })),
  });
  return 0;
}

if (isMain(import.meta)) await runVerb(verb);

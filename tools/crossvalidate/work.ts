/** Does one job of a cross-validation in this process: a training or an evaluation, as the verbs do them. */
import { appendFileSync } from "node:fs";
import { hostname } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import type { FolderLock, Host } from "../../src/host/host.ts";
import { finite, object, readJsonAs, readJsonLinesAs } from "../../src/io/schema.ts";
import { writeWhole } from "../../src/io/write_whole.ts";
import { rememberRate } from "../../src/speech/crossvalidate/estimate.ts";
import {
  argumentsOf,
  jobFolder,
  readDone,
  runFolder,
  writeDone,
} from "../../src/speech/crossvalidate/folder.ts";
import type { Job, Plan } from "../../src/speech/crossvalidate/plan.ts";
import { shellWord } from "../../src/speech/crossvalidate/slurm.ts";
import { type Context, type Options, parse, type Verb } from "../cli.ts";
import { verb as evaluate } from "../evaluate.ts";
import { verb as train } from "../train.ts";
import { IN_QUEUE } from "./children.ts";
import { type JobOptions, optionArguments } from "./command.ts";

/** Milliseconds between two looks at whether the former process of a job has ended. */
const LOOK_EVERY = 200;

type Io = Pick<Context, "note" | "progress" | "signal">;

/**
 * Does a job, or goes on with it. Its exit status; undefined where it was interrupted. Throws one line where it fails, another
 * process is at it, or a job that it needs is not done.
 */
export async function work(
  host: Host,
  out: string,
  plan: Plan,
  job: Job,
  options: JobOptions,
  io: Io,
): Promise<number | undefined> {
  for (const id of job.after) {
    const needed = plan.jobs.find((each) => each.id === id) as Job;
    if (!(await readDone(host, out, needed)))
      throw new Error(`Cannot do ${job.id}: it needs ${id}, which is not done`);
  }
  const folder = jobFolder(out, job);
  await host.makeDirectory(folder);
  const queued = process.env[IN_QUEUE] !== undefined;
  const signal = queued ? AbortSignal.any([io.signal, stdinEnded()]) : io.signal;
  const lock = await lockJob(host, folder, { queued, signal, note: io.note });
  if (!lock) return undefined;
  const log = (line: string) => appendFileSync(`${folder}/log.txt`, `${line}\n`);
  try {
    if (await readDone(host, out, job)) {
      io.note(`${job.id} is done already`);
      return 0;
    }
    const note = (line: string) => {
      log(line);
      if (!queued) io.note(line);
    };
    const began = performance.now();
    const status = await runVerbOf(host, out, plan, job, options, { ...io, signal, note });
    if (status !== 0) return status;
    const seconds =
      job.kind === "train"
        ? await secondsOfRun(host, runFolder(out, job))
        : (performance.now() - began) / 1000;
    await writeDone(host, out, job, seconds);
    await rememberRate(host, hostname(), options.adapter, { ...job, seconds }).catch((error: Error) =>
      note(`its time is not remembered: ${error.message}`),
    );
    log(`${new Date().toISOString()}  done`);
    return 0;
  } catch (error) {
    log(`${new Date().toISOString()}  failed: ${(error as Error).message.split("\n")[0]}`);
    throw error;
  } finally {
    lock.release();
  }
}

/** Runs `train` or `evaluate` on a job. */
async function runVerbOf(
  host: Host,
  out: string,
  plan: Plan,
  job: Job,
  options: JobOptions,
  io: Io,
): Promise<number | undefined> {
  const resume = job.kind === "train" && (await host.kind(`${runFolder(out, job)}/config.json`)) === "file";
  const { "no-tune": noTune, ...device } = options;
  // What a run was begun with stays, and an evaluation launches as the training did.
  const own = { ...device, "no-tune": noTune && job.kind === "train" && !resume };
  const args = [...argumentsOf(out, plan, job, resume), ...optionArguments(own)];
  const name = job.kind;
  io.note(`${new Date().toISOString()}  wavegate ${name} ${args.map(shellWord).join(" ")}`);
  if (name === "evaluate") await host.makeDirectory(`${out}/answers`);
  const status = await (name === "train" ? runInside(train, args, io) : runInside(evaluate, args, io));
  return status ?? (io.signal.aborted ? undefined : 0);
}

/** Runs a verb within this one; its results are in the files that it writes. */
function runInside<O extends Options>(
  verb: Verb<O>,
  args: string[],
  { note, progress, signal }: Io,
): Promise<number | undefined> {
  const parsed = parse(verb, args);
  if (parsed === "help") throw new Error("asked for help");
  const io = { note, progress, signal, print: (line = "") => note(line), printJson: () => {} };
  return verb.main({ ...parsed, ...io, json: false });
}

/** Aborted where stdin ends: the queue that holds its other end is gone. */
function stdinEnded(): AbortSignal {
  const controller = new AbortController();
  const stop = () => controller.abort(new Error("the queue is gone"));
  process.stdin.on("end", stop).on("close", stop).on("error", stop).resume();
  return controller.signal;
}

/**
 * Locks a job. In a queue it waits for the process of an earlier one to stop, and in a task that Slurm started again for that
 * of its former life; where that was on another machine, which Slurm has given up, it takes over its locks. Undefined where it
 * is stopped meanwhile. Throws where any other process is at the job.
 */
async function lockJob(
  host: Host,
  folder: string,
  { queued, signal, note }: { queued: boolean } & Pick<Io, "signal" | "note">,
): Promise<FolderLock | undefined> {
  const life = slurmLife();
  const file = `${folder}/slurm.txt`;
  for (let first = true; !signal.aborted; first = false) {
    try {
      const lock = host.lock(folder, "do the job in");
      if (life) await writeWhole(host, file, `${life.task}\n`);
      return lock;
    } catch (error) {
      const { message } = error as Error;
      const former = life?.again && (await host.readText(file).catch(() => "")).trim() === life.task;
      if (former && (await machineOf(host, folder)) !== hostname()) {
        note(`${message}: that was this task before Slurm started it again, its locks are removed`);
        for (const lock of [`${folder}/lock`, `${folder}/run/lock`]) await host.remove(lock);
        continue;
      }
      if (!queued && !former) throw error;
      if (first) note(`${message}: waiting until it has stopped`);
      await sleep(LOOK_EVERY);
    }
  }
  return undefined;
}

/** Which Slurm task this is, and whether it was started before. */
function slurmLife(): { task: string; again: boolean } | undefined {
  const { SLURM_JOB_ID, SLURM_RESTART_COUNT = "0" } = process.env;
  return SLURM_JOB_ID === undefined
    ? undefined
    : { task: SLURM_JOB_ID, again: Number(SLURM_RESTART_COUNT) > 0 };
}

/** Name of the machine whose process has locked a folder; this one's where that is not known. */
const machineOf = (host: Host, folder: string): Promise<string> =>
  readJsonAs(host, `${folder}/lock`, object({ host: v.string() })).then(
    (owner) => owner.host,
    () => hostname(),
  );

const step = object({ seconds: v.optional(finite) });

/** Seconds of all updates of a run, whichever process did them. */
async function secondsOfRun(host: Host, run: string): Promise<number> {
  const lines = await readJsonLinesAs(host, `${run}/metrics.jsonl`, step);
  return lines.reduce((sum, { seconds = 0 }) => sum + seconds, 0);
}

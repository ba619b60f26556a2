/** `wavegate train`: trains a system of the paper stage by stage, or goes on with a run. */
import { resolve } from "node:path";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { problemLine } from "../src/speech/corpora/corpus.ts";
import { CORPUS_NAMES } from "../src/speech/corpora/read.ts";
import type { StageNumber } from "../src/speech/recipes/config.ts";
import { PRESETS, type PresetName } from "../src/speech/recipes/presets.ts";
import { SYSTEMS } from "../src/speech/recipes/systems.ts";
import {
  type PlannedRun,
  newRun,
  prepareRun,
  resumedRun,
  splitLine,
} from "../src/speech/training/prepare_run.ts";
import { agreeOnRun, type RunOptions, trainRun } from "../src/speech/training/run.ts";
import type { Ranks } from "../src/train/ranks.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { LAUNCH_FILE } from "../src/tune/pinned.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError, withoutSlash } from "./cli.ts";
import { deviceOptions, openChosenDevice, openTunedDevice, tuningOptions } from "./device.ts";
import { formatSeconds } from "./format.ts";
import { modelOf, OR_HUB } from "./hub.ts";
import { SUMMARIES } from "./summaries.ts";
import { display } from "./train/display.ts";
import { mpiOptions, placeRanks, withRanks } from "./train/ranks.ts";

export const verb = defineVerb({
  name: "train",
  summary: SUMMARIES.train,
  usage: `--system NAME --data DIR --out RUN [options]
       wavegate train --resume --out RUN [--data DIR]`,
  example: "wavegate train --system both-cmgi --preset nano --data corpus/nano --out runs/a",
  interruptible: true,
  options: {
    system: {
      type: "string",
      value: "NAME",
      choices: Object.keys(SYSTEMS),
      help: "modalities and fusion, as a row of the paper's tables",
    },
    data: {
      type: "string",
      value: "DIR",
      help: "a corpus: IEMOCAP, RAVDESS, CREMA-D, EMO-DB, TESS, MELD or a manifest",
    },
    corpus: { type: "string", choices: CORPUS_NAMES, help: "layout of the corpus (found from the folder)" },
    out: { type: "string", value: "RUN", help: "folder of the run" },
    fold: {
      type: "string",
      value: "NAME",
      help: "session or group held out for the test, as Session2 or 2, or speaker, as 02F (Session5, else the last)",
    },
    stage: {
      type: "string",
      choices: ["0", "1", "2", "both"],
      help: "0: words alone, 1: speech, 2: the whole; both: all that the system needs (both)",
    },
    preset: {
      type: "string",
      choices: Object.keys(PRESETS) as PresetName[],
      help: "recipe to start from (safe)",
    },
    hubert: { type: "string", value: "DIR", help: `Hugging Face folder of the speech encoder, ${OR_HUB}` },
    bert: { type: "string", value: "DIR", help: "as --hubert, of the text encoder" },
    "stage-model": {
      type: "string",
      value: "N=DIR",
      multiple: true,
      help: "model of stage N that another run has trained, which stage 2 begins with",
    },
    set: {
      type: "string",
      value: "KEY=VALUE",
      multiple: true,
      help: "change a key of the recipe, as checkpoints.minutes=30",
    },
    resume: { type: "boolean", help: "go on with the run in --out" },
    ...deviceOptions,
    ...tuningOptions,
    ...mpiOptions,
  },
  main({ values, ...context }): Promise<number | undefined> {
    return withRanks(values.mpi, context.signal, (ranks) =>
      trainOn(ranks, { values, ...(ranks.first ? context : silent(context)) }),
    );
  },
});

type Given = Context<typeof verb.options>;
type Values = Given["values"];

/** A rank that rank 0 speaks for. */
const silent = <C extends Omit<Given, "values">>(context: C): C => ({
  ...context,
  ...{ print() {}, printJson() {}, note() {} },
  progress: () => ({ update() {}, stop() {} }),
});

/** Trains as one of the ranks, of which the first makes the run. */
async function trainOn(ranks: Ranks, context: Given): Promise<number | undefined> {
  const { values, note: onNote, signal } = context;
  const { out, resume } = values;
  if (out === undefined) throw new UsageError("Cannot train without --out RUN");
  ranks.onNote = onNote;
  const host = await currentHost();
  const path = withoutSlash(out);
  const plan = () => (resume ? resumedRunOf(host, path, values) : newRunOf(host, context));
  // Rank 0 fetches what comes from the hub.
  const first = ranks.first ? await plan() : undefined;
  await ranks.gather("checkpoints to begin with", "there");
  const planned = first ?? (await plan());
  const { config, data } = await prepareRun(host, path, planned, { onNote, signal });
  await agreeOnRun(ranks, config, data);
  const placed = await placeRanks(ranks);
  for (const line of placed) onNote(line);
  // A run that goes on takes the choices that it began with.
  const device = resume ? await openChosenDevice(host, values) : await openTunedDevice(host, values, onNote);
  if (ranks.first) await host.makeDirectory(path);
  const lock = ranks.first ? host.lock(path, "train in") : undefined;
  try {
    const run = await openRun(host, path, ranks, resume ? undefined : config);
    for (const line of placed) run.log(line);
    // A run that finished in spite of a signal succeeded.
    return (await train(context, { device, run, config, data, resume, signal, ranks })) ? 0 : undefined;
  } finally {
    lock?.release();
    device.dispose();
  }
}

/** The run of all ranks: rank 0 makes it of `config`, or opens it, and then others follow. */
async function openRun(host: Host, path: string, ranks: Ranks, config: unknown): Promise<RunFolder> {
  const open = () =>
    config === undefined ? RunFolder.open(host, path) : RunFolder.create(host, path, config);
  const own = ranks.first ? await open() : RunFolder.follow(host, path);
  await ranks.gather("the run", "open");
  return own;
}

/** A new run by the command line. Its config names the folder of a commit of the hub, so that it goes on with that one. */
async function newRunOf(
  host: Host,
  { values, ...output }: Context<typeof verb.options>,
): Promise<PlannedRun> {
  const { system, data, corpus, fold, stage = "both", preset = "safe", hubert, bert, set } = values;
  if (system === undefined) throw new UsageError("Cannot train without --system NAME");
  if (data === undefined) throw new UsageError("Cannot train without --data DIR");
  const stageModels = values["stage-model"].map((text) => {
    const [, number, folder] = /^([01])=(.+)$/.exec(text) ?? [];
    if (folder === undefined)
      throw new UsageError(`Cannot read --stage-model ${text}: expected 0=DIR or 1=DIR`);
    return [number, resolve(folder)];
  });
  const choice = {
    ...{ preset, system, fold, set, data: resolve(data), corpus, hubert, bert },
    stage: stage === "both" ? undefined : (Number(stage) as StageNumber),
    stageModels: stageModels.length > 0 ? Object.fromEntries(stageModels) : undefined,
  };
  newRun(choice, () => {}); // what is refused is refused before anything is downloaded
  const folder = async (name: string | undefined) =>
    name && resolve(await modelOf(host, name, "train", output));
  return newRun({ ...choice, hubert: await folder(hubert), bert: await folder(bert) }, output.note);
}

/** The run in `path`. The command line may change only where its corpus is. */
async function resumedRunOf(host: Host, path: string, values: Values): Promise<PlannedRun> {
  const fixed = [
    "system",
    "fold",
    "corpus",
    "stage",
    "preset",
    "hubert",
    "bert",
    "stage-model",
    "set",
    "no-tune",
  ] as const;
  for (const name of fixed) {
    const value = values[name];
    if (value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0))
      throw new UsageError(`Cannot change a run with --${name}: it goes on as it began`);
  }
  return resumedRun(host, path, values.data === undefined ? undefined : resolve(values.data));
}

/** Trains with progress and log; false where it was interrupted. */
async function train(
  { print, printJson, ...context }: Context<typeof verb.options>,
  options: Pick<RunOptions, "device" | "run" | "config" | "data" | "resume" | "signal"> & {
    readonly ranks: Ranks;
  },
): Promise<boolean> {
  const { device, run, data, resume, ranks } = options;
  const { path, host } = run;
  const shown = display(context, run);
  ranks.onNote = shown.handlers.onNote;
  // Rank 0 says which recordings another rank cannot read.
  const onProblem = ranks.first
    ? shown.handlers.onProblem
    : (id: string, message: string) => ranks.note(`${id}: left out of its batch: ${message}`);
  const begin = performance.now();
  try {
    run.log(`${resume ? "resume" : "start"}: ${host.describe()}, ${device.info.name}`);
    const tuned = device.choices.list.length;
    if (!resume && tuned > 0) run.log(`${tuned} launch choices are tuned: ${LAUNCH_FILE} records them`);
    if (data) run.log(splitLine(options.config, data));
    for (const problem of data?.examined.problems ?? []) run.log(`problem: ${problemLine(problem)}`);
    const finished = await trainRun({ ...options, ...shown.handlers, onProblem });
    const seconds = (performance.now() - begin) / 1000;
    run.log(finished ? `finished after ${formatSeconds(seconds)}` : "interrupted");
    print(
      finished
        ? `${path}/model: trained in ${formatSeconds(seconds)}`
        : `${path}: stopped after ${formatSeconds(seconds)}; --resume --out ${path} goes on`,
    );
    printJson({ run: path, finished, seconds });
    return finished;
  } catch (error) {
    run.log(`failed: ${(error as Error).message.split("\n")[0]}`);
    throw error;
  } finally {
    shown.stop();
    await run.flush().catch(() => {});
  }
}

if (isMain(import.meta)) await runVerb(verb);

/** `wavegate train`: trains a system of the paper stage by stage, or goes on with a run. */
import { resolve } from "node:path";
import { type Corpus, LABELS, problemLine } from "../src/speech/corpora/corpus.ts";
import { type Examined, examine } from "../src/speech/corpora/examine.ts";
import { holdOut, requireSessions } from "../src/speech/corpora/folds.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { argmax, score } from "../src/speech/metrics/metrics.ts";
import { totalEdits, wer, wordEdits } from "../src/speech/metrics/wer.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { readJson } from "../src/io/config.ts";
import { PRESETS, type PresetName, trainConfig } from "../src/speech/recipes/presets.ts";
import type { UtteranceAnswer } from "../src/speech/training/answer.ts";
import {
  applySettings,
  checkConfig,
  type StageNumber,
  type TrainConfig,
} from "../src/speech/recipes/config.ts";
import { checkStages, effectiveModel, encoderOf } from "../src/speech/training/materials.ts";
import { numberedSession, split, type TrainData } from "../src/speech/training/data.ts";
import { type RunOptions, trainRun } from "../src/speech/training/run.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import { hasPart, SYSTEMS, settingNotes, unused } from "../src/speech/recipes/systems.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError, withoutSlash } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { chooseSession, heldOutLine, tellProblems } from "./fold.ts";
import { formatSeconds } from "./format.ts";
import { lockRun } from "./lock.ts";
import { warnOfOverlap } from "./provenance.ts";
import { display } from "./train/display.ts";

/** Held out where --fold says nothing: the session that work on IEMOCAP reports where it reports one. */
const USUAL_SESSION = "Session5";
export const verb = defineVerb({
  name: "train",
  summary: "train a system of the paper, or go on with a run",
  usage: `--system NAME --data DIR --out RUN [options]
       wavegate train --resume --out RUN [--data DIR]`,
  example: "wavegate train --system both-cmgi --preset small --data corpus/mini --fold 5 --out runs/small",
  interruptible: true,
  options: {
    system: {
      type: "string",
      value: "NAME",
      choices: Object.keys(SYSTEMS),
      help: "modalities and fusion, as a row of the paper's tables",
    },
    data: { type: "string", value: "DIR", help: "a corpus in IEMOCAP's layout" },
    out: { type: "string", value: "RUN", help: "folder of the run" },
    fold: {
      type: "string",
      value: "NAME",
      help: "session held out for the test, as Session2 or 2 (Session5, else the last)",
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
    hubert: { type: "string", value: "DIR", help: "Hugging Face folder of the speech encoder" },
    bert: { type: "string", value: "DIR", help: "Hugging Face folder of the text encoder" },
    set: {
      type: "string",
      value: "KEY=VALUE",
      multiple: true,
      help: "change a key of the recipe, as checkpoints.minutes=30",
    },
    resume: { type: "boolean", help: "go on with the run in --out" },
    ...deviceOptions,
  },
  async main(context): Promise<number | undefined> {
    const { values, note, signal } = context;
    const { out, resume } = values;
    if (out === undefined) throw new UsageError("Cannot train without --out RUN");
    const host = await currentHost();
    const path = withoutSlash(out);
    const begun = resume ? await resumed(host, path, values) : started(values, note);
    if (!resume) await RunFolder.check(host, path);
    const told = values.fold !== undefined || values.set.some(namesFold);
    const origin = resume ? "run" : told ? "command line" : "default";
    const { data, ...opened } = await openData(host, begun, origin, context);
    let { config } = opened;
    if (data?.fold.dev.length === 0) note("no dev set: of each stage the last epoch is kept");
    if (!resume) {
      await checkStages(host, config, data);
      config = { ...config, model: await effectiveModel(host, config) };
    }
    const device = await openChosenDevice(host, values);
    await host.makeDirectory(path);
    const lock = lockRun(path);
    try {
      const run = resume ? await RunFolder.open(host, path) : await RunFolder.create(host, path, config);
      // A run that finished although a signal came is no less done.
      return (await go(context, { device, run, config, data, resume, signal })) ? 0 : undefined;
    } finally {
      lock.release();
      device.dispose();
    }
  },
});

/** Trains, shows how it goes and says how it ended; false where it was stopped. */
async function go(
  { print, printJson, ...context }: Context<typeof verb.options>,
  options: Pick<RunOptions, "device" | "run" | "config" | "data" | "resume" | "signal">,
): Promise<boolean> {
  const { device, run, data, resume } = options;
  const { path, host } = run;
  const shown = display(context, run);
  const begin = performance.now();
  try {
    run.log(`${resume ? "resume" : "start"}: ${host.describe()}, ${device.info.name}`);
    if (data) run.log(splitLine(options.config, data));
    for (const problem of data?.examined.problems ?? []) run.log(`problem: ${problemLine(problem)}`);
    const finished = await trainRun({ ...options, measure, ...shown.handlers });
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

type Values = Context<typeof verb.options>["values"];

function started(values: Values, note: (line: string) => void): TrainConfig {
  const { system, data, fold = USUAL_SESSION, stage = "both", preset = "safe", hubert, bert, set } = values;
  if (system === undefined) throw new UsageError("Cannot train without --system NAME");
  if (data === undefined) throw new UsageError("Cannot train without --data DIR");
  const whole = (folder: string | undefined) => folder && resolve(folder);
  const config = trainConfig({
    ...{ preset, system, fold, data: resolve(data), hubert: whole(hubert), bert: whole(bert) },
    stage: stage === "both" ? undefined : (Number(stage) as StageNumber),
  });
  if (values.fold !== undefined && set.some(namesFold))
    throw new UsageError("Cannot use --set fold together with --fold: both name the session held out");
  if (set.some((setting) => setting.startsWith("system=")))
    throw new UsageError("Cannot use --set system: --system NAME chooses it, and the stages with it");
  const checked = checkConfig(
    applySettings(config, set),
    set.length > 0 ? "the recipe with --set" : "the recipe",
  );
  // --set fold=5 is read as a number, but means what --fold 5 does.
  const recipe = { ...checked, fold: String(checked.fold) };
  refuseFolders(recipe);
  for (const line of settingNotes(recipe, set)) note(line);
  for (const part of ["hubert", "bert"] as const) {
    const why = recipe.from[part] === undefined ? undefined : unused(recipe, `model.${part}`);
    if (why !== undefined) note(`--${part} changes nothing: ${why}`);
  }
  return recipe;
}

/** Throws where a checkpoint is given for a part that the system does not have. */
function refuseFolders({ system, from }: TrainConfig): void {
  if (from.bert !== undefined && !hasPart(system, "bert"))
    throw new UsageError(`Cannot use --bert: the system ${system} reads no text`);
  if (from.hubert !== undefined && !hasPart(system, "hubert"))
    throw new UsageError(`Cannot use --hubert: the system ${system} takes no speech`);
}

const namesFold = (setting: string) => setting.startsWith("fold=");

/** The config of the run in `path`; its corpus may lie elsewhere by now. */
async function resumed(host: Host, path: string, values: Values): Promise<TrainConfig> {
  for (const name of ["system", "fold", "stage", "preset", "hubert", "bert", "set"] as const) {
    const value = values[name];
    if (value !== undefined && !(Array.isArray(value) && value.length === 0))
      throw new UsageError(`Cannot change a run with --${name}: it goes on as it began`);
  }
  const config = checkConfig(await readJson(host, `${path}/config.json`), `${path}/config.json`);
  return values.data === undefined ? config : { ...config, data: resolve(values.data) };
}

/** Who chose the fold. */
type FoldOrigin = "run" | "command line" | "default";

/** The corpus of a config and the session that it holds out, by name in a new run; says what it found. */
async function openData(
  host: Host,
  begun: TrainConfig,
  origin: FoldOrigin,
  { note, signal }: Pick<Context, "note" | "signal">,
): Promise<{ config: TrainConfig; data?: TrainData }> {
  if (begun.stages.every((stage) => stage === 0)) {
    if (origin === "command line") note(`fold ${begun.fold} changes nothing: stage 0 reads text.txt alone`);
    return { config: begun };
  }
  const corpus = await readIemocap(host, begun.data);
  const encoder = await encoderOf(host, begun);
  const examined = await examine(host, corpus, { encoder, maxTrainingSeconds: begun.maxSeconds, signal });
  tellProblems(examined.problems, begun.data, note, "the run's log.txt names them all");
  const { name, fold } = sessionOf(begun, origin, corpus, examined, note);
  const config = { ...begun, fold };
  const data = { examined, fold: holdOut(examined.utterances, name, { dev: begun.dev, seed: begun.seed }) };
  note(splitLine(config, data));
  await warnOfOverlap(host, [begun.from.hubert, begun.from.bert], data.fold, data.examined.utterances, note);
  return { config, data };
}

function splitLine(config: TrainConfig, data: TrainData): string {
  const { train, dev } = split(config, data);
  const { name, test } = data.fold;
  return `${heldOutLine(name, test)}; ${train.length} to learn from, ${dev.length} to choose the epoch`;
}

/** The session held out, and what stands for it in the config: a number stays one, since a run is known by its config. */
function sessionOf(
  { fold, data }: TrainConfig,
  origin: FoldOrigin,
  corpus: Corpus,
  examined: Examined,
  note: (line: string) => void,
): { name: string; fold: TrainConfig["fold"] } {
  const usable = requireSessions(examined.utterances);
  if (typeof fold === "number") {
    const name = numberedSession(fold, examined.utterances);
    if (name === undefined)
      throw new RangeError(`Cannot hold out fold ${fold}: ${data} has ${usable.length} sessions`);
    note(`fold ${fold} of a run that counted its sessions in the order of their letters: ${name}`);
    return { name, fold };
  }
  if (origin === "default" && !corpus.sessions.includes(fold)) {
    const last = usable[usable.length - 1];
    note(`no --fold, and ${data} has no ${USUAL_SESSION}: its last session, ${last}, is held out`);
    return { name: last, fold: last };
  }
  if (origin === "run" && !corpus.sessions.includes(fold))
    throw new Error(
      `Cannot resume with ${data}: it has no ${fold}, which the run holds out; its sessions are ${corpus.sessions.join(", ")}`,
    );
  const name = chooseSession(fold, corpus, examined, "hold out");
  return { name, fold: name };
}

/** UA, WA and WER of the dev set. */
function measure(answers: readonly UtteranceAnswer[]) {
  const labelled = answers.filter((a) => a.utterance.label !== undefined);
  const truth = labelled.map((a) => LABELS.indexOf(a.utterance.label!));
  const predicted = labelled.map((a) => argmax(a.probabilities));
  const { ua, wa } = score(truth, predicted, LABELS.length);
  if (answers.some((a) => a.hypothesis === undefined)) return { ua, wa };
  const edits = answers.map((a) => wordEdits({ reference: a.utterance.words, hypothesis: a.hypothesis! }));
  return { ua, wa, wer: wer(totalEdits(edits)) };
}

if (isMain(import.meta)) await runVerb(verb);

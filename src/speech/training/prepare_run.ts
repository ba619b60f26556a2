/** Prepares a run for trainRun(): recipe, corpus and the session held out. */
import type { Host } from "../../host/host.ts";
import { ArgumentError } from "../../io/argument_error.ts";
import { readJson } from "../../io/config.ts";
import { RunExistsError, RunFolder } from "../../train/run_folder.ts";
import { type Corpus, labelLine, SESSIONS } from "../corpora/corpus.ts";
import { type Examined, examine } from "../corpora/examine.ts";
import { requireSessions, speakersOf } from "../corpora/folds.ts";
import { chooseHeldOut, foldOf, heldOutLine, heardLine, reportProblems } from "../corpora/held_out.ts";
import { readCorpus } from "../corpora/read.ts";
import { hasSessions, NOTHING_HELD_OUT, readSpeech, withoutTest } from "../corpora/unlabelled.ts";
import { applySettings, checkConfig, type TrainConfig } from "../recipes/config.ts";
import { type RecipeChoice, trainConfig } from "../recipes/presets.ts";
import type { StageNumber } from "../recipes/config.ts";
import {
  hasPart,
  pretrains,
  settingNotes,
  spells,
  stagesBefore,
  systemOf,
  unused,
} from "../recipes/systems.ts";
import { numberedSession, split, type TrainData } from "./data.ts";
import { checkStages, effectiveModel, encoderOf } from "./stage_inputs.ts";
import { warnOfOverlap } from "./overlap.ts";

/** Held out by default: the session on which work on IEMOCAP reports where it reports on one. */
const DEFAULT_SESSION = "Session5";

/** The choices for a new run. */
export interface RunChoice extends Omit<RecipeChoice, "fold"> {
  /** The session to hold out, by name or number, or the speaker, by name. */
  readonly fold?: string;
  /** Settings "key=value" of the recipe, see applySettings(). */
  readonly set: readonly string[];
}

/** A run whose corpus is not read yet. */
export interface PlannedRun {
  /** The config, whose fold may still be a number or a session that the corpus lacks. */
  readonly config: TrainConfig;
  /** Where the session held out comes from: the config of a resumed run, the choices for a new one, or the default. */
  readonly foldFrom: "run" | "choice" | "default";
}

const namesFold = (setting: string) => setting.startsWith("fold=");

/**
 * Plans a new run; `onNote` is told of every choice that has no effect. Throws one line where choices exclude each other, or a
 * setting is wrong.
 */
export function newRun({ set, ...choice }: RunChoice, onNote: (line: string) => void): PlannedRun {
  const { fold = DEFAULT_SESSION } = choice;
  const config = trainConfig({ ...choice, fold });
  if (choice.fold !== undefined && set.some(namesFold))
    throw new ArgumentError("Cannot use --set fold together with --fold: both name the session held out");
  if (set.some((setting) => setting.startsWith("system=")))
    throw new ArgumentError("Cannot use --set system: --system NAME chooses it, and the stages with it");
  const checked = checkConfig(
    applySettings(config, set),
    set.length > 0 ? "the recipe with --set" : "the recipe",
  );
  // --set fold=5 is parsed as a number, but means what --fold 5 does.
  const recipe = { ...checked, fold: String(checked.fold) };
  refuseFolders(recipe);
  for (const line of settingNotes(recipe, set)) onNote(line);
  for (const part of ["hubert", "bert"] as const) {
    const why = recipe.from[part] === undefined ? undefined : unused(recipe, `model.${part}`);
    if (why !== undefined) onNote(`--${part} changes nothing: ${why}`);
  }
  const given = choice.fold !== undefined || set.some(namesFold);
  return { config: recipe, foldFrom: given ? "choice" : "default" };
}

/** Throws where a checkpoint is given for an encoder that the system does not have. */
function refuseFolders(config: TrainConfig): void {
  const { system, from } = config;
  const { lstm } = systemOf(system);
  // lstm-both takes the tokenizer of the folder.
  if (from.bert !== undefined && !hasPart(system, "bert") && lstm !== "both")
    throw new ArgumentError(`Cannot use --bert: the system ${system} reads no text`);
  if (from.hubert !== undefined && !hasPart(system, "hubert"))
    throw new ArgumentError(
      `Cannot use --hubert: the system ${system} ${lstm ? "hears by LSTMs alone" : "takes no speech"}`,
    );
  for (const stage of Object.keys(from.stages ?? {}))
    if (!readStages(config).includes(Number(stage) as StageNumber))
      throw new ArgumentError(
        `Cannot use --stage-model ${stage}=DIR: no stage that is trained here begins with the model of a stage ${stage}`,
      );
}

/** The stages whose models those of the config begin with, and which it does not train itself. */
function readStages({ system, stages }: TrainConfig): StageNumber[] {
  return stages.flatMap((stage) => stagesBefore(system, stage)).filter((stage) => !stages.includes(stage));
}

/** The run in the folder `path`, to be resumed; `data`: where its corpus now is. Throws where its config is damaged. */
export async function resumedRun(host: Host, path: string, data?: string): Promise<PlannedRun> {
  const config = checkConfig(await readJson(host, `${path}/config.json`), `${path}/config.json`);
  return { config: data === undefined ? config : { ...config, data }, foldFrom: "run" };
}

/**
 * Reads the corpus of a run, and checks as much as possible without a GPU; `onNote` is told what was found. In the config of a
 * new run the session then has the name that it has in the corpus, and every key of the models is set. Throws one line where
 * the run is impossible.
 */
export async function prepareRun(
  host: Host,
  path: string,
  planned: PlannedRun,
  options: { readonly onNote: (line: string) => void; readonly signal?: AbortSignal },
): Promise<{ config: TrainConfig; data?: TrainData }> {
  const fresh = planned.foldFrom !== "run";
  if (fresh) await checkFolder(host, path);
  const { config, data } = await openData(host, planned, options);
  if (data?.fold.dev.length === 0) options.onNote("no dev set: of each stage the last epoch is kept");
  if (!fresh) return { config, data };
  await checkStages(host, config, data);
  return { config: { ...config, model: await effectiveModel(host, config) }, data };
}

/** As RunFolder.check(); of a run that is there it says how to go on. */
async function checkFolder(host: Host, path: string): Promise<void> {
  try {
    await RunFolder.check(host, path);
  } catch (error) {
    throw error instanceof RunExistsError
      ? new RunExistsError(path, `--resume --out ${path} goes on with it`)
      : error;
  }
}

/** Reads the corpus of a config, and splits it. */
async function openData(
  host: Host,
  { config: planned, foldFrom }: PlannedRun,
  { onNote, signal }: { readonly onNote: (line: string) => void; readonly signal?: AbortSignal },
): Promise<{ config: TrainConfig; data?: TrainData }> {
  if (planned.stages.every((stage) => stage === 0)) {
    if (foldFrom === "choice") onNote(`fold ${planned.fold} changes nothing: stage 0 reads text.txt alone`);
    if (planned.corpus !== undefined) onNote("--corpus changes nothing: stage 0 reads text.txt alone");
    return { config: planned };
  }
  const pretraining = pretrains(planned.system);
  const corpus = pretraining
    ? await readSpeech(host, planned.data, pretraining === "ctc", planned.corpus)
    : await readCorpus(host, planned.data, planned.corpus);
  requireWords(planned, corpus);
  const found = await examine(host, corpus, {
    encoder: await encoderOf(host, planned),
    ctc: !spells(planned.system) && pretraining !== "units",
    maxTrainingSeconds: planned.maxSeconds,
    signal,
  });
  // Units are of recordings alone.
  const problems = found.problems.filter(({ kind }) => pretraining !== "units" || !/transcript/.test(kind));
  const examined = { ...found, problems };
  reportProblems(examined.problems, planned.data, onNote, "the run's log.txt names them all");
  const { name, fold } = hasSessions(corpus)
    ? sessionOf(planned, foldFrom, corpus, examined, onNote)
    : nothingHeldOut(planned, foldFrom);
  const config = { ...planned, fold };
  const of = { dev: planned.dev, seed: planned.seed };
  const data = {
    examined,
    fold: hasSessions(corpus) ? foldOf(examined.utterances, name, of) : withoutTest(examined.utterances, of),
  };
  if (corpus.name !== "synthetic" && hasSessions(corpus))
    onNote(`${corpus.name}: ${labelLine(corpus)}; folds are ${corpus.foldRule}`);
  onNote(splitLine(config, data));
  const heard = heardLine(data.fold);
  if (heard !== undefined) onNote(heard);
  if (foldFrom !== "run" && speakersOf(data.fold.test).includes(name))
    onNote(
      `the dev set is ${corpus.foldRule === SESSIONS ? "the other side of the dialogues" : "what the others say of the group"} of ${name}, ${speakersOf(data.fold.dev).join(", ") || "nobody"}; dev and seed change nothing of it`,
    );
  await warnOfOverlap(
    host,
    [planned.from.hubert, planned.from.bert, ...Object.values(planned.from.stages ?? {})],
    data.fold,
    data.examined.utterances,
    onNote,
  );
  return { config, data };
}

/** Throws where a system learns words of a corpus that has no transcripts. */
export function requireWords(
  { system, data }: Pick<TrainConfig, "system" | "data">,
  { name, transcribed }: Pick<Corpus, "name" | "transcribed">,
): void {
  const { modalities, asr } = systemOf(system);
  if (transcribed || (modalities === "acoustic" && !asr)) return;
  throw new ArgumentError(
    `Cannot train ${system} on ${data}: ${name} has no transcripts, and it learns words; the system acoustic needs none`,
  );
}

/** "Session5 held out: 27 utterances of speakers 05F, 05M; 78 to learn from, 15 to choose the epoch". */
export function splitLine(config: TrainConfig, data: TrainData): string {
  const { train, dev } = split(config, data);
  const { name, test } = data.fold;
  const heldOut = test.length === 0 ? "nothing held out" : heldOutLine(name, test);
  return `${heldOut}; ${train.length} to learn from, ${dev.length} to choose the epoch`;
}

/** Of a corpus without sessions. */
function nothingHeldOut({ fold, data }: TrainConfig, foldFrom: PlannedRun["foldFrom"]) {
  if (foldFrom !== "default" && fold !== NOTHING_HELD_OUT)
    throw new ArgumentError(`Cannot hold out fold ${fold} of ${data}: it has no sessions`);
  return { name: NOTHING_HELD_OUT, fold: NOTHING_HELD_OUT };
}

/** The session or speaker held out, and `fold` of the config: a number stays one, since the identity of a run includes it. */
function sessionOf(
  { fold, data }: TrainConfig,
  foldFrom: PlannedRun["foldFrom"],
  corpus: Corpus,
  examined: Examined,
  onNote: (line: string) => void,
): { name: string; fold: TrainConfig["fold"] } {
  const usable = requireSessions(examined.utterances);
  if (typeof fold === "number") {
    const name = numberedSession(fold, examined.utterances);
    if (name === undefined)
      throw new RangeError(`Cannot hold out fold ${fold}: ${data} has ${usable.length} sessions`);
    onNote(`fold ${fold} of a run that counted its sessions in the order of their letters: ${name}`);
    return { name, fold };
  }
  if (foldFrom === "default" && !corpus.sessions.includes(fold)) {
    const last = usable[usable.length - 1];
    onNote(`no --fold, and ${data} has no ${DEFAULT_SESSION}: its last session, ${last}, is held out`);
    return { name: last, fold: last };
  }
  if (foldFrom === "run" && ![...corpus.sessions, ...speakersOf(examined.utterances)].includes(fold))
    throw new Error(
      `Cannot resume with ${data}: it has no ${fold}, which the run holds out; its sessions are ${corpus.sessions.join(", ")}`,
    );
  const name = chooseHeldOut(fold, corpus, examined, "hold out");
  return { name, fold: name };
}

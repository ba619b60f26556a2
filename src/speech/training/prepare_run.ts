/** From what was chosen to what trainRun() takes: the recipe, the corpus and the session that is held out. */
import type { Host } from "../../host/host.ts";
import { ArgumentError } from "../../io/argument_error.ts";
import { readJson } from "../../io/config.ts";
import { RunFolder } from "../../train/run_folder.ts";
import type { Corpus } from "../corpora/corpus.ts";
import { type Examined, examine } from "../corpora/examine.ts";
import { holdOut, requireSessions } from "../corpora/folds.ts";
import { chooseSession, heldOutLine, reportProblems } from "../corpora/held_out.ts";
import { readIemocap } from "../corpora/iemocap.ts";
import { applySettings, checkConfig, type TrainConfig } from "../recipes/config.ts";
import { type RecipeChoice, trainConfig } from "../recipes/presets.ts";
import { hasPart, settingNotes, unused } from "../recipes/systems.ts";
import { numberedSession, split, type TrainData } from "./data.ts";
import { checkStages, effectiveModel, encoderOf } from "./stage_inputs.ts";
import { warnOfOverlap } from "./overlap.ts";

/** Held out where nothing is said: the session that work on IEMOCAP reports where it reports one. */
const USUAL_SESSION = "Session5";

/** What a new run is to be. */
export interface RunChoice extends Omit<RecipeChoice, "fold"> {
  /** The session to hold out, by name or number. */
  readonly fold?: string;
  /** Changes of the recipe, "key=value", see applySettings(). */
  readonly set: readonly string[];
}

/** A run before its corpus was read. */
export interface PlannedRun {
  readonly config: TrainConfig;
  /** Who chose the session held out: the run that goes on, the one who began this one, or nobody. */
  readonly foldFrom: "run" | "choice" | "default";
}

type OnNote = (line: string) => void;

const namesFold = (setting: string) => setting.startsWith("fold=");

/**
 * The recipe of a new run; `onNote` is told of every choice that changes nothing. Throws one line where choices exclude each
 * other, or a setting is wrong.
 */
export function newRun({ set, ...choice }: RunChoice, onNote: OnNote): PlannedRun {
  const { fold = USUAL_SESSION } = choice;
  const config = trainConfig({ ...choice, fold });
  if (choice.fold !== undefined && set.some(namesFold))
    throw new ArgumentError("Cannot use --set fold together with --fold: both name the session held out");
  if (set.some((setting) => setting.startsWith("system=")))
    throw new ArgumentError("Cannot use --set system: --system NAME chooses it, and the stages with it");
  const checked = checkConfig(
    applySettings(config, set),
    set.length > 0 ? "the recipe with --set" : "the recipe",
  );
  // --set fold=5 is read as a number, but means what --fold 5 does.
  const recipe = { ...checked, fold: String(checked.fold) };
  refuseFolders(recipe);
  for (const line of settingNotes(recipe, set)) onNote(line);
  for (const part of ["hubert", "bert"] as const) {
    const why = recipe.from[part] === undefined ? undefined : unused(recipe, `model.${part}`);
    if (why !== undefined) onNote(`--${part} changes nothing: ${why}`);
  }
  const told = choice.fold !== undefined || set.some(namesFold);
  return { config: recipe, foldFrom: told ? "choice" : "default" };
}

/** Throws where a checkpoint is given for a part that the system does not have. */
function refuseFolders({ system, from }: TrainConfig): void {
  if (from.bert !== undefined && !hasPart(system, "bert"))
    throw new ArgumentError(`Cannot use --bert: the system ${system} reads no text`);
  if (from.hubert !== undefined && !hasPart(system, "hubert"))
    throw new ArgumentError(`Cannot use --hubert: the system ${system} takes no speech`);
}

/** The run in `path`; `data` is where its corpus lies by now, if that is elsewhere. Throws where its config is damaged. */
export async function resumedRun(host: Host, path: string, data?: string): Promise<PlannedRun> {
  const config = checkConfig(await readJson(host, `${path}/config.json`), `${path}/config.json`);
  return { config: data === undefined ? config : { ...config, data }, foldFrom: "run" };
}

/**
 * Checks all of a run that can be checked without a GPU and reads its corpus; `onNote` is told what was found. A new run's
 * config then names its session as the corpus does, and holds every key of its models. Throws one line where the run cannot be.
 */
export async function prepareRun(
  host: Host,
  path: string,
  begun: PlannedRun,
  options: { readonly onNote: OnNote; readonly signal?: AbortSignal },
): Promise<{ config: TrainConfig; data?: TrainData }> {
  const fresh = begun.foldFrom !== "run";
  if (fresh) await RunFolder.check(host, path);
  const { config, data } = await openData(host, begun, options);
  if (data?.fold.dev.length === 0) options.onNote("no dev set: of each stage the last epoch is kept");
  if (!fresh) return { config, data };
  await checkStages(host, config, data);
  return { config: { ...config, model: await effectiveModel(host, config) }, data };
}

/** The corpus of a config and the session that it holds out, by name in a new run; says what it found. */
async function openData(
  host: Host,
  { config: begun, foldFrom }: PlannedRun,
  { onNote, signal }: { readonly onNote: OnNote; readonly signal?: AbortSignal },
): Promise<{ config: TrainConfig; data?: TrainData }> {
  if (begun.stages.every((stage) => stage === 0)) {
    if (foldFrom === "choice") onNote(`fold ${begun.fold} changes nothing: stage 0 reads text.txt alone`);
    return { config: begun };
  }
  const corpus = await readIemocap(host, begun.data);
  const examined = await examine(host, corpus, {
    encoder: await encoderOf(host, begun),
    maxTrainingSeconds: begun.maxSeconds,
    signal,
  });
  reportProblems(examined.problems, begun.data, onNote, "the run's log.txt names them all");
  const { name, fold } = sessionOf(begun, foldFrom, corpus, examined, onNote);
  const config = { ...begun, fold };
  const data = { examined, fold: holdOut(examined.utterances, name, { dev: begun.dev, seed: begun.seed }) };
  onNote(splitLine(config, data));
  await warnOfOverlap(
    host,
    [begun.from.hubert, begun.from.bert],
    data.fold,
    data.examined.utterances,
    onNote,
  );
  return { config, data };
}

/** "Session5 held out: 27 utterances of speakers 05F, 05M; 78 to learn from, 15 to choose the epoch". */
export function splitLine(config: TrainConfig, data: TrainData): string {
  const { train, dev } = split(config, data);
  const { name, test } = data.fold;
  return `${heldOutLine(name, test)}; ${train.length} to learn from, ${dev.length} to choose the epoch`;
}

/** The session held out, and what stands for it in the config: a number stays one, since a run is known by its config. */
function sessionOf(
  { fold, data }: TrainConfig,
  foldFrom: PlannedRun["foldFrom"],
  corpus: Corpus,
  examined: Examined,
  onNote: OnNote,
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
    onNote(`no --fold, and ${data} has no ${USUAL_SESSION}: its last session, ${last}, is held out`);
    return { name: last, fold: last };
  }
  if (foldFrom === "run" && !corpus.sessions.includes(fold))
    throw new Error(
      `Cannot resume with ${data}: it has no ${fold}, which the run holds out; its sessions are ${corpus.sessions.join(", ")}`,
    );
  const name = chooseSession(fold, corpus, examined, "hold out");
  return { name, fold: name };
}

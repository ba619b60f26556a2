/**
 * Plans a cross-validation: every training and evaluation that it takes, as jobs that depend on each other. Stages that several
 * systems, folds or rows have in common are one job.
 */
import type { Host } from "../../host/host.ts";
import { ArgumentError } from "../../io/argument_error.ts";
import { hash } from "../../train/state.ts";
import { chooseHeldOut, foldOf, heardLine, reportProblems } from "../corpora/held_out.ts";
import { type Examined, examine } from "../corpora/examine.ts";
import { requireSessions, speakersOf } from "../corpora/folds.ts";
import { type Corpus, labelLine } from "../corpora/corpus.ts";
import { readCorpus } from "../corpora/read.ts";
import { applySettings, type StageNumber, stageOf, type TrainConfig } from "../recipes/config.ts";
import { trainConfig } from "../recipes/presets.ts";
import { hasPart, stagesBefore, systemConfig, systemOf } from "../recipes/systems.ts";
import { type PaperRow, rowsOf } from "../recipes/tables.ts";
import { split, type TrainData } from "../training/data.ts";
import { newRun, requireWords } from "../training/prepare_run.ts";
import { corpusIdentity } from "../training/run_provenance.ts";
import { checkStages, encoderOf } from "../training/stage_inputs.ts";
import { type CrossChoice, evaluationId, foldersOf, type Job, type Plan, takesBert } from "./plan.ts";
import type { CellKey } from "./results.ts";

/** Callbacks of makePlan(). */
export interface PlanOptions {
  /** Told of what is left out or has no effect. */
  readonly onNote: (line: string) => void;
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** A row whose system can be trained. */
type Trained = PaperRow & { readonly system: NonNullable<PaperRow["system"]> };

/**
 * Reads the corpus and plans every job, and checks each system as far as possible without a GPU. Throws one line where a
 * system, a fold or a setting is unknown, or the corpus does not fit.
 */
export async function makePlan(host: Host, choice: CrossChoice, options: PlanOptions): Promise<Plan> {
  const { onNote, signal } = options;
  const rows = rowsOf(choice.systems);
  const trained = rows.filter((row): row is Trained => row.system !== undefined);
  for (const row of rows)
    if (row.system === undefined)
      onNote(`${row.title}: its published figures are shown, it cannot be trained`);
  if (trained.length === 0)
    throw new ArgumentError(`Cannot cross-validate ${choice.systems.join(", ")}: none of it can be trained`);
  const systems = [...new Set(trained.map((row) => row.system))];
  const settings = settingsOf(choice, systems, onNote);
  noteFolders(choice, systems, onNote);
  const corpus = await readCorpus(host, choice.data, choice.corpus);
  for (const system of systems) requireWords({ system, data: choice.data }, corpus);
  if (corpus.name !== "synthetic")
    onNote(`${corpus.name}: ${labelLine(corpus)}; folds are ${corpus.foldRule}`);
  const examiner = examinerOf(host, corpus, signal);
  const first = configOf(choice, systems[0], settings, 1);
  const examined = await examiner(first);
  reportProblems(examined.problems, choice.data, onNote);
  const folds = chooseFolds(choice, corpus, examined);
  const seeds = Array.from({ length: choice.seeds }, (_, i) => i + 1);
  const sentences = await countLines(host, `${choice.data}/text.txt`);

  const jobs = new Map<string, Job>();
  for (const seed of seeds)
    for (const fold of folds)
      for (const system of systems) {
        signal?.throwIfAborted();
        const config = { ...configOf(choice, system, settings, seed), fold };
        const data = await dataOf(config, examiner);
        if (seed === seeds[0] && system === systems[0]) {
          const heard = heardLine(data.fold);
          if (heard !== undefined) onNote(heard);
        }
        if (seed === seeds[0] && fold === folds[0]) await checkStages(host, config, data);
        const set = settings.get(system) as string[];
        const last = await addTrainings(jobs, { config, data, set, sentences });
        const words = trained.filter((row) => row.system === system).map((row) => row.words);
        for (const each of new Set(words))
          addEvaluation(jobs, { system, fold, seed, words: each }, last, data);
      }
  return {
    format: 1,
    asked: {
      ...{
        systems: [...choice.systems],
        data: choice.data,
        ...(choice.corpus ? { corpus: choice.corpus } : {}),
        folds,
        seeds,
      },
      ...{ preset: choice.preset, set: [...choice.set] },
      ...{ hubert: choice.hubert, wav2vec2: choice.wav2vec2, bert: choice.bert },
    },
    corpus: {
      ...{ name: corpus.name, utterances: examined.utterances.length },
      identity: await corpusIdentity(examined.utterances),
    },
    jobs: [...jobs.values()],
  };
}

/** The settings of each system: those that it has. Throws for one that no system has. */
function settingsOf(
  choice: CrossChoice,
  systems: readonly string[],
  onNote: (line: string) => void,
): Map<string, string[]> {
  const reserved: Readonly<Record<string, string>> = {
    ...{ fold: "--folds names the folds", seed: "--seeds N takes the seeds from 1 to N" },
    ...{ system: "--systems names the systems", stages: "every system has its own" },
  };
  for (const setting of choice.set) {
    const why = reserved[setting.slice(0, setting.indexOf("="))];
    if (why !== undefined) throw new ArgumentError(`Cannot use --set ${setting}: ${why}`);
  }
  const found = new Map<string, string[]>(systems.map((system) => [system, []]));
  for (const setting of choice.set) {
    const refused: [system: string, error: Error][] = [];
    for (const [system, list] of found) {
      try {
        applySettings(
          trainConfig({
            ...foldersOf(choice, system),
            preset: choice.preset,
            system,
            data: choice.data,
            fold: "1",
          }),
          [setting],
        );
        list.push(setting);
      } catch (error) {
        refused.push([system, error as Error]);
      }
    }
    if (refused.length === systems.length) throw refused[0][1];
    for (const [system, { message }] of refused)
      onNote(`--set ${setting} is left out for ${system}: ${message.replace(/^Cannot [^:]*: /, "")}`);
  }
  return found;
}

/** Notes systems that begin with random weights where others begin with a checkpoint, and checkpoints for no system. */
function noteFolders(choice: CrossChoice, systems: readonly string[], onNote: (line: string) => void): void {
  const { hubert, wav2vec2, bert } = choice;
  for (const [name, folder, part, family] of [
    ["hubert", hubert, "hubert", undefined],
    ["wav2vec2", wav2vec2, "hubert", "wav2vec2"],
    ["bert", bert, "bert", undefined],
  ] as const) {
    const takers = systems.filter(
      (system) =>
        (part === "bert" ? takesBert(system, 2) : hasPart(system, part)) &&
        (part === "bert" || (systemOf(system).encoder === "wav2vec2") === (family !== undefined)),
    );
    if (folder !== undefined && takers.length === 0) onNote(`--${name} changes nothing: no system takes it`);
    if (folder === undefined && (hubert ?? wav2vec2 ?? bert) !== undefined && takers.length > 0)
      onNote(
        `no --${name}: ${takers.join(", ")} ${takers.length > 1 ? "begin" : "begins"} with random weights there`,
      );
  }
}

/** The config of a whole training of a system. */
function configOf(
  choice: CrossChoice,
  system: string,
  settings: ReadonlyMap<string, readonly string[]>,
  seed: number,
): TrainConfig {
  const { preset, data } = choice;
  const set = [...(settings.get(system) ?? []), `seed=${seed}`];
  return newRun({ preset, system, data, set, ...foldersOf(choice, system) }, () => {}).config;
}

/** Examines a corpus once for each encoder that looks at it. */
function examinerOf(host: Host, corpus: Corpus, signal?: AbortSignal) {
  const seen = new Map<string, Promise<Examined>>();
  return async (config: TrainConfig): Promise<Examined> => {
    const encoder = await encoderOf(host, config);
    const name = JSON.stringify([encoder?.convKernel, encoder?.convStride, config.maxSeconds]);
    const known = seen.get(name);
    if (known) return await known;
    const examining = examine(host, corpus, { encoder, maxTrainingSeconds: config.maxSeconds, signal });
    seen.set(name, examining);
    return await examining;
  };
}

/** Names of the folds that are asked for. Throws an ArgumentError where there are none of these. */
function chooseFolds({ folds: asked, foldsBy }: CrossChoice, corpus: Corpus, examined: Examined): string[] {
  const sessions = requireSessions(examined.utterances);
  const all = foldsBy === "session" ? sessions : speakersOf(examined.utterances);
  if (asked === "all") return all;
  if (/^\d+$/.test(asked)) {
    const count = Number(asked);
    if (count >= 1 && count <= all.length) return all.slice(0, count);
    throw new ArgumentError(
      `Cannot use --folds ${asked}: a number takes that many, and ${corpus.root} has ${all.length} (${all.join(", ")})`,
    );
  }
  const names = asked.split(",").filter((name) => name !== "");
  const chosen = names.map((name) => chooseHeldOut(name, corpus, examined, "hold out"));
  const twice = chosen.find((name, i) => chosen.indexOf(name) < i);
  if (twice !== undefined) throw new ArgumentError(`Cannot use --folds ${asked}: ${twice} is named twice`);
  return chosen;
}

async function dataOf(
  config: TrainConfig,
  examiner: (config: TrainConfig) => Promise<Examined>,
): Promise<TrainData> {
  const examined = await examiner(config);
  const { fold, dev, seed } = config;
  return { examined, fold: foldOf(examined.utterances, String(fold), { dev, seed }) };
}

const secondsOf = (utterances: readonly { readonly seconds?: number }[]): number =>
  utterances.reduce((sum, { seconds = 0 }) => sum + seconds, 0);

interface Training {
  readonly config: TrainConfig;
  readonly data: TrainData;
  readonly set: readonly string[];
  /** Lines of the corpus's text. */
  readonly sentences: number;
}

/** Adds the jobs of a system's stages that are not there yet; returns that of its last stage. */
async function addTrainings(jobs: Map<string, Job>, training: Training): Promise<Job> {
  const { config, data, set, sentences } = training;
  const own = new Map<StageNumber, Job>();
  let last: Job | undefined;
  for (const stage of config.stages) {
    const before = stagesBefore(config.system, stage).flatMap((each) => own.get(each) ?? []);
    const { system, seed } = config;
    const fold = stage === 0 ? undefined : String(config.fold);
    const { epochs } = stageOf(config, stage);
    const learnt = stage === 0 ? Math.min(sentences, config.sentences) : secondsOf(split(config, data).train);
    const { key, speed } = await keysOf(config, stage, before);
    const id = [system, `stage${stage}`, fold, seed].filter((part) => part !== undefined).join("-");
    last = jobs.get(key) ?? {
      ...{ id, kind: "train", system, fold, seed, stage, set: set.filter((each) => concerns(each, stage)) },
      ...{ after: before.map((job) => job.id), key, speed, amount: Math.round(learnt * epochs) },
    };
    jobs.set(key, last);
    own.set(stage, last);
  }
  if (last === undefined) throw new Error(`Cannot cross-validate ${config.system}: it has no stages`);
  return last;
}

/** Whether a setting "key=value" is not one of another stage. */
const concerns = (setting: string, stage: StageNumber): boolean =>
  (/^stage(\d)\b/.exec(setting)?.[1] ?? String(stage)) === String(stage);

/** Hashes of what determines the bits of a stage's model, and of what determines its speed. */
async function keysOf(
  config: TrainConfig,
  stage: StageNumber,
  before: readonly Job[],
): Promise<Pick<Job, "key" | "speed">> {
  const { system, model, from, dev, seed, maxSeconds, sentences, wordVectors, fold } = config;
  const recipe = stageOf(config, stage);
  const built =
    stage === 0
      ? { bert: model.bert }
      : systemConfig(systemOf(system), stage, { ...model, alpha: recipe.alpha });
  const { epochs: _epochs, ...step } = recipe;
  return {
    key: await hash({
      ...{ stage, recipe, built, seed, before: before.map((job) => job.key) },
      ...(stage === 0 ? { sentences, wordVectors } : { fold, dev, maxSeconds, hubert: from.hubert }),
      ...(takesBert(system, stage) ? { bert: from.bert } : {}),
      ...(stage === 2 ? { words: systemOf(system).words } : {}),
    }),
    speed: await hash({ stage, step, built, from }),
  };
}

/** Adds the evaluation of a model on its fold. */
function addEvaluation(
  jobs: Map<string, Job>,
  cell: CellKey,
  model: Job,
  { fold: { test } }: TrainData,
): void {
  const id = evaluationId(cell);
  jobs.set(id, {
    ...{ id, kind: "evaluate", system: cell.system, fold: cell.fold, seed: cell.seed, words: cell.words },
    ...{ after: [model.id], key: `${model.key} ${cell.words ?? "none"}`, speed: `evaluate ${model.speed}` },
    amount: Math.round(secondsOf(test)),
  });
}

/** Lines of a text; 0 where there is none. */
async function countLines(host: Host, path: string): Promise<number> {
  if ((await host.kind(path)) !== "file") return 0;
  let lines = 0;
  for (const byte of await host.readBytes(path)) if (byte === 10) lines++;
  return lines;
}

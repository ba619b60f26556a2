/** What the models of a run are trained on: its corpus, and what the checkpoints that it starts from were trained on. */
import type { Host } from "../../host/host.ts";
import { beginningOf } from "../../io/listed.ts";
import { writeWhole } from "../../io/write_whole.ts";
import type { Utterance } from "../corpora/corpus.ts";
import type { StageNumber, TrainConfig } from "../recipes/config.ts";
import { contentOf, split, type TrainData } from "./data.ts";
import {
  type InitialCheckpoint,
  clipDigests,
  type TrainingCorpus,
  PROVENANCE_FILE,
  type Provenance,
  provenance,
  provenanceText,
  readProvenance,
} from "./provenance.ts";
import { hash, type Latest } from "../../train/state.ts";

/** What the models of a run are trained on. */
export interface RunProvenance {
  readonly corpus?: TrainingCorpus;
  /** Name of the corpus whose text stage 0 trains on. */
  readonly text?: string;
  readonly hubert?: InitialCheckpoint;
  readonly bert?: InitialCheckpoint;
  /** Models of earlier stages that other runs have trained. */
  readonly stages: readonly InitialCheckpoint[];
}

/**
 * Reads every recording of the training and dev sets once. Throws where their digests are not those in the newest checkpoint.
 * Undefined where interrupted.
 */
export async function runProvenance(
  host: Host,
  config: TrainConfig,
  data: TrainData | undefined,
  { latest, signal }: { latest?: Latest; signal: AbortSignal },
): Promise<RunProvenance | undefined> {
  const initial = async (folder: string | undefined): Promise<InitialCheckpoint | undefined> =>
    folder === undefined ? undefined : [folderName(folder), await readProvenance(host, folder)];
  try {
    return {
      corpus: data && (await trainingCorpus(host, config, data, latest, signal)),
      text: config.stages.includes(0) ? folderName(config.data) : undefined,
      hubert: await initial(config.from.hubert),
      bert: await initial(config.from.bert),
      stages: (await Promise.all(Object.values(config.from.stages ?? {}).map(initial))).filter(
        (one) => one !== undefined,
      ),
    };
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

/** The record of a stage's model: stage 0 trains on text alone, stage 1 on speech alone. */
export function recordOf(
  { corpus, text, hubert, bert, stages }: RunProvenance,
  stage: StageNumber,
): Provenance {
  const speech = stage > 0;
  const reads = stage !== 1;
  const initial = [
    ...[speech ? hubert : undefined, reads ? bert : undefined].filter((one) => one !== undefined),
    ...(stage === 2 ? stages : []),
  ];
  const own = { corpus: speech ? corpus : undefined, text: reads ? text : undefined };
  return provenance(own, initial);
}

/** Writes the record of a model that has none, as those that version 0.1 saved. */
export async function addRecord(host: Host, folder: string, record: Provenance): Promise<void> {
  const path = `${folder}/${PROVENANCE_FILE}`;
  if ((await host.kind(path)) === undefined) await writeWhole(host, path, provenanceText(record));
}

/** The last part of a path, or the last two where that is a generic name: "fold5/model". */
export function folderName(folder: string): string {
  const parts = folder.split(/[/\\]/).filter((part) => part !== "");
  return parts.slice(/^(model|stage\d.*)$/.test(parts.at(-1) ?? "") ? -2 : -1).join("/");
}

async function trainingCorpus(
  host: Host,
  config: TrainConfig,
  data: TrainData,
  latest: Latest | undefined,
  signal: AbortSignal,
): Promise<TrainingCorpus> {
  const { system, preset, dev, seed } = config;
  const { fold, examined } = data;
  const parts = split(config, data);
  const facts = {
    name: folderName(config.data),
    identity: await corpusIdentity(examined.utterances),
    ...{ system, preset, heldOut: fold.name, dev, seed },
    split: await splitHash({ ...parts, test: fold.test }),
  };
  // A checkpoint of a stage that trains on speech holds the digests already.
  const kept =
    latest && latest.state.stage > 0
      ? await readProvenance(host, latest.folder).catch(() => undefined)
      : undefined;
  const trainedOn = await clipDigests(host, parts.train, signal);
  const selectedBy = await clipDigests(host, parts.dev, signal);
  const own = kept?.corpora[0];
  if (!own || own.identity !== facts.identity || own.heldOut !== facts.heldOut)
    return { ...facts, trainedOn, selectedBy };
  refuseChanged(config.data, { ...own.trainedOn, ...own.selectedBy }, { ...trainedOn, ...selectedBy });
  // In the order of a run that was never stopped.
  return { ...facts, trainedOn: own.trainedOn, selectedBy: own.selectedBy };
}

/** A hash that is equal for equal splits: of the ids of each part, in their order. */
export const splitHash = (
  parts: Readonly<Record<"train" | "dev" | "test", readonly Utterance[]>>,
): Promise<string> => hash([parts.train, parts.dev, parts.test].map((part) => part.map(({ id }) => id)));

type Digests = Readonly<Record<string, string>>;

/** Throws where recordings have changed since the run began; those that could or can not be read are not compared. */
function refuseChanged(data: string, then: Digests, now: Digests): void {
  const others = Object.keys(now).filter((id) => now[id] !== "" && then[id] && now[id] !== then[id]);
  if (others.length === 0) return;
  throw new Error(
    `Cannot resume with ${data}: ${others.length} of ${Object.keys(now).length} recordings have other samples than when the run began (${beginningOf(others, 3)})`,
  );
}

/** A hash that is equal for corpora with equal utterances, wherever they are stored. */
export const corpusIdentity = (utterances: TrainData["examined"]["utterances"]): Promise<string> =>
  hash(contentOf(utterances));

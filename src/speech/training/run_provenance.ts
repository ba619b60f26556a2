/** What the models of a run were trained on: its own corpus, and what the checkpoints that it began with had. */
import type { Host } from "../../host/host.ts";
import { beginningOf } from "../../io/listed.ts";
import { writeWhole } from "../../io/write_whole.ts";
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

export interface RunProvenance {
  readonly corpus?: TrainingCorpus;
  /** Name of the corpus whose text stage 0 reads. */
  readonly text?: string;
  readonly hubert?: InitialCheckpoint;
  readonly bert?: InitialCheckpoint;
}

/**
 * Reads every clip of train and dev once. Throws where they are not those of the newest checkpoint, which holds their
 * digests. Undefined where interrupted.
 */
export async function runProvenance(
  host: Host,
  config: TrainConfig,
  data: TrainData | undefined,
  { latest, signal }: { latest?: Latest; signal: AbortSignal },
): Promise<RunProvenance | undefined> {
  const before = async (folder: string | undefined): Promise<InitialCheckpoint | undefined> =>
    folder === undefined ? undefined : [nameOf(folder), await readProvenance(host, folder)];
  try {
    return {
      corpus: data && (await trainingCorpus(host, config, data, latest, signal)),
      text: config.stages.includes(0) ? nameOf(config.data) : undefined,
      hubert: await before(config.from.hubert),
      bert: await before(config.from.bert),
    };
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

/** The record of a stage's model. Stage 0 reads text alone, stage 1 learns from speech alone. */
export function recordOf({ corpus, text, hubert, bert }: RunProvenance, stage: StageNumber): Provenance {
  const speech = stage > 0;
  const reads = stage !== 1;
  const before = [speech ? hubert : undefined, reads ? bert : undefined].filter((one) => one !== undefined);
  const own = { corpus: speech ? corpus : undefined, text: reads ? text : undefined };
  return provenance(own, before);
}

/** Writes the record of a model that a run of version 0.1 saved without one. */
export async function addRecord(host: Host, folder: string, record: Provenance): Promise<void> {
  const path = `${folder}/${PROVENANCE_FILE}`;
  if ((await host.kind(path)) === undefined) await writeWhole(host, path, provenanceText(record));
}

/** The last part of a path; "fold5/model" where that alone says nothing. */
function nameOf(folder: string): string {
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
  const facts = {
    name: nameOf(config.data),
    identity: await corpusIdentity(examined.utterances),
    ...{ system, preset, heldOut: fold.name, dev, seed },
  };
  // A checkpoint of a stage of speech holds them already: of this run, since its state said so.
  const kept =
    latest && latest.state.stage > 0
      ? await readProvenance(host, latest.folder).catch(() => undefined)
      : undefined;
  const parts = split(config, data);
  const trainedOn = await clipDigests(host, parts.train, signal);
  const selectedBy = await clipDigests(host, parts.dev, signal);
  const own = kept?.corpora[0];
  if (!own || own.identity !== facts.identity || own.heldOut !== facts.heldOut)
    return { ...facts, trainedOn, selectedBy };
  refuseOthers(config.data, { ...own.trainedOn, ...own.selectedBy }, { ...trainedOn, ...selectedBy });
  return { ...own, ...facts };
}

type Digests = Readonly<Record<string, string>>;

/** Throws where clips are not those that the run began with; one that cannot be read, then or now, passes here. */
function refuseOthers(data: string, then: Digests, now: Digests): void {
  const others = Object.keys(now).filter((id) => now[id] !== "" && then[id] && now[id] !== then[id]);
  if (others.length === 0) return;
  throw new Error(
    `Cannot resume with ${data}: ${others.length} of ${Object.keys(now).length} recordings have other samples than when the run began (${beginningOf(others, 3)})`,
  );
}

/** Equal for corpora with the same utterances, wherever they lie. */
export const corpusIdentity = (utterances: TrainData["examined"]["utterances"]): Promise<string> =>
  hash(contentOf(utterances));

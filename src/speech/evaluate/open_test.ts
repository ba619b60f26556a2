/** The session that a model is tested on. */
import type { Host } from "../../host/host.ts";
import { type Examined, examine } from "../corpora/examine.ts";
import type { Fold } from "../corpora/folds.ts";
import { chooseHeldOut, foldOf, heardLine, reportProblems } from "../corpora/held_out.ts";
import { type CorpusName, readCorpus } from "../corpora/read.ts";
import {
  heldOutSession,
  refuseTrainedOn,
  type TrainingOverlap,
  trainingOverlap,
} from "../training/overlap.ts";
import { readProvenance } from "../training/provenance.ts";
import { type Baselines, readBaselines } from "../baselines/baselines.ts";
import type { EmotionModel } from "./evaluate.ts";

export interface TestOptions {
  /** Folder of the corpus. */
  readonly data: string;
  /** Its layout; found from the folder where left out. */
  readonly corpus?: CorpusName;
  /** The session, by name or number, or the speaker, by name; where left out, what the model's training held out. */
  readonly fold?: string;
  /** Opens it also where the model was trained on some of it. */
  readonly anyway?: boolean;
  /** Told what is wrong with the corpus where that may be why there is no such session. */
  readonly onNote: (line: string) => void;
}

export interface Test {
  readonly examined: Examined;
  readonly fold: Fold;
  /** How much of it the model was trained on. */
  readonly training: TrainingOverlap;
  /** Those of a generated corpus. */
  readonly baselines?: Baselines;
}

/**
 * Reads the corpus and compares its clips with those that the model was trained on. Throws an ArgumentError where there is no
 * such session or speaker, an Error where nothing of it can be used, or where the model was trained on some of it, unless `anyway`.
 */
export async function openTest(
  host: Host,
  { path, speech, emotion }: Pick<EmotionModel, "path" | "speech"> & Partial<Pick<EmotionModel, "emotion">>,
  { data, corpus: layout, fold: given, anyway = false, onNote }: TestOptions,
): Promise<Test> {
  const record = await readProvenance(host, path);
  const corpus = await readCorpus(host, data, layout);
  const examined = await examine(host, corpus, { encoder: speech, ctc: emotion?.lstm?.las === undefined });
  const wanted = given ?? heldOutSession(record, path, corpus);
  let fold: Fold;
  try {
    const name = chooseHeldOut(wanted, corpus, examined, "evaluate");
    fold = foldOf(examined.utterances, name, { dev: 0 });
  } catch (error) {
    reportProblems(examined.problems, corpus.root, onNote);
    throw error;
  }
  const heard = heardLine(fold);
  if (heard !== undefined) onNote(heard);
  if (!corpus.transcribed) onNote(`${corpus.name} has no transcripts: a word error rate on it means nothing`);
  const training = await trainingOverlap(host, record, fold, examined.utterances);
  if (!anyway) refuseTrainedOn(path, fold, training);
  return { examined, fold, training, baselines: await readBaselines(host, corpus.root) };
}

/** The session that a model is tested on. */
import type { Host } from "../../host/host.ts";
import { type Examined, examine } from "../corpora/examine.ts";
import type { Fold } from "../corpora/folds.ts";
import { chooseHeldOut, foldOf, reportProblems } from "../corpora/held_out.ts";
import { readIemocap } from "../corpora/iemocap.ts";
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
  { data, fold: given, anyway = false, onNote }: TestOptions,
): Promise<Test> {
  const record = await readProvenance(host, path);
  const corpus = await readIemocap(host, data);
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
  const training = await trainingOverlap(host, record, fold, examined.utterances);
  if (!anyway) refuseTrainedOn(path, fold, training);
  return { examined, fold, training, baselines: await readBaselines(host, corpus.root) };
}

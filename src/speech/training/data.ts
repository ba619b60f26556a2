/** The data of a run, and its identity: hashes that tell on resuming whether recipe and data are still the same. */
import type { Utterance } from "../corpora/corpus.ts";
import type { Examined } from "../corpora/examine.ts";
import type { Fold } from "../corpora/folds.ts";
import { hash, type Identity } from "../../train/state.ts";
import type { TrainConfig } from "../recipes/config.ts";
import { formerNames } from "../recipes/former_names.ts";

/** The corpus of a run, and the fold that it trains on. */
export interface TrainData {
  /** The usable utterances. */
  readonly examined: Examined;
  /** Their split. */
  readonly fold: Fold;
}

/** The utterances that a run trains on, and its dev set. */
export interface Split {
  readonly train: readonly Utterance[];
  readonly dev: readonly Utterance[];
}

/**
 * The session that a config of version 0.1 holds out: `fold` is its place, from 1, among the sessions with a usable
 * utterance, sorted as text. Undefined beyond their number.
 */
export const numberedSession = (fold: number, utterances: readonly Utterance[]): string | undefined =>
  [...new Set(utterances.map((u) => u.session))].sort()[fold - 1];

/** The training and dev utterances of the fold, without those too long to train on. Throws where none is left. */
export function split(config: TrainConfig, data: TrainData | undefined): Split {
  if (config.stages.every((stage) => stage === 0)) return { train: [], dev: [] };
  if (!data) throw new Error("Cannot train on speech without a corpus");
  const { fold, examined } = data;
  const train = fold.train.filter((u) => !examined.notForTraining.has(u.id));
  if (train.length === 0)
    throw new RangeError(
      `Cannot train on ${config.data}: none of ${examined.utterances.length} utterances is left to learn from, with maxSeconds ${config.maxSeconds} and dev ${config.dev}`,
    );
  return { train, dev: fold.dev };
}

/** Hashes of recipe and data. Keys are hashed under their names of version 0.1, so that its runs can be resumed. */
export async function identify(config: TrainConfig, examined: Examined | undefined): Promise<Identity> {
  const { data: _folder, corpus: _layout, from: _folders, ...recipe } = formerNames(config);
  const content = examined && contentOf(examined.utterances);
  return { recipe: await hash(recipe), data: await hash([content, [...(examined?.notForTraining ?? [])]]) };
}

/** What identifies a corpus: equal for equal utterances, wherever they are stored. */
export const contentOf = (utterances: Examined["utterances"]) =>
  utterances.map(({ id, label, words, seconds }) => [id, label, words, seconds]);

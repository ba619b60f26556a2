/** What a run learns from, and which run it is, wherever its corpus and checkpoints lie. */
import type { Utterance } from "../corpora/corpus.ts";
import type { Examined } from "../corpora/examine.ts";
import type { Fold } from "../corpora/folds.ts";
import { hash, type Identity } from "../../train/state.ts";
import type { TrainConfig } from "../recipes/config.ts";
import { formerNames } from "../recipes/former_names.ts";

export interface TrainData {
  readonly examined: Examined;
  readonly fold: Fold;
}

export interface Split {
  readonly train: readonly Utterance[];
  readonly dev: readonly Utterance[];
}

/**
 * The session that a config of version 0.1 holds out: its number was a place in the list of sessions sorted as text, of
 * those with an utterance that can be used. Undefined beyond the list.
 */
export const numberedSession = (fold: number, utterances: readonly Utterance[]): string | undefined =>
  [...new Set(utterances.map((u) => u.session))].sort()[fold - 1];

/** Utterances of the fold that are fit to learn from, and those that choose the epoch. Throws where none is left. */
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

/** A run of version 0.1 is still itself: hashes are of the keys as they were named then. */
export async function identify(config: TrainConfig, examined: Examined | undefined): Promise<Identity> {
  const { data: _corpus, from: _folders, ...recipe } = formerNames(config);
  const content = examined && contentOf(examined.utterances);
  return { recipe: await hash(recipe), data: await hash([content, [...(examined?.notForTraining ?? [])]]) };
}

/** Equal for corpora with the same utterances, wherever they lie. */
export const contentOf = (utterances: Examined["utterances"]) =>
  utterances.map(({ id, label, words, seconds }) => [id, label, words, seconds]);

/** What a run is, wherever its corpus and the checkpoints that it started from lie. */
import { hash, type Identity } from "../../train/state.ts";
import type { Examined } from "../corpora/examine.ts";
import type { TrainConfig } from "../recipes/config.ts";
import { formerNames } from "../recipes/former_names.ts";

/** A run of version 0.1 is still itself: hashes are of the keys as they were named then. */
export async function identify(config: TrainConfig, examined: Examined | undefined): Promise<Identity> {
  const { data: _corpus, from: _folders, ...recipe } = formerNames(config);
  const content = examined && contentOf(examined.utterances);
  return { recipe: await hash(recipe), data: await hash([content, [...(examined?.notForTraining ?? [])]]) };
}

/** Equal for corpora with the same utterances, wherever they lie. */
export const contentOf = (utterances: Examined["utterances"]) =>
  utterances.map(({ id, label, words, seconds }) => [id, label, words, seconds]);

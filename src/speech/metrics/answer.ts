/** What a system answers to an utterance of a corpus, ready to be scored. */
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import type { Recognition } from "../system/recognizer.ts";

export interface UtteranceAnswer<U extends Utterance = Utterance> {
  readonly utterance: U;
  /** One for each of LABELS, adding up to 1. */
  readonly probabilities: readonly number[];
  /** Recognised words in capitals, as references are; absent where the system recognises none. */
  readonly hypothesis?: string;
}

/** Brings an answer into the order of LABELS; the system has these labels in any order. */
export function utteranceAnswer<U extends Utterance>(
  utterance: U,
  { transcript, probabilities }: Pick<Recognition, "transcript" | "probabilities">,
): UtteranceAnswer<U> {
  if (!probabilities) throw new Error(`Cannot score ${utterance.id}: the system names no emotion`);
  return {
    utterance,
    probabilities: LABELS.map((label) => probabilities[label]),
    hypothesis: transcript?.text.toUpperCase(),
  };
}

/** A system's answer to an utterance of a corpus, ready to be scored. */
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import type { Recognition } from "../system/recognizer.ts";
import { type Edits, wordEdits } from "./wer.ts";

/** The answer to one utterance. */
export interface UtteranceAnswer<U extends Utterance = Utterance> {
  /** The utterance, with its reference transcript and label. */
  readonly utterance: U;
  /** Of each of LABELS; they add up to 1. */
  readonly probabilities: readonly number[];
  /** Recognised words in upper case, as references are; absent where the system recognises none. */
  readonly hypothesis?: string;
  /** Means of the gates over frames and subwords, the weight of the own modality against the other; absent where there are none. */
  readonly gates?: Recognition["gates"];
}

/** The answer in the order of LABELS, which the system may have in any order. Throws where it has no probabilities. */
export function utteranceAnswer<U extends Utterance>(
  utterance: U,
  { transcript, probabilities, gates }: Pick<Recognition, "transcript" | "probabilities" | "gates">,
): UtteranceAnswer<U> {
  if (!probabilities) throw new Error(`Cannot score ${utterance.id}: the system names no emotion`);
  return {
    utterance,
    probabilities: LABELS.map((label) => probabilities[label]),
    hypothesis: transcript?.text.toUpperCase(),
    gates,
  };
}

/** Means of the gates of some answers; undefined where one has none. */
export function meanGates(answers: readonly UtteranceAnswer[]): UtteranceAnswer["gates"] {
  const gates = answers.flatMap((answer) => answer.gates ?? []);
  if (gates.length === 0 || gates.length < answers.length) return undefined;
  const mean = (side: "acoustic" | "text") => gates.reduce((sum, each) => sum + each[side], 0) / gates.length;
  return { acoustic: mean("acoustic"), text: mean("text") };
}

/** Word edits of each answer; undefined where the system recognises no words. */
export function editsOf(answers: readonly UtteranceAnswer[]): Edits[] | undefined {
  const edits = answers.flatMap(({ utterance, hypothesis }) =>
    hypothesis === undefined ? [] : [wordEdits({ reference: utterance.words, hypothesis })],
  );
  return edits.length === answers.length ? edits : undefined;
}

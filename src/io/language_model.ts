/**
 * A language model that CTC decoding weighs in, as pyctcdecode does: a text is worth its log probability by the speech, and for
 * every word α·ln P(word | words before) + β.
 */

import type { Host } from "../host/host.ts";
import type { PrefixScorer } from "./beam.ts";
import type { LanguageModelFiles, LanguageModelWeights } from "./language_model_files.ts";
import { type NgramModel, readArpa } from "./ngram_model.ts";
import type { CtcVocabulary } from "./vocabulary.ts";

/** Characters of a usual word: the offset of an open word that is longer grows with it. */
const USUAL_LENGTH = 6;

/** A text that is being written. */
interface TextState {
  /** The words that the next one depends on. */
  readonly context: readonly string[];
  /** The characters after the last complete word. */
  readonly open: string;
  /** What the complete words are worth. */
  readonly complete: number;
  /** What all of it is worth. */
  readonly score: number;
}

/** An n-gram model of words, and its weight. */
export class LanguageModel {
  /** The words and their probabilities. */
  readonly ngrams: NgramModel;
  /** How it is weighed. */
  readonly weights: LanguageModelWeights;
  /** How many words have each character. */
  readonly #characters: ReadonlyMap<string, number>;

  /** `weights` that are left out are the defaults. */
  constructor(ngrams: NgramModel, weights: Partial<LanguageModelWeights> = {}) {
    const { alpha = 0.5, beta = 1.5, unkScoreOffset = -10, scoreBoundary = true } = weights;
    this.ngrams = ngrams;
    this.weights = { alpha, beta, unkScoreOffset, scoreBoundary };
    const characters = new Map<string, number>();
    for (const word of ngrams.words)
      for (const character of new Set(word)) characters.set(character, (characters.get(character) ?? 0) + 1);
    this.#characters = characters;
  }

  /**
   * What the prefixes of a search over these characters are worth. They are taken as they are, or in lower or upper case, where that
   * is the case of more of the model's words. Throws a RangeError where the vocabulary has no space between words, and where the
   * model's words have none of its characters.
   */
  scorer(vocabulary: CtcVocabulary): PrefixScorer<TextState> {
    const { ngrams, weights } = this;
    const { alpha, beta, unkScoreOffset, scoreBoundary } = weights;
    const { delimiter } = vocabulary;
    if (delimiter === undefined)
      throw new RangeError("Cannot weigh a language model in: the vocabulary has no space between words");
    const tokens = this.#cased(
      vocabulary.tokens.map((token, id) => (vocabulary.isSpecial(id) || id === delimiter ? "" : token)),
    );
    const worth = (log10: number) => alpha * Math.LN10 * log10;
    const complete = ({ context, open, complete: before }: TextState): TextState => {
      const offset = ngrams.has(open) ? 0 : unkScoreOffset;
      const sum = before + worth(ngrams.logProbability(context, open) + offset) + beta;
      const words = ngrams.order > 1 ? [...context, open].slice(1 - ngrams.order) : [];
      return { context: words, open: "", complete: sum, score: sum };
    };
    return {
      separator: delimiter,
      start: { context: scoreBoundary ? ["<s>"] : [], open: "", complete: 0, score: 0 },
      extend(state, label) {
        if (label === delimiter) return complete(state);
        if (tokens[label] === "") return state;
        const open = state.open + tokens[label];
        const penalty = ngrams.hasPrefix(open) ? 0 : unkScoreOffset * Math.max(1, open.length / USUAL_LENGTH);
        return { ...state, open, score: state.complete + penalty };
      },
      score: ({ score }) => score,
      final(state) {
        const { context, score } = state.open === "" ? state : complete(state);
        return scoreBoundary ? score + worth(ngrams.logProbability(context, "</s>")) : score;
      },
    };
  }

  /** The characters in the case of more of the words. */
  #cased(tokens: readonly string[]): readonly string[] {
    const found = (all: readonly string[]) =>
      all.reduce((sum, token) => sum + (this.#characters.get(token) ?? 0), 0);
    const cases = [tokens, tokens.map((t) => t.toLowerCase()), tokens.map((t) => t.toUpperCase())];
    const best = cases.reduce((most, each) => (found(each) > found(most) ? each : most));
    if (found(best) > 0) return best;
    throw new RangeError(
      "Cannot weigh a language model in: its words have none of the vocabulary's characters",
    );
  }
}

/** Reads a language model. Throws one line that names the file. */
export async function readLanguageModel(
  host: Host,
  { path, weights }: LanguageModelFiles,
): Promise<LanguageModel> {
  return new LanguageModel(await readArpa(host, path), weights);
}

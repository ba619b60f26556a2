/**
 * A language model that CTC decoding weighs in, as pyctcdecode does: a text is worth its log probability by the speech, and for
 * every word α·ln P(word | words before) + β.
 */

import * as v from "valibot";
import type { Host } from "../host/host.ts";
import type { PrefixScorer } from "./beam.ts";
import { type NgramModel, readArpa } from "./ngram_model.ts";
import { object, readOptionalJsonAs } from "./schema.ts";
import type { CtcVocabulary } from "./vocabulary.ts";

/** How a language model is weighed, by pyctcdecode's names and defaults. */
export interface LanguageModelWeights {
  /** Weight of ln P. Default 0.5. */
  readonly alpha: number;
  /** What a word is worth, as every word makes P smaller. Default 1.5. */
  readonly beta: number;
  /** Added to log₁₀ P of a word that the model lacks; and, as it is, to an open word that none begins with. Default −10. */
  readonly unkScoreOffset: number;
  /** Whether a text begins with `<s>` and ends with `</s>`. Default true. */
  readonly scoreBoundary: boolean;
}

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
  /** As given, and the defaults. */
  readonly weights: LanguageModelWeights;
  readonly #cased: (text: string) => string;

  /** `weights` that are left out are the defaults. */
  constructor(ngrams: NgramModel, weights: Partial<LanguageModelWeights> = {}) {
    this.ngrams = ngrams;
    this.weights = { alpha: 0.5, beta: 1.5, unkScoreOffset: -10, scoreBoundary: true, ...weights };
    this.#cased = caseOf(ngrams.words);
  }

  /**
   * What the prefixes of a search over these characters are worth. They are taken in the case of the model's words, where all
   * have the same. Throws a RangeError where the vocabulary has no space between words.
   */
  scorer(vocabulary: CtcVocabulary): PrefixScorer<TextState> {
    const { ngrams, weights } = this;
    const { alpha, beta, unkScoreOffset, scoreBoundary } = weights;
    const { delimiter } = vocabulary;
    if (delimiter === undefined)
      throw new RangeError("Cannot weigh a language model in: the vocabulary has no space between words");
    const tokens = vocabulary.tokens.map((token, id) => (vocabulary.isSpecial(id) ? "" : this.#cased(token)));
    const worth = (log10: number) => alpha * Math.LN10 * log10;
    const complete = ({ context, open, complete: before }: TextState): TextState => {
      const offset = ngrams.has(open) ? 0 : unkScoreOffset;
      const sum = before + worth(ngrams.logProbability(context, open) + offset) + beta;
      return { context: [...context, open].slice(1 - ngrams.order), open: "", complete: sum, score: sum };
    };
    return {
      start: { context: scoreBoundary ? ["<s>"] : [], open: "", complete: 0, score: 0 },
      extend(state, label) {
        if (label === delimiter) return state.open === "" ? state : complete(state);
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
}

/** To the only case that the words have, or to none. */
function caseOf(words: readonly string[]): (text: string) => string {
  if (words.every((word) => word === word.toLowerCase())) return (text) => text.toLowerCase();
  if (words.every((word) => word === word.toUpperCase())) return (text) => text.toUpperCase();
  return (text) => text;
}

/** Where a language model lies, and its weight. */
export interface LanguageModelFiles {
  /** The ARPA file. */
  readonly path: string;
  /** Those that are given. */
  readonly weights: Partial<LanguageModelWeights>;
}

/** attrs.json, as pyctcdecode writes it. `file`: a name for where a folder cannot be listed, as by a browser. */
const attributes = object({
  alpha: v.optional(v.pipe(v.number(), v.finite())),
  beta: v.optional(v.pipe(v.number(), v.finite())),
  unk_score_offset: v.optional(v.pipe(v.number(), v.finite())),
  score_boundary: v.optional(v.boolean()),
  file: v.optional(v.string()),
});

/**
 * Finds a language model: an ARPA file, or a folder with one and with pyctcdecode's `attrs.json`, by itself or as `language_model`
 * in a model folder. Throws one line where there is none.
 */
export async function findLanguageModel(host: Host, path: string): Promise<LanguageModelFiles> {
  if ((await host.kind(path)) === "file") return { path, weights: {} };
  const found = (await languageModelOf(host, path)) ?? (await languageModelIn(host, path));
  if ("path" in found) return found;
  const lacks = (await host.kind(path)) === undefined ? "there is no such file or folder" : found.lacks;
  throw new Error(`Cannot take ${path} as a language model: ${lacks}`);
}

/** The language model of a model folder; undefined where it has none. */
export async function languageModelOf(
  host: Host,
  model: string,
): Promise<LanguageModelFiles | { readonly lacks: string } | undefined> {
  const folder = `${model}/language_model`;
  return (await host.kind(`${folder}/attrs.json`)) === "file"
    ? await languageModelIn(host, folder)
    : undefined;
}

async function languageModelIn(
  host: Host,
  folder: string,
): Promise<LanguageModelFiles | { readonly lacks: string }> {
  const { file, unk_score_offset, score_boundary, ...rest } = await readOptionalJsonAs(
    host,
    `${folder}/attrs.json`,
    attributes,
  );
  const weights = {
    ...rest,
    ...(unk_score_offset === undefined ? {} : { unkScoreOffset: unk_score_offset }),
    ...(score_boundary === undefined ? {} : { scoreBoundary: score_boundary }),
  };
  if (file !== undefined) return { path: `${folder}/${file}`, weights };
  const names = (await host.kind(folder)) === "directory" ? await host.list(folder) : [];
  const arpa = names.filter((name) => name.toLowerCase().endsWith(".arpa"));
  if (arpa.length === 1) return { path: `${folder}/${arpa[0]}`, weights };
  const binary = names.find((name) => /\.(bin|binary|klm|trie)$/i.test(name));
  if (arpa.length > 1) return { lacks: `it holds ${arpa.length} ARPA files, expected one` };
  return {
    lacks: binary
      ? `${binary} is in a binary format of KenLM, which is not read: an ARPA file is, as lmplz writes it`
      : "it holds no ARPA file",
  };
}

/** Reads a language model. Throws one line that names the file. */
export async function readLanguageModel(
  host: Host,
  { path, weights }: LanguageModelFiles,
): Promise<LanguageModel> {
  return new LanguageModel(await readArpa(host, path), weights);
}

/**
 * A language model that CTC decoding weighs in, as pyctcdecode does: a text is worth its log probability by the speech, and for
 * every word α·ln P(word | words before) + β.
 */

import * as v from "valibot";
import type { Host } from "../host/host.ts";
import type { PrefixScorer } from "./beam.ts";
import { KENLM, type NgramModel, readArpa } from "./ngram_model.ts";
import { object, parse, readJsonAs } from "./schema.ts";
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

/** Where a language model lies, and its weight. */
export interface LanguageModelFiles {
  /** The ARPA file. */
  readonly path: string;
  /** Others are the defaults. */
  readonly weights: Partial<LanguageModelWeights>;
}

/** attrs.json, as pyctcdecode writes it. `file`: a name for where a folder cannot be listed, as by a browser. */
const attributes = object({
  alpha: v.optional(v.pipe(v.number(), v.finite())),
  beta: v.optional(v.pipe(v.number(), v.finite())),
  unk_score_offset: v.optional(v.pipe(v.number(), v.finite())),
  score_boundary: v.optional(v.boolean()),
  file: v.optional(v.pipe(v.string(), v.regex(/^[\w-][\w.-]*$/, "the name of a file beside it"))),
});

/** Why a folder has no language model that is of use. */
interface Unusable {
  readonly why: string;
}

/**
 * Finds a language model: an ARPA file, or a folder with one and with pyctcdecode's `attrs.json`, by itself or as `language_model`
 * in a model folder. Throws one line where there is none.
 */
export async function findLanguageModel(host: Host, path: string): Promise<LanguageModelFiles> {
  const kind = await host.kind(path);
  if (kind === "file") return { path, weights: {} };
  const found =
    (await languageModelIn(host, `${path}/language_model`)) ?? (await languageModelIn(host, path));
  if (found && "path" in found) return found;
  const why = found?.why ?? (kind ? "it holds no ARPA file" : "there is no such file or folder");
  throw new Error(`Cannot take ${path} as a language model: ${why}`);
}

/** The language model of a model folder, or why it is of no use; undefined where it has none. */
export async function languageModelOf(
  host: Host,
  model: string,
): Promise<LanguageModelFiles | Unusable | undefined> {
  try {
    return await languageModelIn(host, `${model}/language_model`);
  } catch (error) {
    return { why: (error as Error).message };
  }
}

async function languageModelIn(
  host: Host,
  folder: string,
): Promise<LanguageModelFiles | Unusable | undefined> {
  const names = await listed(host, folder);
  const source = `${folder}/attrs.json`;
  const described = names ? names.includes("attrs.json") : (await host.kind(source)) === "file";
  const { file, unk_score_offset, score_boundary, alpha, beta } = described
    ? await readJsonAs(host, source, attributes)
    : parse(attributes, {}, source);
  const weights = { alpha, beta, unkScoreOffset: unk_score_offset, scoreBoundary: score_boundary };
  if (file !== undefined) {
    const path = `${folder}/${file}`;
    return (await host.kind(path)) === "file"
      ? { path, weights }
      : { why: `attrs.json names ${file}, which is not there` };
  }
  if (!names)
    return described
      ? { why: "attrs.json does not name its file, and the folder cannot be listed" }
      : undefined;
  const arpa = names.filter((name) => /\.arpa(\.gz)?$/i.test(name));
  if (arpa.length === 1) return { path: `${folder}/${arpa[0]}`, weights };
  if (arpa.length > 1) return { why: `it holds ${arpa.length} ARPA files, expected one` };
  const binary = names.find(
    (name) => /\.(bin|binary|klm|trie)$/i.test(name) && !name.startsWith("pytorch_model"),
  );
  if (binary) return { why: `${binary} is ${KENLM}` };
  return described ? { why: "it holds no ARPA file" } : undefined;
}

/** Names in a folder; undefined where there is none, or where it cannot be listed, as by a browser. */
async function listed(host: Host, folder: string): Promise<string[] | undefined> {
  if ((await host.kind(folder)) !== "directory") return undefined;
  return await host.list(folder).catch(() => undefined);
}

/** Reads a language model. Throws one line that names the file. */
export async function readLanguageModel(
  host: Host,
  { path, weights }: LanguageModelFiles,
): Promise<LanguageModel> {
  return new LanguageModel(await readArpa(host, path), weights);
}

/** The vocabulary of a CTC head, as Hugging Face's Wav2Vec2CTCTokenizer defines it. */

import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { readJson, readOptionalJson } from "./config.ts";
import { quote } from "./json.ts";
import { object, readOptionalJsonAs, record } from "./schema.ts";

/** The special tokens of a vocabulary. */
export interface CtcTokens {
  /** The blank of CTC. */
  pad: string;
  /** Stands for characters that the vocabulary lacks. */
  unknown: string;
  /** Stands for the space between words. */
  delimiter: string;
  /** Other tokens that are not text. */
  special: readonly string[];
  /** Whether text is decoded in lower case, whatever the case of the tokens. */
  lowerCase: boolean;
}

/** More tokens than any alphabet has; a larger id is an error, and would fill the memory. */
const MAX_TOKENS = 1_000_000;

const DEFAULTS: CtcTokens = {
  pad: "<pad>",
  unknown: "<unk>",
  delimiter: "|",
  special: ["<s>", "</s>"],
  lowerCase: false,
};

/** The tokens of a CTC head: mostly single characters. */
export class CtcVocabulary {
  /** Ids by token, as in `vocab.json`; the head may lack an output for some. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Ids of added tokens. */
  readonly added: Readonly<Record<string, number>>;
  /** The special tokens. */
  readonly names: CtcTokens;
  /** The text of each output of the head; empty where no token has its id. */
  readonly tokens: readonly string[];
  /** Id of the blank. */
  readonly blank: number;
  /** Id of the space between words; undefined where there is none. */
  readonly delimiter: number | undefined;
  readonly #ids: Map<string, number>;
  readonly #unknown: number | undefined;
  readonly #special: Set<number>;

  /**
   * `vocabulary`, `added`: ids by token. `outputs`: of the head, which may have more or fewer than there are tokens. Throws a
   * RangeError where the ids of `vocabulary` are not 0 to V−1, where two tokens have the same id or one has two, and where there
   * is no blank.
   */
  constructor(
    vocabulary: Readonly<Record<string, number>>,
    names: Partial<CtcTokens> = {},
    { added = {}, outputs }: { added?: Readonly<Record<string, number>>; outputs?: number } = {},
  ) {
    this.vocab = vocabulary;
    this.added = added;
    this.names = { ...DEFAULTS, ...names };
    const { pad, unknown, delimiter, special } = this.names;
    const all = merge(vocabulary, added);
    const size = outputs ?? largest(all.values(), -1) + 1;
    this.#ids = new Map([...all].filter(([, id]) => id < size));
    const tokens = new Array<string>(size).fill("");
    for (const [token, id] of this.#ids) tokens[id] = this.names.lowerCase ? token.toLowerCase() : token;
    this.tokens = tokens;
    const blank = all.get(pad);
    if (blank === undefined) throw new RangeError(`the blank ${quote(pad)} is missing`);
    this.blank = blank;
    this.delimiter = this.#ids.get(delimiter);
    this.#unknown = this.#ids.get(unknown);
    this.#special = new Set([pad, unknown, ...special].flatMap((token) => this.#ids.get(token) ?? []));
  }

  /** The same vocabulary for a head with so many outputs. */
  withOutputs(outputs: number): CtcVocabulary {
    return new CtcVocabulary(this.vocab, this.names, { added: this.added, outputs });
  }

  /** Fewest outputs of a head that has every token of `vocab.json` that is text. */
  get minOutputs(): number {
    const { pad, unknown, special } = this.names;
    const ids = Object.entries(this.vocab).filter(([token]) => ![pad, unknown, ...special].includes(token));
    return largest(
      ids.map(([, id]) => id + 1),
      0,
    );
  }

  /** Number of outputs of the head. */
  get size(): number {
    return this.tokens.length;
  }

  /** Whether an id is not text: blank, unknown, begin and end of a sentence, and outputs without a token. */
  isSpecial(id: number): boolean {
    return !this.tokens[id] || this.#special.has(id);
  }

  /**
   * Ids of a normalised text, one per character, of either case where the vocabulary has only one. Unknown characters become
   * `<unk>`. Throws a RangeError where the vocabulary has none.
   */
  encode(text: string): number[] {
    return [...text].map((character) => {
      const id =
        character === " "
          ? this.delimiter
          : (this.#ids.get(character) ??
            this.#ids.get(character.toUpperCase()) ??
            this.#ids.get(character.toLowerCase()));
      const found = id !== undefined && id !== this.blank ? id : this.#unknown;
      if (found !== undefined) return found;
      throw new RangeError(`Cannot encode ${quote(character)}: the vocabulary has neither it nor <unk>`);
    });
  }

  /** The text of ids in which repeats are collapsed; blanks and other special tokens are left out. */
  decode(ids: Iterable<number>): string {
    let text = "";
    for (const id of ids) {
      if (id === this.delimiter) text += " ";
      else if (!this.isSpecial(id)) text += this.tokens[id];
    }
    return text.replace(/ +/g, " ").trim();
  }
}

/** Math.max() takes its arguments on the stack, which a large vocabulary overflows. */
function largest(values: Iterable<number>, least: number): number {
  let most = least;
  for (const value of values) if (value > most) most = value;
  return most;
}

/** Ids by token of both, sorted by id. */
function merge(
  vocabulary: Readonly<Record<string, number>>,
  added: Readonly<Record<string, number>>,
): Map<string, number> {
  const all = new Map<string, number>();
  const owners = new Map<number, string>();
  const fresh = Object.entries(added).filter(([token]) => !Object.hasOwn(vocabulary, token));
  const count = Object.keys(vocabulary).length + fresh.length;
  const most = largest(
    fresh.map(([, id]) => id + 1),
    count,
  );
  for (const [token, id] of [...Object.entries(vocabulary), ...fresh]) {
    if (!Number.isInteger(id) || id < 0 || id >= most || most > MAX_TOKENS)
      throw new RangeError(`token ${quote(token)} has id ${id}, expected 0 to ${count - 1}`);
    const owner = owners.get(id);
    if (owner !== undefined)
      throw new RangeError(`tokens ${quote(owner)} and ${quote(token)} share the id ${id}`);
    owners.set(id, token);
    all.set(token, id);
  }
  for (const [token, id] of Object.entries(added))
    if (all.get(token) !== id)
      throw new RangeError(`token ${quote(token)} has id ${all.get(token)}, among the added tokens ${id}`);
  return new Map([...all].sort(([, a], [, b]) => a - b));
}

/** In Hugging Face's configs a token is a string or an object with its content. */
const token = v.pipe(
  v.union([v.string(), object({ content: v.string() })], "a token"),
  v.transform((given) => (typeof given === "string" ? given : given.content)),
);
const optionalToken = v.nullish(token);

const specialTokens = {
  pad_token: optionalToken,
  unk_token: optionalToken,
  bos_token: optionalToken,
  eos_token: optionalToken,
  cls_token: optionalToken,
  sep_token: optionalToken,
  mask_token: optionalToken,
  word_delimiter_token: optionalToken,
};
const specialSchema = object(specialTokens);

/** The keys of tokenizer_config.json that are read, of Wav2Vec2CTCTokenizer and of BertTokenizer. */
export const tokenizerSchema = object({
  ...specialTokens,
  tokenizer_class: v.nullish(v.string()),
  added_tokens_decoder: v.nullish(record(token)),
  do_lower_case: v.nullish(v.boolean()),
  strip_accents: v.nullish(v.boolean()),
  tokenize_chinese_chars: v.nullish(v.boolean()),
  model_max_length: v.nullish(v.number()),
});

/** What is read of tokenizer_config.json. */
export type TokenizerConfig = v.InferOutput<typeof tokenizerSchema>;

/**
 * Opens the vocabulary of a Wav2Vec2CTCTokenizer: `vocab.json`, added tokens (`added_tokens.json`, and `added_tokens_decoder` in
 * `tokenizer_config.json`), and the special tokens by `tokenizer_config.json` or `special_tokens_map.json`. Throws one line that
 * names the file.
 */
export async function openCtcVocabulary(host: Host, folder: string): Promise<CtcVocabulary> {
  const path = `${folder}/vocab.json`;
  if ((await host.kind(path)) !== "file") {
    throw new Error(`Cannot open ${folder}: it holds no vocab.json, which the CTC decoder needs`);
  }
  const optional = <S extends v.GenericSchema>(name: string, schema: S) =>
    readOptionalJsonAs(host, `${folder}/${name}`, schema);
  let config = await optional("tokenizer_config.json", tokenizerSchema);
  // In a folder with both encoders the file may be BERT's.
  if (/^Bert/.test(config.tokenizer_class ?? "")) config = {};
  const map = await optional("special_tokens_map.json", specialSchema);
  const vocabulary = await readJson(host, path);
  const added = {
    ...(await readOptionalJson(host, `${folder}/added_tokens.json`)),
    ...addedTokens(config.added_tokens_decoder ?? {}),
  };
  const named = (key: keyof typeof map) => config[key] ?? map[key];
  // By default the token that exists, in either spelling.
  const byDefault = (names: readonly string[]) =>
    names.find((name) => Object.hasOwn(vocabulary, name) || Object.hasOwn(added, name)) ?? names[0];
  const names: CtcTokens = {
    pad: named("pad_token") ?? byDefault(["<pad>", "[PAD]"]),
    unknown: named("unk_token") ?? byDefault(["<unk>", "[UNK]"]),
    delimiter: named("word_delimiter_token") ?? DEFAULTS.delimiter,
    special: [named("bos_token") ?? "<s>", named("eos_token") ?? "</s>"],
    lowerCase: isCtc(config) && config.do_lower_case === true,
  };
  try {
    for (const [token, id] of Object.entries({ ...vocabulary, ...added })) {
      if (typeof id !== "number") throw new TypeError(`token ${quote(token)} has no number as id`);
    }
    const ids = vocabulary as Record<string, number>;
    const read = new CtcVocabulary(ids, names, { added: added as Record<string, number> });
    if (read.minOutputs === 0) throw new RangeError("it holds no token that is text");
    return read;
  } catch (cause) {
    throw new RangeError(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** `added_tokens_decoder` has tokens by id. */
const addedTokens = (decoder: Readonly<Record<string, string>>): Record<string, number> =>
  Object.fromEntries(Object.entries(decoder).map(([id, token]) => [token, Number(id)]));

/** Whether tokenizer_config.json is of a CTC tokenizer; in model folders of version 0.1 it is BERT's. */
const isCtc = (config: TokenizerConfig) =>
  /^Wav2Vec2/.test(config.tokenizer_class ?? "") || config.word_delimiter_token !== undefined;

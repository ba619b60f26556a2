/** The characters of a CTC head, as `vocab.json` and Hugging Face's Wav2Vec2CTCTokenizer define them. */

import type { Host } from "../host/host.ts";
import { isObject, readJson } from "./config.ts";
import { quote } from "./json.ts";

export interface CtcTokens {
  /** CTC's blank. */
  pad: string;
  unknown: string;
  /** Stands for the space between words. */
  delimiter: string;
  /** Others that are no text. */
  special: readonly string[];
}

const DEFAULTS: CtcTokens = { pad: "<pad>", unknown: "<unk>", delimiter: "|", special: ["<s>", "</s>"] };

export class CtcVocabulary {
  /** Token of each id. */
  readonly tokens: readonly string[];
  readonly blank: number;
  /** Absent where the vocabulary has no spaces. */
  readonly delimiter: number | undefined;
  readonly #ids: Map<string, number>;
  readonly #unknown: number | undefined;
  readonly #special: Set<number>;

  /** Throws a RangeError if the ids are not 0 to V−1, each once, or if there is no blank. */
  constructor(vocabulary: Readonly<Record<string, number>>, names: Partial<CtcTokens> = {}) {
    const { pad, unknown, delimiter, special } = { ...DEFAULTS, ...names };
    const tokens: string[] = [];
    const entries = Object.entries(vocabulary);
    for (const [token, id] of entries) {
      if (!Number.isInteger(id) || id < 0 || id >= entries.length) {
        throw new RangeError(`token ${quote(token)} has id ${id}, expected 0 to ${entries.length - 1}`);
      }
      if (tokens[id] !== undefined) {
        throw new RangeError(`tokens ${quote(tokens[id])} and ${quote(token)} share the id ${id}`);
      }
      tokens[id] = token;
    }
    this.tokens = tokens;
    this.#ids = new Map(entries);
    const blank = this.#ids.get(pad);
    if (blank === undefined) throw new RangeError(`the blank ${quote(pad)} is missing`);
    this.blank = blank;
    this.delimiter = this.#ids.get(delimiter);
    this.#unknown = this.#ids.get(unknown);
    this.#special = new Set([pad, unknown, ...special].flatMap((token) => this.#ids.get(token) ?? []));
  }

  get size(): number {
    return this.tokens.length;
  }

  /** Blank, unknown and sentence marks: they stand for no character. */
  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  /**
   * Ids of a normalised text, one a character; the other case serves where the vocabulary lacks one. Unknown
   * characters become `<unk>`; a RangeError where there is none.
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

  /** The text of labels (blanks and repeats already collapsed). */
  text(ids: Iterable<number>): string {
    let text = "";
    for (const id of ids) {
      if (id === this.delimiter) text += " ";
      else if (!this.isSpecial(id)) text += this.tokens[id];
    }
    return text.replace(/ +/g, " ").trim();
  }
}

/** Reads `vocab.json`, and the names of the special tokens from `tokenizer_config.json` where that exists. */
export async function openCtcVocabulary(host: Host, folder: string): Promise<CtcVocabulary> {
  const path = `${folder}/vocab.json`;
  if ((await host.kind(path)) !== "file") {
    throw new Error(`Cannot open ${folder}: it holds no vocab.json, which the CTC decoder needs`);
  }
  const configPath = `${folder}/tokenizer_config.json`;
  const config = (await host.kind(configPath)) === "file" ? await readJson(host, configPath) : {};
  const names: Partial<CtcTokens> = {
    pad: tokenName(config.pad_token) ?? DEFAULTS.pad,
    unknown: tokenName(config.unk_token) ?? DEFAULTS.unknown,
    delimiter: tokenName(config.word_delimiter_token) ?? DEFAULTS.delimiter,
    special: [tokenName(config.bos_token) ?? "<s>", tokenName(config.eos_token) ?? "</s>"],
  };
  const vocabulary = await readJson(host, path);
  try {
    for (const [token, id] of Object.entries(vocabulary)) {
      if (typeof id !== "number") throw new TypeError(`token ${quote(token)} has no number as id`);
    }
    return new CtcVocabulary(vocabulary as Record<string, number>, names);
  } catch (cause) {
    throw new RangeError(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** A token in a Hugging Face config is a string or an object with its content. */
export function tokenName(value: unknown): string | undefined {
  const name = isObject(value) ? value.content : value;
  return typeof name === "string" ? name : undefined;
}

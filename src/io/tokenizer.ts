/** BERT's tokenizer, through npm `tokenizers`: the code that Hugging Face itself runs. */

import type { Tokenizer } from "tokenizers";
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { readUtf8 } from "./encoding.ts";
import { quote } from "./json.ts";
import { object, readOptionalJsonAs } from "./schema.ts";
import { type TokenizerConfig, tokenizerSchema } from "./vocabulary.ts";

// Loaded with the first tokenizer: its native code would be a sixth of the time that this package takes to load.
type Library = typeof import("tokenizers");

export interface BertEncoding {
  /** With [CLS] before and [SEP] behind. */
  ids: number[];
  tokens: string[];
}

export interface BertTokenizer {
  /** The file that it was read from. */
  readonly path: string;
  /** The last line of its vocab.txt does not end, as if the file were cut off. */
  readonly endsAbruptly: boolean;
  readonly vocabularySize: number;
  /** Longest encoding, special tokens included; longer texts lose their end. */
  readonly maxLength: number;
  readonly padId: number;
  encode(text: string): Promise<BertEncoding>;
}

const modelSchema = object({
  max_position_embeddings: v.nullish(v.number()),
  model_type: v.nullish(v.string()),
});

/** Where BERT's tokenizer lies in a folder: in `bert/` beside a speech encoder's, which has files of the same names. */
export async function bertTokenizerFolder(host: Host, folder: string): Promise<string> {
  for (const name of ["tokenizer.json", "vocab.txt"])
    if ((await host.kind(`${folder}/bert/${name}`)) === "file") return `${folder}/bert`;
  return folder;
}

/**
 * Reads `tokenizer.json`, or else `vocab.txt`; `tokenizer_config.json` and `config.json` where they exist; all of them
 * in `bert/` where the folder has one with a tokenizer.
 * Throws one line that names the file if none is there or one is damaged.
 */
export async function openBertTokenizer(host: Host, whole: string): Promise<BertTokenizer> {
  const folder = await bertTokenizerFolder(host, whole);
  const optional = <S extends v.GenericSchema>(name: string, schema: S) =>
    readOptionalJsonAs(host, `${folder}/${name}`, schema);
  const config = await optional("tokenizer_config.json", tokenizerSchema);
  const { max_position_embeddings: positions, model_type: family } = await optional(
    "config.json",
    modelSchema,
  );
  const limits = [config.model_max_length, positions].filter(
    (limit): limit is number => limit != null && limit > 2 && limit < 1e6, // 1e30 means "none" there
  );
  const maxLength = limits.length > 0 ? Math.min(...limits) : 512;

  const { tokenizer, path, endsAbruptly } = await openTokenizer(host, folder, config);
  tokenizer.setTruncation(maxLength);
  tokenizer.disablePadding();
  const [first] = (await tokenizer.encode("")).getTokens();
  if (first === "<s>" && typeof family !== "string")
    throw new SyntaxError(
      `Cannot open ${folder}: its tokenizer begins a text with <s>, as that of a RoBERTa model, BERT's [CLS] expected`,
    );
  return {
    ...{ path, endsAbruptly, maxLength },
    vocabularySize: tokenizer.getVocabSize(true),
    padId: tokenizer.tokenToId(config.pad_token ?? "[PAD]") ?? 0,
    async encode(text) {
      const encoding = await tokenizer.encode(text);
      return { ids: encoding.getIds(), tokens: encoding.getTokens() };
    },
  };
}

async function openTokenizer(
  host: Host,
  folder: string,
  config: TokenizerConfig,
): Promise<{ tokenizer: Tokenizer; path: string; endsAbruptly: boolean }> {
  const library = await import("tokenizers");
  const json = `${folder}/tokenizer.json`;
  if ((await host.kind(json)) === "file") {
    const text = await readUtf8(host, json);
    try {
      return { tokenizer: library.Tokenizer.fromString(text), path: json, endsAbruptly: false };
    } catch (cause) {
      throw new SyntaxError(`Cannot read ${json}: ${(cause as Error).message.split("\n", 1)[0]}`, { cause });
    }
  }
  const list = `${folder}/vocab.txt`;
  if ((await host.kind(list)) === "file") {
    const text = await readUtf8(host, list);
    return {
      tokenizer: fromVocabulary(library, text, list, config),
      path: list,
      endsAbruptly: !text.endsWith("\n"),
    };
  }
  throw new Error(`Cannot open ${folder}: it holds neither tokenizer.json nor vocab.txt, which BERT needs`);
}

/** The pipeline of BertTokenizerFast. `text` has one token a line; its line is its id. */
function fromVocabulary(library: Library, text: string, path: string, config: TokenizerConfig): Tokenizer {
  const { bertNormalizer, bertPreTokenizer, bertProcessing, Tokenizer, WordPiece } = library;
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  const vocabulary: Record<string, number> = Object.create(null); // a token may be __proto__
  for (const [id, token] of lines.entries()) {
    if (Object.hasOwn(vocabulary, token)) {
      throw new SyntaxError(
        `Cannot read ${path}: ${quote(token)} stands on lines ${vocabulary[token] + 1} and ${id + 1}`,
      );
    }
    vocabulary[token] = id;
  }
  const special = (name: "unk_token" | "cls_token" | "sep_token", usual: string) => {
    const token = config[name] ?? usual;
    if (!Object.hasOwn(vocabulary, token)) throw new SyntaxError(`Cannot read ${path}: it lacks ${token}`);
    return token;
  };
  const unkToken = special("unk_token", "[UNK]");
  const cls = special("cls_token", "[CLS]");
  const sep = special("sep_token", "[SEP]");
  const others = [config.pad_token ?? "[PAD]", config.mask_token ?? "[MASK]"];

  const tokenizer = new Tokenizer(
    WordPiece.init(vocabulary, { unkToken, continuingSubwordPrefix: "##", maxInputCharsPerWord: 100 }),
  );
  tokenizer.setNormalizer(
    bertNormalizer({
      cleanText: true,
      handleChineseChars: config.tokenize_chinese_chars !== false,
      lowercase: config.do_lower_case !== false,
      // absent: accents go if case goes
      ...(typeof config.strip_accents === "boolean" ? { stripAccents: config.strip_accents } : {}),
    }),
  );
  tokenizer.setPreTokenizer(bertPreTokenizer());
  tokenizer.setPostProcessor(bertProcessing([sep, vocabulary[sep]], [cls, vocabulary[cls]]));
  tokenizer.addSpecialTokens([
    unkToken,
    cls,
    sep,
    ...others.filter((token) => Object.hasOwn(vocabulary, token)),
  ]);
  return tokenizer;
}

/** BERT's tokenizer, by Hugging Face's own implementation (npm tokenizers). */

import type { Tokenizer } from "tokenizers";
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { readUtf8 } from "./encoding.ts";
import { quote } from "./json.ts";
import { object, readOptionalJsonAs } from "./schema.ts";
import { type TokenizerConfig, tokenizerSchema } from "./vocabulary.ts";

// Loaded with the first tokenizer: its native code takes a sixth of the time that this package takes to load.
type Library = typeof import("tokenizers");

/** An encoded text, with [CLS] at the begin and [SEP] at the end. */
export interface BertEncoding {
  /** Token ids. */
  ids: number[];
  /** The tokens themselves. */
  tokens: string[];
}

/** A WordPiece tokenizer. */
export interface BertTokenizer {
  /** The file that it was read from. */
  readonly path: string;
  /** Whether the last line of its vocab.txt lacks a line end, as where the file is cut off. */
  readonly endsAbruptly: boolean;
  /** Number of tokens, added ones included. */
  readonly vocabularySize: number;
  /** Most tokens of an encoding, special tokens included; longer texts are truncated. */
  readonly maxLength: number;
  /** Id of the padding token. */
  readonly padId: number;
  /** Encodes one text. */
  encode(text: string): Promise<BertEncoding>;
}

const modelSchema = object({
  max_position_embeddings: v.nullish(v.number()),
  model_type: v.nullish(v.string()),
});

/** The folder of BERT's tokenizer: FOLDER/bert where that has one, as beside a speech encoder, else FOLDER itself. */
export async function bertTokenizerFolder(host: Host, folder: string): Promise<string> {
  for (const name of ["tokenizer.json", "vocab.txt"])
    if ((await host.kind(`${folder}/bert/${name}`)) === "file") return `${folder}/bert`;
  return folder;
}

/**
 * Opens the tokenizer of a folder, or of its `bert/`: `tokenizer.json`, else `vocab.txt`, with `tokenizer_config.json` and
 * `config.json` where they exist. Throws one line that names the file where there is none or one is damaged.
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
    (limit): limit is number => limit != null && limit > 2 && limit < 1e6, // transformers writes 1e30 for none
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

/** The pipeline of BertTokenizerFast from vocab.txt: one token per line, whose number is its id. */
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
      // absent: as lowercase
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

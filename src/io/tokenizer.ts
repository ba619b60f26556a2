/** BERT's tokenizer, by Hugging Face's own implementations. */

import * as v from "valibot";
import type { Host } from "../host/host.ts";
import { readUtf8 } from "./encoding.ts";
import { quote } from "./json.ts";
import { object, readOptionalJsonAs } from "./schema.ts";
import { type LoadedTokenizer, loadTokenizer } from "./tokenizer_library.ts";
import { type TokenizerConfig, tokenizerSchema } from "./vocabulary.ts";

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
  const [first] = (await tokenizer.encode("", maxLength)).tokens;
  if (first === "<s>" && typeof family !== "string")
    throw new SyntaxError(
      `Cannot open ${folder}: its tokenizer begins a text with <s>, as that of a RoBERTa model, BERT's [CLS] expected`,
    );
  return {
    ...{ path, endsAbruptly, maxLength },
    vocabularySize: tokenizer.vocabularySize,
    padId: tokenizer.idOf(config.pad_token ?? "[PAD]") ?? 0,
    encode: (text) => tokenizer.encode(text, maxLength),
  };
}

async function openTokenizer(
  host: Host,
  folder: string,
  config: TokenizerConfig,
): Promise<{ tokenizer: LoadedTokenizer; path: string; endsAbruptly: boolean }> {
  const json = `${folder}/tokenizer.json`;
  if ((await host.kind(json)) === "file") {
    const text = await readUtf8(host, json);
    try {
      return { tokenizer: await loadTokenizer(text), path: json, endsAbruptly: false };
    } catch (cause) {
      throw new SyntaxError(`Cannot read ${json}: ${(cause as Error).message.split("\n", 1)[0]}`, { cause });
    }
  }
  const list = `${folder}/vocab.txt`;
  if ((await host.kind(list)) === "file") {
    const text = await readUtf8(host, list);
    return {
      tokenizer: await loadTokenizer(fromVocabulary(text, list, config)),
      path: list,
      endsAbruptly: !text.endsWith("\n"),
    };
  }
  throw new Error(`Cannot open ${folder}: it holds neither tokenizer.json nor vocab.txt, which BERT needs`);
}

/** The tokenizer.json of BertTokenizerFast from vocab.txt: one token per line, whose number is its id. */
function fromVocabulary(text: string, path: string, config: TokenizerConfig): string {
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

  const tokens = new Set([unkToken, cls, sep, ...others.filter((token) => Object.hasOwn(vocabulary, token))]);
  return JSON.stringify({
    version: "1.0",
    added_tokens: [...tokens].map((content) => ({
      ...{ id: vocabulary[content], content, special: true },
      ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
    })),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: config.tokenize_chinese_chars !== false,
      // null: as lowercase
      strip_accents: typeof config.strip_accents === "boolean" ? config.strip_accents : null,
      lowercase: config.do_lower_case !== false,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: { type: "BertProcessing", sep: [sep, vocabulary[sep]], cls: [cls, vocabulary[cls]] },
    model: {
      type: "WordPiece",
      ...{ unk_token: unkToken, continuing_subword_prefix: "##", max_input_chars_per_word: 100 },
      vocab: vocabulary,
    },
  });
}

/** Config of the systems with LSTMs, `lstm` in config.json. */
import * as v from "valibot";
import { keysOf, mismatch, object, parse } from "../../io/schema.ts";
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import { extent } from "../../models/config.ts";
import { LAS_DECODER_KEYS, type LasConfig, lasConfig } from "../../models/las.ts";
import { LSTM_ENCODER_KEYS, type LstmEncoderConfig, lstmEncoderConfig } from "../../models/lstm_encoder.ts";

/**
 * "las": the encoder of a listen-attend-spell recogniser gives the emotion too. "las-hidden": an LSTM over the states of its decoder
 * does. "both": LSTMs over speech, and over words that a CTC recogniser of its own recognises.
 */
export type LstmKind = "las" | "las-hidden" | "both";

/** LSTMs over words. */
export interface WordEncoderConfig {
  /** word_vocab_size: subwords. */
  readonly vocabSize: number;
  /** word_embedding_size. */
  readonly embeddingSize: number;
  /** word_hidden_size: units of each direction. */
  readonly hiddenSize: number;
  /** max_tokens: most tokens of a text, [CLS] and [SEP] included. */
  readonly maxTokens: number;
  /** word_pad_token_id: its embedding is not trained. */
  readonly padTokenId: number;
}

/** Config of LstmEmotionRecognizer. */
export interface LstmSystemConfig {
  /** kind: which of the systems it is. */
  readonly kind: LstmKind;
  /** pooling: how frames, states and words are scored. */
  readonly pooling: "additive" | "dot";
  /** The encoder of speech. */
  readonly encoder: LstmEncoderConfig;
  /** The recogniser; absent of "both". */
  readonly las?: LasConfig;
  /** Of "both". */
  readonly words?: WordEncoderConfig;
  /** vocab_size: characters, and the blank of CTC among them. */
  readonly vocabSize: number;
  /** pad_token_id: the blank. */
  readonly blank: number;
}

const entries = {
  kind: v.picklist(["las", "las-hidden", "both"]),
  pooling: v.nullish(v.picklist(["additive", "dot"]), "additive"),
  vocab_size: extent(),
  pad_token_id: v.nullish(extent(0), 0),
};
const schema = object(entries);

const wordEntries = {
  word_vocab_size: extent(),
  word_embedding_size: extent(),
  word_hidden_size: extent(),
  max_tokens: v.nullish(extent(2), 64),
  word_pad_token_id: v.nullish(extent(0), 0),
};
const wordSchema = object(wordEntries);

/** The keys that lstmSystemConfig() reads of a system of this kind. */
export const lstmKeys = (kind: LstmKind): readonly string[] => [
  ...new Set([
    ...keysOf(schema),
    ...LSTM_ENCODER_KEYS,
    ...(kind === "both" ? keysOf(wordSchema) : LAS_DECODER_KEYS),
  ]),
];

/** Reads the config of a system; other keys are ignored. Throws a SyntaxError that names the key; `source` names the file. */
export function lstmSystemConfig(json: unknown, source: string): LstmSystemConfig {
  const c = parse(schema, json, source);
  const both = c.kind === "both";
  if (both && c.pad_token_id >= c.vocab_size)
    throw mismatch(source, "pad_token_id", c.pad_token_id, `below vocab_size, ${c.vocab_size}`);
  const las = both ? undefined : lasConfig(json, source);
  return {
    ...{ kind: c.kind, pooling: c.pooling, vocabSize: c.vocab_size, blank: c.pad_token_id, las },
    encoder: las?.encoder ?? lstmEncoderConfig(json, source),
    words: both ? wordConfig(json, source) : undefined,
  };
}

function wordConfig(json: unknown, source: string): WordEncoderConfig {
  const c = parse(wordSchema, json, source);
  if (c.word_pad_token_id >= c.word_vocab_size)
    throw mismatch(
      source,
      "word_pad_token_id",
      c.word_pad_token_id,
      `below word_vocab_size, ${c.word_vocab_size}`,
    );
  return {
    ...{ vocabSize: c.word_vocab_size, embeddingSize: c.word_embedding_size },
    ...{ hiddenSize: c.word_hidden_size, maxTokens: c.max_tokens, padTokenId: c.word_pad_token_id },
  };
}

/** The vocabulary with as many outputs as the recogniser. Throws where it lacks one for a token that is text, or has another blank. */
export function vocabularyOfLstm(
  { kind, vocabSize, blank }: LstmSystemConfig,
  source: string,
  vocabulary: CtcVocabulary,
): CtcVocabulary {
  const { minOutputs, blank: own } = vocabulary;
  if (vocabSize < minOutputs)
    throw mismatch(source, "vocab_size", vocabSize, `at least ${minOutputs}, for the tokens of vocab.json`);
  if (kind === "both" && blank !== own)
    throw mismatch(source, "pad_token_id", blank, `${own}, the id of the blank in vocab.json`);
  return vocabulary.withOutputs(vocabSize);
}

/** Throws where the tokenizer has more tokens than the embeddings of a system have rows, or another padding. */
export function checkWords(
  { words }: LstmSystemConfig,
  source: string,
  { vocabularySize, padId }: Pick<BertTokenizer, "vocabularySize" | "padId">,
): void {
  if (!words) return;
  if (words.vocabSize < vocabularySize)
    throw mismatch(
      source,
      "word_vocab_size",
      words.vocabSize,
      `at least ${vocabularySize}, the tokens of the tokenizer`,
    );
  if (words.padTokenId !== padId)
    throw mismatch(source, "word_pad_token_id", words.padTokenId, `${padId}, the id of its padding`);
}

/** What a config.json must say before a model can be built; names and meanings are Hugging Face's. */
import { isObject } from "../io/config.ts";
import { brief } from "../io/json.ts";
import type { CtcVocabulary } from "../io/vocabulary.ts";
import type { BertTokenizer } from "../io/tokenizer.ts";
import type { ActivationKind } from "../ops/activation.ts";
import { checkFamily, modelTypeOf } from "./family.ts";

type Json = Readonly<Record<string, unknown>>;

/** The largest extent that a kernel counts to. */
const MOST = 2 ** 31 - 1;

const ACTIVATIONS: Readonly<Record<string, ActivationKind>> = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  relu: "relu",
};

/** Reads typed values out of a config; every complaint names the file and the key. */
export class ConfigReader {
  readonly #json: Json;
  readonly #path: string;

  constructor(json: Json, path: string) {
    this.#json = json;
    this.#path = path;
  }

  has(key: string): boolean {
    return this.#json[key] !== undefined && this.#json[key] !== null;
  }
  number(key: string, fallback?: number): number {
    const value = this.#json[key] ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value)) throw this.complaint(key, "a number");
    return value;
  }
  /** What keeps a norm's division finite, also as an f32. */
  epsilon(key: string, fallback: number): number {
    const value = this.number(key, fallback);
    if (Math.fround(value) <= 0 || value > 1) throw this.complaint(key, "a number above 0, at most 1");
    return value;
  }
  /** A whole number from `least` to what a kernel counts to. */
  whole(key: string, fallback?: number, least = 1): number {
    const value = this.number(key, fallback);
    if (!Number.isInteger(value) || value < least || value > MOST)
      throw this.complaint(key, `a whole number from ${least} to ${MOST}`);
    return value;
  }
  /** A share from 0 up to, but not including, 1. */
  rate(key: string, fallback: number): number {
    const value = this.number(key, fallback);
    if (value < 0 || value >= 1) throw this.complaint(key, "a rate of 0 or more, less than 1");
    return value;
  }
  boolean(key: string, fallback: boolean): boolean {
    const value = this.#json[key] ?? fallback;
    if (typeof value !== "boolean") throw this.complaint(key, "true or false");
    return value;
  }
  choice<T extends string>(key: string, choices: readonly T[], fallback?: T): T {
    const value = (this.#json[key] ?? fallback) as T;
    if (!choices.includes(value)) throw this.complaint(key, `one of ${choices.join(", ")}`);
    return value;
  }
  wholes(key: string): number[] {
    const value = this.#json[key];
    const counts = (v: unknown) => Number.isInteger(v) && (v as number) >= 1 && (v as number) <= MOST;
    if (!Array.isArray(value) || value.length === 0 || !value.every(counts))
      throw this.complaint(key, `a list of whole numbers from 1 to ${MOST}`);
    return value;
  }
  activation(key: string): ActivationKind {
    return ACTIVATIONS[this.choice(key, Object.keys(ACTIVATIONS), "gelu")];
  }
  /** Names, none of them twice. */
  strings(key: string, fallback: readonly string[]): readonly string[] {
    const value = this.#json[key] ?? fallback;
    const named = (v: unknown) => typeof v === "string" && v !== "";
    if (!Array.isArray(value) || value.length === 0 || !value.every(named))
      throw this.complaint(key, "a list of names");
    if (new Set(value).size < value.length) throw this.complaint(key, "a list of names, none of them twice");
    return value;
  }
  /** How many classes the head has: the entries of id2label, else num_labels, else 2 as in Hugging Face. */
  labels(): number {
    if (!this.has("id2label")) return this.whole("num_labels", 2);
    const names = this.#json.id2label;
    const count = isObject(names) ? Object.keys(names).length : 0;
    if (count === 0) throw this.complaint("id2label", "an object with a name for every class");
    return count;
  }
  /** The part of the config under `key`. */
  part(key: string): ConfigReader {
    const value = this.#json[key];
    if (!isObject(value)) throw this.complaint(key, "an object");
    return new ConfigReader(value, `${this.#path} (${key})`);
  }
  /** The family of the model. Throws unless it is one of `wanted`; a config that names none is of the first. */
  family<T extends string>(wanted: readonly T[]): T {
    checkFamily(this.#json, this.#path, wanted);
    return (modelTypeOf(this.#json) as T | undefined) ?? wanted[0];
  }
  /** Hidden width and heads, which share it evenly. */
  widths(): { hiddenSize: number; heads: number } {
    const hiddenSize = this.whole("hidden_size");
    return { hiddenSize, heads: this.divisor("num_attention_heads", "hidden_size", hiddenSize) };
  }
  /** A whole number that divides `whole`, which is what `of` says. */
  divisor(key: string, of: string, whole: number, fallback?: number): number {
    const value = this.whole(key, fallback);
    if (whole % value !== 0) throw this.complaint(key, `a divisor of ${of}, ${whole}`);
    return value;
  }
  /** The id of one of `tokens` tokens. */
  token(key: string, tokens: number): number {
    const value = this.whole(key, 0, 0);
    if (value >= tokens) throw this.complaint(key, `below vocab_size, ${tokens}`);
    return value;
  }
  complaint(key: string, wanted: string): SyntaxError {
    return new SyntaxError(
      `Cannot use ${this.#path}: ${key} is ${brief(this.#json[key])} but should be ${wanted}`,
    );
  }
}

export interface HubertConfig {
  readonly prefix: "hubert" | "wav2vec2";
  readonly convDim: readonly number[];
  readonly convKernel: readonly number[];
  readonly convStride: readonly number[];
  readonly convBias: boolean;
  /** How fresh filters of the first convolution begin; ours, not Hugging Face's. */
  readonly convInit: "normal" | "gabor";
  /** "layer": layer norm after every convolution (LARGE). "group": one group norm after the first (BASE). */
  readonly featExtractNorm: "layer" | "group";
  readonly featExtractActivation: ActivationKind;
  readonly featProjLayerNorm: boolean;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediateSize: number;
  readonly hiddenAct: ActivationKind;
  readonly layerNormEps: number;
  /** True: norms before attention and feed-forward (LARGE). False: after (BASE). */
  readonly stableLayerNorm: boolean;
  readonly posKernel: number;
  readonly posGroups: number;
  readonly vocabSize: number;
  readonly blank: number;
  readonly ctcReduction: "mean" | "sum";
  readonly ctcZeroInfinity: boolean;
  readonly dropout: {
    readonly hidden: number;
    readonly attention: number;
    readonly activation: number;
    readonly featProj: number;
    readonly final: number;
    readonly layer: number;
  };
  /** `masked_spec_embed` is among the weights: of a config without masks it is not. */
  readonly maskEmbedding: boolean;
  readonly specAugment?: {
    readonly timeProb: number;
    readonly timeLength: number;
    readonly timeMin: number;
    readonly featureProb: number;
    readonly featureLength: number;
    readonly featureMin: number;
  };
}

export function hubertConfig(c: ConfigReader): HubertConfig {
  const prefix = c.family(["hubert", "wav2vec2"]);
  const convDim = c.wholes("conv_dim");
  const convKernel = c.wholes("conv_kernel");
  const convStride = c.wholes("conv_stride");
  if (convKernel.length !== convDim.length)
    throw c.complaint("conv_kernel", `a list of ${convDim.length} numbers, as conv_dim`);
  if (convStride.length !== convDim.length)
    throw c.complaint("conv_stride", `a list of ${convDim.length} numbers, as conv_dim`);
  if (c.boolean("conv_pos_batch_norm", false))
    throw c.complaint("conv_pos_batch_norm", "false: batch norm is not built");
  if (c.boolean("add_adapter", false)) throw c.complaint("add_adapter", "false: the adapter is not built");
  if (c.has("adapter_attn_dim"))
    throw c.complaint("adapter_attn_dim", "absent: attention adapters are not built");
  const { hiddenSize, heads } = c.widths();
  const vocabSize = c.whole("vocab_size", 32);
  const timeProb = c.rate("mask_time_prob", 0.05);
  const featureProb = c.rate("mask_feature_prob", 0);
  return {
    prefix,
    convDim,
    convKernel,
    convStride,
    convBias: c.boolean("conv_bias", false),
    convInit: c.choice("conv_init", ["normal", "gabor"], "normal"),
    featExtractNorm: c.choice("feat_extract_norm", ["layer", "group"], "group"),
    featExtractActivation: c.activation("feat_extract_activation"),
    featProjLayerNorm: prefix === "wav2vec2" || c.boolean("feat_proj_layer_norm", true),
    hiddenSize,
    layers: c.whole("num_hidden_layers"),
    heads,
    intermediateSize: c.whole("intermediate_size"),
    hiddenAct: c.activation("hidden_act"),
    layerNormEps: c.epsilon("layer_norm_eps", 1e-5),
    stableLayerNorm: c.boolean("do_stable_layer_norm", false),
    posKernel: c.whole("num_conv_pos_embeddings", 128),
    posGroups: c.divisor("num_conv_pos_embedding_groups", "hidden_size", hiddenSize, 16),
    vocabSize,
    blank: c.token("pad_token_id", vocabSize),
    ctcReduction: c.choice("ctc_loss_reduction", ["mean", "sum"], "sum"),
    ctcZeroInfinity: c.boolean("ctc_zero_infinity", false),
    dropout: {
      hidden: c.rate("hidden_dropout", 0.1),
      attention: c.rate("attention_dropout", 0.1),
      activation: c.rate("activation_dropout", 0.1),
      featProj: c.rate("feat_proj_dropout", 0),
      final: c.rate("final_dropout", 0.1),
      layer: c.rate("layerdrop", 0.1),
    },
    maskEmbedding: timeProb > 0 || featureProb > 0,
    specAugment: c.boolean("apply_spec_augment", true)
      ? {
          timeProb,
          timeLength: c.whole("mask_time_length", 10),
          timeMin: c.whole("mask_time_min_masks", 2, 0),
          featureProb,
          featureLength: c.whole("mask_feature_length", 10),
          featureMin: c.whole("mask_feature_min_masks", 0, 0),
        }
      : undefined,
  };
}

export interface BertConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediateSize: number;
  readonly hiddenAct: ActivationKind;
  readonly maxPositions: number;
  readonly typeVocabSize: number;
  readonly layerNormEps: number;
  readonly padTokenId: number;
  readonly numLabels: number;
  readonly dropout: { readonly hidden: number; readonly attention: number; readonly classifier: number };
}

export function bertConfig(c: ConfigReader): BertConfig {
  c.family(["bert"]);
  const { hiddenSize, heads } = c.widths();
  const vocabSize = c.whole("vocab_size");
  c.choice("position_embedding_type", ["absolute"], "absolute");
  if (c.boolean("is_decoder", false))
    throw c.complaint("is_decoder", "false: a decoder, which sees only what came before, is not built");
  const hidden = c.rate("hidden_dropout_prob", 0.1);
  return {
    vocabSize,
    hiddenSize,
    layers: c.whole("num_hidden_layers"),
    heads,
    intermediateSize: c.whole("intermediate_size"),
    hiddenAct: c.activation("hidden_act"),
    // [CLS] and [SEP] at least.
    maxPositions: c.whole("max_position_embeddings", 512, 2),
    typeVocabSize: c.whole("type_vocab_size", 2),
    layerNormEps: c.epsilon("layer_norm_eps", 1e-12),
    padTokenId: c.token("pad_token_id", vocabSize),
    numLabels: c.labels(),
    dropout: {
      hidden,
      attention: c.rate("attention_probs_dropout_prob", 0.1),
      classifier: c.rate("classifier_dropout", hidden),
    },
  };
}

/**
 * The vocabulary as the CTC head writes it, whose config `hubert` is. A head may have more outputs than there are tokens
 * (padding), and fewer than there are with added ones; it may not lack a letter, nor call another token its blank.
 */
export function vocabularyOfHead(hubert: ConfigReader, vocabulary: CtcVocabulary): CtcVocabulary {
  const { vocabSize, blank } = hubertConfig(hubert);
  if (vocabSize < vocabulary.letters)
    throw hubert.complaint("vocab_size", `at least ${vocabulary.letters}, for the tokens of vocab.json`);
  if (vocabulary.blank >= vocabSize)
    throw hubert.complaint("vocab_size", `above ${vocabulary.blank}, the id of the blank in vocab.json`);
  if (hubert.has("pad_token_id") && blank !== vocabulary.blank)
    throw hubert.complaint(
      "pad_token_id",
      `${vocabulary.blank}, the id of the blank ${brief(vocabulary.tokens[vocabulary.blank])} in vocab.json`,
    );
  return vocabulary.ofHead(vocabSize);
}

/** What vocab_size may be padded to a multiple of. */
const PADDINGS = [8, 16, 32, 64, 128];

/**
 * Throws unless BERT, whose config `bert` is, has a row for each of so many subwords, and no more than padding
 * explains: a vocabulary `from` a file that has fewer is cut off or another model's.
 */
export function checkSubwords(
  bert: ConfigReader,
  count: number,
  from?: Pick<BertTokenizer, "path" | "endsAbruptly">,
): void {
  const rows = bertConfig(bert).vocabSize;
  if (rows < count) throw bert.complaint("vocab_size", `at least ${count}, the tokens of BERT's tokenizer`);
  const padded = PADDINGS.some((unit) => rows % unit === 0 && rows - count < unit);
  if (!from || rows === count || (padded && !from.endsAbruptly)) return;
  const cut = from.endsAbruptly
    ? "it ends within a line, as if cut off"
    : "it is cut off or of another model";
  throw new RangeError(`Cannot use ${from.path}: it holds ${count} tokens but vocab_size is ${rows}; ${cut}`);
}

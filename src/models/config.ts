/** Configs of HuBERT, wav2vec 2.0 and BERT: config.json in Hugging Face's keys, with their meanings and defaults. */
import * as v from "valibot";
import { isObject } from "../io/config.ts";
import { brief } from "../io/json.ts";
import { keysOf, integer, mismatch, number, object, parse } from "../io/schema.ts";
import type { CtcVocabulary } from "../io/vocabulary.ts";
import type { BertTokenizer } from "../io/tokenizer.ts";
import type { ActivationKind } from "../ops/activation.ts";
import { familyOf, has } from "./family.ts";

type Json = Readonly<Record<string, unknown>>;

const ACTIVATIONS = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  relu: "relu",
} as const satisfies Readonly<Record<string, ActivationKind>>;

/** The largest extent that kernels support. */
const MAX_EXTENT = 2 ** 31 - 1;

/** A schema of extents. */
export const extent = (least = 1) => integer(least, MAX_EXTENT);

// v.nullish() throughout: older versions of transformers write null for absent.
const activation = v.nullish(
  v.pipe(
    v.picklist(Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[]),
    v.transform((name): ActivationKind => ACTIVATIONS[name]),
  ),
  "gelu",
);
/** Of a norm; above 0 also as f32. */
const epsilon = number("a number above 0, at most 1", (x) => Math.fround(x) > 0 && x <= 1);
const rate = number("a rate of 0 or more, less than 1", (x) => x >= 0 && x < 1);
const LIST = `a list of whole numbers from 1 to ${MAX_EXTENT}`;
const extents = v.pipe(v.array(extent(), LIST), v.minLength(1, LIST));

const hubertSchema = object({
  conv_dim: extents,
  conv_kernel: extents,
  conv_stride: extents,
  conv_bias: v.nullish(v.boolean(), false),
  conv_init: v.nullish(v.picklist(["normal", "gabor"]), "normal"),
  feat_extract_norm: v.nullish(v.picklist(["layer", "group"]), "group"),
  feat_extract_activation: activation,
  feat_proj_layer_norm: v.nullish(v.boolean(), true),
  hidden_size: extent(),
  num_hidden_layers: extent(),
  num_attention_heads: extent(),
  intermediate_size: extent(),
  hidden_act: activation,
  layer_norm_eps: v.nullish(epsilon, 1e-5),
  do_stable_layer_norm: v.nullish(v.boolean(), false),
  num_conv_pos_embeddings: v.nullish(extent(), 128),
  num_conv_pos_embedding_groups: v.nullish(extent(), 16),
  conv_pos_batch_norm: v.nullish(v.literal(false, "false: batch norm is not built")),
  add_adapter: v.nullish(v.literal(false, "false: the adapter is not built")),
  adapter_attn_dim: v.nullish(v.null("absent: attention adapters are not built")),
  vocab_size: v.nullish(extent(), 32),
  pad_token_id: v.nullish(extent(0)),
  ctc_loss_reduction: v.nullish(v.picklist(["mean", "sum"]), "sum"),
  ctc_zero_infinity: v.nullish(v.boolean(), false),
  hidden_dropout: v.nullish(rate, 0.1),
  attention_dropout: v.nullish(rate, 0.1),
  activation_dropout: v.nullish(rate, 0.1),
  feat_proj_dropout: v.nullish(rate, 0),
  final_dropout: v.nullish(rate, 0.1),
  layerdrop: v.nullish(rate, 0.1),
  apply_spec_augment: v.nullish(v.boolean(), true),
  mask_time_prob: v.nullish(rate, 0.05),
  mask_feature_prob: v.nullish(rate, 0),
});

/** Keys that are read only with apply_spec_augment. */
const masksSchema = object({
  mask_time_length: v.nullish(extent(), 10),
  mask_time_min_masks: v.nullish(extent(0), 2),
  mask_feature_length: v.nullish(extent(), 10),
  mask_feature_min_masks: v.nullish(extent(0), 0),
});

const bertSchema = object({
  vocab_size: extent(),
  hidden_size: extent(),
  num_hidden_layers: extent(),
  num_attention_heads: extent(),
  intermediate_size: extent(),
  hidden_act: activation,
  // At least [CLS] and [SEP].
  max_position_embeddings: v.nullish(extent(2), 512),
  position_embedding_type: v.nullish(v.picklist(["absolute"]), "absolute"),
  type_vocab_size: v.nullish(extent(), 2),
  layer_norm_eps: v.nullish(epsilon, 1e-12),
  pad_token_id: v.nullish(extent(0), 0),
  is_decoder: v.nullish(v.literal(false, "false: a decoder, which sees only what came before, is not built")),
  id2label: v.nullish(
    v.custom<object>(
      (names) => isObject(names) && Object.keys(names).length > 0,
      "an object with a name for every class",
    ),
  ),
  num_labels: v.nullish(extent(), 2),
  hidden_dropout_prob: v.nullish(rate, 0.1),
  attention_probs_dropout_prob: v.nullish(rate, 0.1),
  classifier_dropout: v.nullish(rate),
});

/** The keys that hubertConfig() reads, besides FAMILY_KEYS. */
export const HUBERT_KEYS = [...keysOf(hubertSchema), ...keysOf(masksSchema)];
/** The keys that bertConfig() reads, besides FAMILY_KEYS. */
export const BERT_KEYS = keysOf(bertSchema);

/** Config of HuBERT or wav2vec 2.0. */
export interface HubertConfig {
  /** The model's prefix in keys of weights. */
  readonly prefix: "hubert" | "wav2vec2";
  /** conv_dim: output channels of each convolution. */
  readonly convDim: readonly number[];
  /** conv_kernel: kernel size of each convolution. */
  readonly convKernel: readonly number[];
  /** conv_stride: stride of each convolution. */
  readonly convStride: readonly number[];
  /** conv_bias: whether the convolutions have biases. */
  readonly convBias: boolean;
  /** conv_init, a key of this project alone: how the filters of the first convolution are initialised. */
  readonly convInit: "normal" | "gabor";
  /** feat_extract_norm. "layer": layer norm after every convolution (LARGE). "group": group norm after the first (BASE). */
  readonly featExtractNorm: "layer" | "group";
  /** feat_extract_activation, after each convolution. */
  readonly featExtractActivation: ActivationKind;
  /** feat_proj_layer_norm: whether a layer norm precedes the feature projection. */
  readonly featProjLayerNorm: boolean;
  /** hidden_size. */
  readonly hiddenSize: number;
  /** num_hidden_layers. */
  readonly layers: number;
  /** num_attention_heads. */
  readonly heads: number;
  /** intermediate_size: hidden width of the feed-forwards. */
  readonly intermediateSize: number;
  /** hidden_act, of the feed-forwards. */
  readonly hiddenAct: ActivationKind;
  /** layer_norm_eps. */
  readonly layerNormEps: number;
  /** do_stable_layer_norm. True: norms before attention and feed-forward (LARGE). False: after them (BASE). */
  readonly stableLayerNorm: boolean;
  /** num_conv_pos_embeddings: kernel size of the positional convolution. */
  readonly posKernel: number;
  /** num_conv_pos_embedding_groups. */
  readonly posGroups: number;
  /** vocab_size: outputs of the CTC head. */
  readonly vocabSize: number;
  /** pad_token_id: the blank of CTC. */
  readonly blank: number;
  /** ctc_loss_reduction. */
  readonly ctcReduction: "mean" | "sum";
  /** ctc_zero_infinity. */
  readonly ctcZeroInfinity: boolean;
  /** Rates: hidden_dropout, attention_dropout, activation_dropout, feat_proj_dropout, final_dropout, layerdrop. */
  readonly dropout: {
    readonly hidden: number;
    readonly attention: number;
    readonly activation: number;
    readonly featProj: number;
    readonly final: number;
    readonly layer: number;
  };
  /** Whether `masked_spec_embed` is among the weights: as in transformers only where a mask probability is above 0. */
  readonly maskEmbedding: boolean;
  /** SpecAugment: probability, length and least number of masks in time and over features; absent: none. */
  readonly specAugment?: {
    readonly timeProb: number;
    readonly timeLength: number;
    readonly timeMin: number;
    readonly featureProb: number;
    readonly featureLength: number;
    readonly featureMin: number;
  };
}

/**
 * Reads the config of HuBERT or wav2vec 2.0; other keys are ignored. Throws a SyntaxError that names the key; `source` names the
 * file.
 */
export function hubertConfig(json: unknown, source: string): HubertConfig {
  const prefix = familyOf(json, source, ["hubert", "wav2vec2"]);
  const c = parse(hubertSchema, json, source);
  const masks = c.apply_spec_augment ? parse(masksSchema, json, source) : undefined;
  for (const key of ["conv_kernel", "conv_stride"] as const)
    if (c[key].length !== c.conv_dim.length)
      throw mismatch(source, key, c[key], `a list of ${c.conv_dim.length} numbers, as conv_dim`);
  for (const key of ["num_attention_heads", "num_conv_pos_embedding_groups"] as const)
    checkDivides(source, key, c[key], c.hidden_size);
  const blank = c.pad_token_id ?? 0;
  checkToken(source, blank, c.vocab_size);
  return {
    prefix,
    convDim: c.conv_dim,
    convKernel: c.conv_kernel,
    convStride: c.conv_stride,
    convBias: c.conv_bias,
    convInit: c.conv_init,
    featExtractNorm: c.feat_extract_norm,
    featExtractActivation: c.feat_extract_activation,
    featProjLayerNorm: prefix === "wav2vec2" || c.feat_proj_layer_norm,
    hiddenSize: c.hidden_size,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    intermediateSize: c.intermediate_size,
    hiddenAct: c.hidden_act,
    layerNormEps: c.layer_norm_eps,
    stableLayerNorm: c.do_stable_layer_norm,
    posKernel: c.num_conv_pos_embeddings,
    posGroups: c.num_conv_pos_embedding_groups,
    vocabSize: c.vocab_size,
    blank,
    ctcReduction: c.ctc_loss_reduction,
    ctcZeroInfinity: c.ctc_zero_infinity,
    dropout: {
      hidden: c.hidden_dropout,
      attention: c.attention_dropout,
      activation: c.activation_dropout,
      featProj: c.feat_proj_dropout,
      final: c.final_dropout,
      layer: c.layerdrop,
    },
    maskEmbedding: c.mask_time_prob > 0 || c.mask_feature_prob > 0,
    specAugment: masks && {
      timeProb: c.mask_time_prob,
      timeLength: masks.mask_time_length,
      timeMin: masks.mask_time_min_masks,
      featureProb: c.mask_feature_prob,
      featureLength: masks.mask_feature_length,
      featureMin: masks.mask_feature_min_masks,
    },
  };
}

function checkDivides(source: string, key: string, value: number, hiddenSize: number): void {
  if (hiddenSize % value !== 0) throw mismatch(source, key, value, `a divisor of hidden_size, ${hiddenSize}`);
}

function checkToken(source: string, padTokenId: number, vocabSize: number): void {
  if (padTokenId >= vocabSize)
    throw mismatch(source, "pad_token_id", padTokenId, `below vocab_size, ${vocabSize}`);
}

/** Config of BERT. */
export interface BertConfig {
  /** vocab_size. */
  readonly vocabSize: number;
  /** hidden_size. */
  readonly hiddenSize: number;
  /** num_hidden_layers. */
  readonly layers: number;
  /** num_attention_heads. */
  readonly heads: number;
  /** intermediate_size: hidden width of the feed-forwards. */
  readonly intermediateSize: number;
  /** hidden_act, of the feed-forwards. */
  readonly hiddenAct: ActivationKind;
  /** max_position_embeddings: most tokens of a text. */
  readonly maxPositions: number;
  /** type_vocab_size: number of segments. */
  readonly typeVocabSize: number;
  /** layer_norm_eps. */
  readonly layerNormEps: number;
  /** pad_token_id. */
  readonly padTokenId: number;
  /** The number of names in id2label, else num_labels. */
  readonly numLabels: number;
  /** Rates: hidden_dropout_prob, attention_probs_dropout_prob, classifier_dropout. */
  readonly dropout: { readonly hidden: number; readonly attention: number; readonly classifier: number };
}

/** Reads the config of BERT, as hubertConfig(). */
export function bertConfig(json: unknown, source: string): BertConfig {
  familyOf(json, source, ["bert"]);
  const c = parse(bertSchema, json, source);
  checkDivides(source, "num_attention_heads", c.num_attention_heads, c.hidden_size);
  checkToken(source, c.pad_token_id, c.vocab_size);
  return {
    vocabSize: c.vocab_size,
    hiddenSize: c.hidden_size,
    layers: c.num_hidden_layers,
    heads: c.num_attention_heads,
    intermediateSize: c.intermediate_size,
    hiddenAct: c.hidden_act,
    maxPositions: c.max_position_embeddings,
    typeVocabSize: c.type_vocab_size,
    layerNormEps: c.layer_norm_eps,
    padTokenId: c.pad_token_id,
    numLabels: c.id2label ? Object.keys(c.id2label).length : c.num_labels,
    dropout: {
      hidden: c.hidden_dropout_prob,
      attention: c.attention_probs_dropout_prob,
      classifier: c.classifier_dropout ?? c.hidden_dropout_prob,
    },
  };
}

/**
 * The vocabulary with as many outputs as the CTC head of the config `hubert`. A head may have more outputs than there are tokens,
 * as padding, and may lack some for added tokens. Throws where it lacks one for a token that is text, or has another blank.
 */
export function vocabularyOfHead(hubert: Json, source: string, vocabulary: CtcVocabulary): CtcVocabulary {
  const { vocabSize, blank } = hubertConfig(hubert, source);
  const { minOutputs, blank: own, tokens } = vocabulary;
  const size = (should: string) => mismatch(source, "vocab_size", vocabSize, should);
  if (vocabSize < minOutputs) throw size(`at least ${minOutputs}, for the tokens of vocab.json`);
  if (own >= vocabSize) throw size(`above ${own}, the id of the blank in vocab.json`);
  if (has(hubert, "pad_token_id") && blank !== own)
    throw mismatch(
      source,
      "pad_token_id",
      blank,
      `${own}, the id of the blank ${brief(tokens[own])} in vocab.json`,
    );
  return vocabulary.withOutputs(vocabSize);
}

/** vocab_size may be padded to a multiple of one of these. */
const PAD_MULTIPLES = [8, 16, 32, 64, 128];

/**
 * Throws unless the embedding of the config `bert` has a row for each of `count` tokens, and no more than padding explains: a
 * tokenizer `from` a file with fewer tokens is cut off or another model's.
 */
export function checkSubwords(
  bert: Json,
  source: string,
  count: number,
  from?: Pick<BertTokenizer, "path" | "endsAbruptly">,
): void {
  const rows = bertConfig(bert, source).vocabSize;
  if (rows < count)
    throw mismatch(source, "vocab_size", rows, `at least ${count}, the tokens of BERT's tokenizer`);
  const padded = PAD_MULTIPLES.some((unit) => rows % unit === 0 && rows - count < unit);
  if (!from || rows === count || (padded && !from.endsAbruptly)) return;
  const why = from.endsAbruptly
    ? "it ends within a line, as if cut off"
    : "it is cut off or of another model";
  throw new RangeError(`Cannot use ${from.path}: it holds ${count} tokens but vocab_size is ${rows}; ${why}`);
}

/** What a config.json must say before a model can be built; names and meanings are Hugging Face's. */
import type { ActivationKind } from "../ops/activation.ts";

type Json = Readonly<Record<string, unknown>>;

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
  /** A whole number of at least `least`. */
  whole(key: string, fallback?: number, least = 1): number {
    const value = this.number(key, fallback);
    if (!Number.isInteger(value) || value < least)
      throw this.complaint(key, `a whole number of at least ${least}`);
    return value;
  }
  /** A share from 0 up to, but not including, 1. */
  rate(key: string): number {
    const value = this.number(key, 0);
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
    if (!Array.isArray(value) || value.length === 0 || value.some((v) => !Number.isInteger(v) || v < 1)) {
      throw this.complaint(key, "a list of whole numbers");
    }
    return value as number[];
  }
  activation(key: string): ActivationKind {
    const kinds: Record<string, ActivationKind> = {
      gelu: "gelu",
      gelu_new: "gelu_tanh",
      gelu_pytorch_tanh: "gelu_tanh",
      relu: "relu",
    };
    const kind = kinds[String(this.#json[key] ?? "gelu")];
    if (!kind) throw this.complaint(key, `one of ${Object.keys(kinds).join(", ")}`);
    return kind;
  }
  strings(key: string, fallback: readonly string[]): readonly string[] {
    const value = this.#json[key] ?? fallback;
    if (!Array.isArray(value) || value.length === 0 || value.some((v) => typeof v !== "string"))
      throw this.complaint(key, "a list of names");
    return value as string[];
  }
  /** How many classes the head has: the entries of id2label, else num_labels, else 2 as in Hugging Face. */
  labels(): number {
    const names = this.#json.id2label;
    if (typeof names === "object" && names !== null) return Object.keys(names).length;
    return this.whole("num_labels", 2);
  }
  /** The part of the config under `key`. */
  part(key: string): ConfigReader {
    const value = this.#json[key];
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw this.complaint(key, "an object");
    return new ConfigReader(value as Json, `${this.#path} (${key})`);
  }
  complaint(key: string, wanted: string): SyntaxError {
    return new SyntaxError(
      `Cannot use ${this.#path}: ${key} is ${JSON.stringify(this.#json[key]) ?? "absent"} but should be ${wanted}`,
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
  const hiddenSize = c.whole("hidden_size");
  const heads = c.whole("num_attention_heads");
  if (hiddenSize % heads !== 0)
    throw c.complaint("num_attention_heads", `a divisor of hidden_size, ${hiddenSize}`);
  const posGroups = c.whole("num_conv_pos_embedding_groups", 16);
  if (hiddenSize % posGroups !== 0)
    throw c.complaint("num_conv_pos_embedding_groups", `a divisor of hidden_size, ${hiddenSize}`);
  const prefix = c.choice("model_type", ["hubert", "wav2vec2"], "hubert");
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
    layerNormEps: c.number("layer_norm_eps", 1e-5),
    stableLayerNorm: c.boolean("do_stable_layer_norm", false),
    posKernel: c.whole("num_conv_pos_embeddings", 128),
    posGroups,
    vocabSize: c.whole("vocab_size", 32),
    blank: c.whole("pad_token_id", 0, 0),
    ctcReduction: c.choice("ctc_loss_reduction", ["mean", "sum"], "sum"),
    ctcZeroInfinity: c.boolean("ctc_zero_infinity", false),
    dropout: {
      hidden: c.rate("hidden_dropout"),
      attention: c.rate("attention_dropout"),
      activation: c.rate("activation_dropout"),
      featProj: c.rate("feat_proj_dropout"),
      final: c.rate("final_dropout"),
      layer: c.rate("layerdrop"),
    },
    specAugment: c.boolean("apply_spec_augment", true)
      ? {
          timeProb: c.rate("mask_time_prob"),
          timeLength: c.whole("mask_time_length", 10),
          timeMin: c.whole("mask_time_min_masks", 2, 0),
          featureProb: c.rate("mask_feature_prob"),
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
  const hiddenSize = c.whole("hidden_size");
  const heads = c.whole("num_attention_heads");
  if (hiddenSize % heads !== 0)
    throw c.complaint("num_attention_heads", `a divisor of hidden_size, ${hiddenSize}`);
  c.choice("position_embedding_type", ["absolute"], "absolute");
  const hidden = c.rate("hidden_dropout_prob");
  return {
    vocabSize: c.whole("vocab_size"),
    hiddenSize,
    layers: c.whole("num_hidden_layers"),
    heads,
    intermediateSize: c.whole("intermediate_size"),
    hiddenAct: c.activation("hidden_act"),
    maxPositions: c.whole("max_position_embeddings", 512),
    typeVocabSize: c.whole("type_vocab_size", 2),
    layerNormEps: c.number("layer_norm_eps", 1e-12),
    padTokenId: c.whole("pad_token_id", 0, 0),
    numLabels: c.labels(),
    dropout: {
      hidden,
      attention: c.rate("attention_probs_dropout_prob"),
      classifier: c.has("classifier_dropout") ? c.rate("classifier_dropout") : hidden,
    },
  };
}

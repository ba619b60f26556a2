/** BERT as transformers' `BertModel`, `BertForSequenceClassification` and `BertForMaskedLM` (modeling_bert.py). */
import type { Device } from "../gpu/device.ts";
import { SelfAttention } from "../nn/attention.ts";
import { Embedding } from "../nn/embedding.ts";
import { FeedForward } from "../nn/feed_forward.ts";
import { Linear } from "../nn/linear.ts";
import { activationsOf, type Mode } from "../nn/mode.ts";
import { LayerNorm } from "../nn/norm.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { WeightScope } from "../nn/weights.ts";
import { cast } from "../ops/convert.ts";
import { dropout } from "../ops/dropout.ts";
import { reshape } from "../ops/elementwise.ts";
import { slice } from "../ops/frames.ts";
import { linear } from "../ops/matmul.ts";
import { scope } from "../tensor/scope.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type BertConfig, bertConfig } from "./config.ts";
import { EncoderLayer } from "./encoder_layer.ts";
import { fromPretrained, type Pretrained, type PretrainedOptions } from "./pretrained.ts";

/** Input of BertModel. */
export interface BertInput {
  /** Token ids (B, T), rows padded to equal length. */
  readonly ids: readonly (readonly number[])[];
  /** (B, T), 1 = a real token, 0 = padding. Left out: nothing is padding. */
  readonly mask?: readonly (readonly number[])[];
  /** Segment of each token (B, T): token_type_ids. Left out: 0. */
  readonly types?: readonly (readonly number[])[];
}

/** Output of BertModel. */
export interface BertOutput {
  /** (B, T, hidden), of Mode.activations */
  readonly hidden: Tensor;
  /** (B, T) u32, 1 = a real token. */
  readonly mask: Tensor;
}

class Embeddings {
  readonly #words: Embedding;
  readonly #positions: Embedding;
  readonly #types: Embedding;
  readonly #norm: LayerNorm;
  readonly #config: BertConfig;

  constructor(weights: WeightScope, config: BertConfig) {
    const { hiddenSize: C } = config;
    this.#words = new Embedding(weights.at("word_embeddings"), config.vocabSize, C, {
      paddingIndex: config.padTokenId,
    });
    this.#positions = new Embedding(weights.at("position_embeddings"), config.maxPositions, C);
    this.#types = new Embedding(weights.at("token_type_embeddings"), config.typeVocabSize, C);
    this.#norm = new LayerNorm(weights.at("LayerNorm"), C, config.layerNormEps);
    this.#config = config;
  }

  get words(): Parameter {
    return this.#words.weight;
  }

  forward({ ids, types }: BertInput, mode: Mode): Tensor {
    const [B, T] = [ids.length, ids[0].length];
    if (T > this.#config.maxPositions)
      throw new RangeError(`Cannot run BERT: ${T} tokens exceed its ${this.#config.maxPositions} positions`);
    const words = this.#words.forward(ids.flat(), [B, T]);
    const typed = this.#types.forward(types?.flat() ?? new Array<number>(B * T).fill(0), [B, T], words);
    const positions = Array.from({ length: B * T }, (_, i) => i % T);
    const placed = this.#positions.forward(positions, [B, T], typed);
    // Embeddings are added up, and normed, in f32.
    const x = cast(this.#norm.forward(placed), activationsOf(placed.device, mode));
    return dropout(x, this.#config.dropout.hidden, mode.training);
  }
}

/** The text encoder: embeddings, transformer layers and, where asked for, the pooler. */
export class BertModel {
  /** What it was built from. */
  readonly config: BertConfig;
  readonly #weights: WeightScope;
  readonly #embeddings: Embeddings;
  readonly #layers: EncoderLayer[];
  readonly #pooler: Linear | undefined;

  /** Takes its parameters from `weights`, under the keys of Hugging Face's class. `pooler`: whether it has one, default false. */
  constructor(weights: WeightScope, config: BertConfig, options: { pooler?: boolean } = {}) {
    this.config = config;
    this.#weights = weights;
    this.#embeddings = new Embeddings(weights.at("embeddings"), config);
    this.#layers = Array.from({ length: config.layers }, (_, i) =>
      bertLayer(weights.at("encoder").at(`layer.${i}`), config),
    );
    this.#pooler = options.pooler
      ? new Linear(weights.at("pooler").at("dense"), config.hiddenSize, config.hiddenSize)
      : undefined;
  }

  /** Loads a folder in Hugging Face's format. Throws one line that names the file and the key. */
  static fromPretrained(
    device: Device,
    folder: string,
    { pooler, ...options }: PretrainedOptions & { readonly pooler?: boolean } = {},
  ): Promise<Pretrained<BertModel>> {
    const build = (root: WeightScope, json: unknown, source: string) =>
      new BertModel(root.at("bert"), bertConfig(json, source), { pooler });
    return fromPretrained(device, folder, build, options);
  }

  /** The device of the weights. */
  get device(): Device {
    return this.#weights.device;
  }

  /** (V, hidden): the word embeddings, which are also the decoder of BertForMaskedLM. */
  get wordEmbeddings(): Parameter {
    return this.#embeddings.words;
  }

  /** Tokens (B, T) → (B, T, hidden). Throws a RangeError for more tokens than there are positions. */
  forward(input: BertInput, mode: Mode = {}): BertOutput {
    const { device } = this;
    const [B, T] = [input.ids.length, input.ids[0].length];
    const flags = input.mask ? Uint32Array.from(input.mask.flat()) : new Uint32Array(B * T).fill(1);
    const mask = Tensor.from(device, flags, [B, T]);
    // Without padding attention needs no mask.
    const attentionMask = flags.includes(0) ? mask : undefined;
    let x = scope(device, () => device.labelled("embeddings", () => this.#embeddings.forward(input, mode)));
    mode.observe?.("embeddings", x);
    for (const [i, layer] of this.#layers.entries()) {
      mode.observe?.(`hidden_states.${i}`, x);
      x = scope(device, () =>
        device.labelled(`encoder.layer.${i}`, () => layer.forward(x, attentionMask, mode, `attentions.${i}`)),
      );
    }
    mode.observe?.(`hidden_states.${this.#layers.length}`, x);
    mode.observe?.("last_hidden_state", x);
    return { hidden: x, mask };
  }

  /** The pooler: tanh(W·first token + b), (B, T, hidden) → (B, hidden). Throws where the model has none. */
  pool(hidden: Tensor, mode: Mode = {}): Tensor {
    if (!this.#pooler) throw new Error("Cannot pool: this BertModel was built without its pooler");
    const [B, T, C] = hidden.shape;
    const first = slice(reshape(hidden, [B, T * C]), 0, C);
    const pooled = this.#pooler.forward(first, { activation: "tanh" });
    mode.observe?.("pooler_output", pooled);
    return pooled;
  }
}

/** One layer of the encoder, post-norm. */
export function bertLayer(weights: WeightScope, config: BertConfig): EncoderLayer {
  const { hiddenSize: C, heads, intermediateSize, hiddenAct, layerNormEps: eps, dropout: rates } = config;
  const names = { qkv: ["self.query", "self.key", "self.value"], out: "output.dense" } as const;
  return new EncoderLayer(
    {
      attention: new SelfAttention(weights.at("attention"), C, { names, heads, dropout: rates.attention }),
      attentionNorm: new LayerNorm(weights.at("attention").at("output").at("LayerNorm"), C, eps),
      feedForward: new FeedForward(
        weights.at("intermediate").at("dense"),
        weights.at("output").at("dense"),
        C,
        intermediateSize,
        hiddenAct,
      ),
      feedForwardNorm: new LayerNorm(weights.at("output").at("LayerNorm"), C, eps),
      dropout: rates.hidden,
    },
    false,
  );
}

/** BERT with a linear classifier on the pooler's output. */
export class BertForSequenceClassification {
  /** The encoder, with its pooler. */
  readonly bert: BertModel;
  readonly #classifier: Linear;

  /** Takes its parameters from `weights`, under the keys of Hugging Face's class. */
  constructor(weights: WeightScope, config: BertConfig) {
    this.bert = new BertModel(weights.at("bert"), config, { pooler: true });
    this.#classifier = new Linear(weights.at("classifier"), config.hiddenSize, config.numLabels);
  }

  /** Loads a folder in Hugging Face's format. Throws one line that names the file and the key. */
  static fromPretrained(
    device: Device,
    folder: string,
    options?: PretrainedOptions,
  ): Promise<Pretrained<BertForSequenceClassification>> {
    const build = (root: WeightScope, json: unknown, source: string) =>
      new BertForSequenceClassification(root, bertConfig(json, source));
    return fromPretrained(device, folder, build, options);
  }

  /** Tokens (B, T) → logits (B, labels), f32. */
  forward(input: BertInput, mode: Mode = {}): BertOutput & { logits: Tensor } {
    const output = this.bert.forward(input, mode);
    const pooled = dropout(
      this.bert.pool(output.hidden, mode),
      this.bert.config.dropout.classifier,
      mode.training,
    );
    const logits = this.#classifier.forward(pooled, { dtype: "f32" });
    mode.observe?.("logits", logits);
    return { ...output, logits };
  }
}

/** BERT with a head that predicts masked tokens, its decoder tied to the word embeddings. */
export class BertForMaskedLM {
  /** The encoder, without pooler. */
  readonly bert: BertModel;
  readonly #transform: Linear;
  readonly #norm: LayerNorm;
  readonly #bias: Parameter;

  /** Takes its parameters from `weights`, under the keys of Hugging Face's class. */
  constructor(weights: WeightScope, config: BertConfig) {
    const { hiddenSize: C, layerNormEps: eps, vocabSize } = config;
    const head = weights.at("cls").at("predictions");
    this.bert = new BertModel(weights.at("bert"), config);
    this.#transform = new Linear(head.at("transform").at("dense"), C, C);
    this.#norm = new LayerNorm(head.at("transform").at("LayerNorm"), C, eps);
    this.#bias = head.get("bias", [vocabSize], { kind: "zeros" });
  }

  /** Loads a folder in Hugging Face's format. Throws one line that names the file and the key. */
  static fromPretrained(
    device: Device,
    folder: string,
    options?: PretrainedOptions,
  ): Promise<Pretrained<BertForMaskedLM>> {
    const build = (root: WeightScope, json: unknown, source: string) =>
      new BertForMaskedLM(root, bertConfig(json, source));
    return fromPretrained(device, folder, build, options);
  }

  /** Tokens (B, T) → logits (B, T, V), f32. */
  forward(input: BertInput, mode: Mode = {}): Tensor {
    const { hidden } = this.bert.forward(input, mode);
    const activation = this.bert.config.hiddenAct;
    const h = this.#norm.forward(this.#transform.forward(hidden, { activation }));
    const logits = linear(h, this.bert.wordEmbeddings.operand, this.#bias.value, { dtype: "f32" });
    mode.observe?.("logits", logits);
    return logits;
  }
}

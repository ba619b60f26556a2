/** BERT that guesses masked words: transformers' `BertForMaskedLM`, its decoder tied to the word embeddings. */
import type { Device } from "../gpu/device.ts";
import { Linear } from "../nn/linear.ts";
import type { Mode } from "../nn/mode.ts";
import { LayerNorm } from "../nn/norm.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { WeightScope } from "../nn/weights.ts";
import { linear } from "../ops/matmul.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type BertInput, BertModel } from "./bert.ts";
import { type BertConfig, bertConfig } from "./config.ts";
import { fromPretrained, type Pretrained, type PretrainedOptions } from "./pretrained.ts";

export class BertForMaskedLM {
  readonly bert: BertModel;
  readonly #transform: Linear;
  readonly #norm: LayerNorm;
  readonly #bias: Parameter;

  constructor(weights: WeightScope, config: BertConfig) {
    const { hiddenSize: C, layerNormEps: eps, vocabSize } = config;
    const head = weights.at("cls").at("predictions");
    this.bert = new BertModel(weights.at("bert"), config);
    this.#transform = new Linear(head.at("transform").at("dense"), C, C);
    this.#norm = new LayerNorm(head.at("transform").at("LayerNorm"), C, eps);
    this.#bias = head.get("bias", [vocabSize], { kind: "zeros" });
  }

  /** Opens a folder of Hugging Face's. */
  static fromPretrained(
    device: Device,
    folder: string,
    options?: PretrainedOptions,
  ): Promise<Pretrained<BertForMaskedLM>> {
    const build = (root: WeightScope, json: unknown, source: string) =>
      new BertForMaskedLM(root, bertConfig(json, source));
    return fromPretrained(device, folder, build, options);
  }

  /** logits (B, T, V) */
  forward(input: BertInput, mode: Mode = {}): Tensor {
    const { hidden } = this.bert.forward(input, mode);
    const activation = this.bert.config.hiddenAct;
    const h = this.#norm.forward(this.#transform.forward(hidden, { activation }));
    const logits = linear(h, this.bert.wordEmbeddings.operand, this.#bias.value);
    mode.observe?.("logits", logits);
    return logits;
  }
}

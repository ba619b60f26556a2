/**
 * HuBERT and wav2vec 2.0 with a classifier of whole recordings, as transformers' `HubertForSequenceClassification` and
 * `Wav2Vec2ForSequenceClassification`.
 */
import * as v from "valibot";
import type { Device } from "../gpu/device.ts";
import { isObject } from "../io/config.ts";
import { brief } from "../io/json.ts";
import { mismatch, object, parse } from "../io/schema.ts";
import { Linear } from "../nn/linear.ts";
import type { Mode } from "../nn/mode.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { WeightScope } from "../nn/weights.ts";
import { cast } from "../ops/convert.ts";
import { reshape } from "../ops/elementwise.ts";
import { concat } from "../ops/frames.ts";
import { matmul } from "../ops/matmul.ts";
import { maskedMean } from "../ops/reduce.ts";
import { softmax } from "../ops/softmax.ts";
import { Tensor } from "../tensor/tensor.ts";
import { extent, type HubertConfig, hubertConfig } from "./config.ts";
import { type HubertInput, HubertModel, type HubertOutput } from "./hubert.ts";
import { fromPretrained, type Pretrained, type PretrainedOptions } from "./pretrained.ts";

const SINGLE = "single_label_classification: one label for each recording, by softmax";

const schema = object({
  classifier_proj_size: v.nullish(extent(), 256),
  use_weighted_layer_sum: v.nullish(v.boolean(), false),
  id2label: v.nullish(v.custom<Readonly<Record<string, unknown>>>(isObject, "an object of names by number")),
  num_labels: v.nullish(extent(), 2),
  problem_type: v.nullish(v.literal("single_label_classification", SINGLE)),
  tie_last_hidden_states: v.nullish(v.boolean()),
  transformers_version: v.nullish(v.string()),
});

/** Config of the classifier on a speech encoder. */
export interface SequenceClassificationConfig {
  /** Names of the classes, in the order of the logits: id2label, else LABEL_0, LABEL_1, … */
  readonly labels: readonly string[];
  /** classifier_proj_size. */
  readonly projSize: number;
  /** use_weighted_layer_sum: whether a weighted sum of all layers is classified, in place of the last. */
  readonly weightedLayerSum: boolean;
  /**
   * Whether the last of the weighted layers has passed the encoder's final norm. As in transformers: `tie_last_hidden_states`, else
   * true for models that version 4 or older saved, whose classifiers were trained so, and false for newer ones. Without a norm
   * behind the layers (do_stable_layer_norm false) there is no difference.
   */
  readonly lastIsNormed: boolean;
}

/** Reads the classifier's part of a config. Throws a SyntaxError that names the key; `source` names the file. */
export function sequenceClassificationConfig(json: unknown, source: string): SequenceClassificationConfig {
  const c = parse(schema, json, source);
  const version = Number.parseInt(c.transformers_version ?? "", 10);
  return {
    labels: labelsOf(c.id2label ?? undefined, c.num_labels, source),
    projSize: c.classifier_proj_size,
    weightedLayerSum: c.use_weighted_layer_sum,
    lastIsNormed: c.tie_last_hidden_states ?? !(version >= 5),
  };
}

function labelsOf(
  names: Readonly<Record<string, unknown>> | undefined,
  count: number,
  source: string,
): string[] {
  if (!names) return Array.from({ length: count }, (_, i) => `LABEL_${i}`);
  const length = Object.keys(names).length;
  const labels = Array.from({ length }, (_, i) => names[i]);
  const good = labels.every((label): label is string => typeof label === "string" && label !== "");
  if (!good || length === 0)
    throw mismatch(source, "id2label", names, "an object with a name for every number from 0 on");
  const twice = labels.find((label, i) => labels.indexOf(label) < i);
  if (twice !== undefined) throw mismatch(source, "id2label", names, `without ${brief(twice)} twice`);
  return labels;
}

/** Output of HubertForSequenceClassification.encode(). */
export interface PooledSpeech extends HubertOutput {
  /** (B, hidden), f32: the mean over the real frames. */
  readonly pooled: Tensor;
}

/** HuBERT or wav2vec 2.0 with a classifier: `HubertForSequenceClassification`, `Wav2Vec2ForSequenceClassification`. */
export class HubertForSequenceClassification {
  /** The encoder. */
  readonly hubert: HubertModel;
  /** Labels and form of the classifier. */
  readonly config: SequenceClassificationConfig;
  readonly #layerWeights: Parameter | undefined;
  readonly #projector: Linear;
  readonly #classifier: Linear;

  /** Loads a folder in Hugging Face's format, HuBERT or wav2vec 2.0. Throws one line that names the file and the key. */
  static fromPretrained(
    device: Device,
    folder: string,
    options?: PretrainedOptions,
  ): Promise<Pretrained<HubertForSequenceClassification>> {
    const build = (root: WeightScope, json: unknown, source: string) =>
      new HubertForSequenceClassification(
        root,
        hubertConfig(json, source),
        sequenceClassificationConfig(json, source),
      );
    return fromPretrained(device, folder, build, options);
  }

  /** Takes its parameters from `weights`, under the keys of Hugging Face's class. */
  constructor(weights: WeightScope, hubert: HubertConfig, config: SequenceClassificationConfig) {
    this.config = config;
    this.hubert = new HubertModel(weights.at(hubert.prefix), hubert);
    // Equal ones: all layers count the same.
    this.#layerWeights = config.weightedLayerSum
      ? weights.get("layer_weights", [hubert.layers + 1], { kind: "ones" })
      : undefined;
    this.#projector = new Linear(weights.at("projector"), hubert.hiddenSize, config.projSize);
    this.#classifier = new Linear(weights.at("classifier"), config.projSize, config.labels.length);
  }

  /**
   * Audio (B, samples) → what is classified, the mean over the real frames. As the sum of the layers and the projector are linear,
   * each layer is averaged as it comes: equal to transformers, which adds and projects all frames, and no layer need be kept.
   */
  encode(input: HubertInput, mode: Mode = {}): PooledSpeech {
    const { device } = input.audio;
    const { layers } = this.hubert.config;
    const means: Tensor[] = [];
    const average = (state: Tensor, mask: Tensor | undefined) =>
      void means.push(cast(maskedMean(state, mask ?? fullMask(state)), "f32"));
    const { weightedLayerSum, lastIsNormed } = this.config;
    const onState = (index: number, state: Tensor, mask: Tensor | undefined) => {
      if (index < layers || !lastIsNormed) average(state, mask);
    };
    const output = device.at({ part: "speech encoder" }, () =>
      this.hubert.forward(input, mode, weightedLayerSum ? onState : undefined),
    );
    return device.at({ part: "classifier" }, () => {
      if (!weightedLayerSum || lastIsNormed) average(output.hidden, output.mask);
      return { ...output, pooled: this.#layerWeights ? this.#sum(means, this.#layerWeights) : means[0] };
    });
  }

  /** Σ softmax(weights)·layers, of (B, C) each. */
  #sum(means: readonly Tensor[], weights: Parameter): Tensor {
    const { shape, size } = means[0];
    const rows = reshape(concat(means.map((mean) => reshape(mean, [1, size]))), [means.length, size]);
    return reshape(matmul(reshape(softmax(weights.value), [1, means.length]), rows), shape);
  }

  /** What encode() gives (B, hidden) → logits (B, labels), f32. */
  classify(pooled: Tensor): Tensor {
    return this.#classifier.forward(this.#projector.forward(pooled), { dtype: "f32" });
  }

  /** Audio (B, samples) → logits (B, labels), f32. */
  forward(input: HubertInput, mode: Mode = {}): PooledSpeech & { logits: Tensor } {
    const output = this.encode(input, mode);
    const logits = input.audio.device.at({ part: "classifier" }, () => this.classify(output.pooled));
    mode.observe?.("logits", logits);
    return { ...output, logits };
  }
}

/** (B, T, C) → a mask (B, T) of ones. */
function fullMask({ device, shape: [B, T] }: Tensor): Tensor {
  return Tensor.from(device, new Uint32Array(B * T).fill(1), [B, T]);
}

/**
 * HuBERT with the head of its own pretraining (Hsu et al. 2021, section II; fairseq's HubertModel): it predicts the cluster of
 * masked frames by cosine similarity to an embedding of every cluster.
 */
import { Linear } from "../nn/linear.ts";
import type { Mode } from "../nn/mode.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { WeightScope } from "../nn/weights.ts";
import { exp, log } from "../ops/activation.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { dropout } from "../ops/dropout.ts";
import { add, mul, reshape, scale } from "../ops/elementwise.ts";
import { transpose } from "../ops/transpose.ts";
import { linear } from "../ops/matmul.ts";
import { sum } from "../ops/reduce.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { HubertConfig } from "./config.ts";
import { type HubertInput, HubertModel, type HubertOutput } from "./hubert.ts";

/** The head of HubertForPretraining. */
export interface PretrainingHead {
  /** Clusters to choose from: num_classes of fairseq. */
  readonly clusters: number;
  /** final_dim of fairseq: width in which frames and clusters are compared. */
  readonly projectionSize: number;
  /** logit_temp of fairseq: cosines are divided by it. */
  readonly temperature: number;
}

/** What is added to a squared norm, so that a vector of zeros has a direction. */
const EPSILON = 1e-12;

/** 1/‖x‖ of the rows of x (…, C)   →   (…) */
function inverseNorms(x: Tensor): Tensor {
  return exp(scale(log(add(sum(mul(x, x), { axis: -1 }), EPSILON)), -0.5));
}

/** cos(x, e)/temperature.   x (N, P)   e (K, P)   →   (N, K), f32 */
export function cosineLogits(x: Tensor, e: Tensor, temperature: number): Tensor {
  const [N, P] = x.shape;
  const columns = transpose(reshape(x, [1, N, P]));
  const normed = reshape(transpose(mul(columns, inverseNorms(x))), [N, P]);
  return scale(mul(linear(normed, e), inverseNorms(e)), 1 / temperature);
}

/** HuBERT, `final_proj` and `label_embs_concat`, under fairseq's names. */
export class HubertForPretraining {
  /** The encoder; a checkpoint of all opens as transformers' `HubertModel`, which leaves the head out. */
  readonly hubert: HubertModel;
  readonly #projection: Linear;
  readonly #embeddings: Parameter;
  readonly #head: PretrainingHead;

  /** Takes its parameters from `weights`. */
  constructor(weights: WeightScope, config: HubertConfig, head: PretrainingHead) {
    const { clusters, projectionSize } = head;
    this.hubert = new HubertModel(weights.at(config.prefix), config);
    this.#projection = new Linear(weights.at("final_proj"), config.hiddenSize, projectionSize);
    // Centred, unlike fairseq's from 0 to 1: there all embeddings begin with a cosine near 0.75 to each other.
    this.#embeddings = weights.get("label_embs_concat", [clusters, projectionSize], {
      kind: "uniform",
      bound: 1,
    });
    this.#head = head;
  }

  /** Audio (B, samples) → logits (B·T, clusters), f32. */
  forward(input: HubertInput, mode: Mode = {}): HubertOutput & { logits: Tensor } {
    const { device } = input.audio;
    const output = device.at({ part: "speech encoder" }, () => this.hubert.forward(input, mode));
    const [B, T, C] = output.hidden.shape;
    const logits = device.at({ part: "pretraining head" }, () =>
      scope(device, () => {
        const hidden = dropout(output.hidden, this.hubert.config.dropout.final, mode.training);
        const x = this.#projection.forward(reshape(hidden, [B * T, C]), { dtype: "f32" });
        return cosineLogits(x, this.#embeddings.value, this.#head.temperature);
      }),
    );
    mode.observe?.("logits", logits);
    return { ...output, logits };
  }
}

/** The loss of masked prediction, and of which frames it is. */
export interface MaskedPrediction {
  /** Mean cross-entropy of masked frames, plus `unmaskedWeight` times that of the others. */
  readonly loss: Tensor;
  /** Of masked frames alone. */
  readonly masked: Tensor;
}

/**
 * Logits (N, K) and the frames' clusters (N) → loss. `masked` (N): whether a frame was masked; padding has the cluster −100. At
 * least one frame must be masked.
 */
export function maskedPrediction(
  logits: Tensor,
  clusters: readonly number[],
  masked: Uint8Array,
  unmaskedWeight = 0,
): MaskedPrediction {
  const of = (wanted: number) => clusters.map((cluster, i) => (masked[i] === wanted ? cluster : -100));
  const own = crossEntropy(logits, of(1));
  const others = of(0);
  // The mean over no frame is not a number.
  if (unmaskedWeight === 0 || others.every((cluster) => cluster < 0)) return { loss: own, masked: own };
  return { loss: add(own, crossEntropy(logits, others), 1, unmaskedWeight), masked: own };
}

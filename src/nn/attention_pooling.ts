import { checkChoice } from "../io/checks.ts";
import { additiveScores } from "../ops/additive_attention.ts";
import { reshape } from "../ops/elementwise.ts";
import { matmul } from "../ops/matmul.ts";
import { attentionProbabilities } from "../ops/softmax.ts";
import { checkShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { xavierUniform } from "./init.ts";
import { Linear } from "./linear.ts";
import type { Parameter } from "./parameter.ts";
import type { WeightSource } from "./weights.ts";

/** How frames are scored. */
export interface AttentionPoolingConfig {
  /** "additive": vᵀ·tanh(W·x + b), Bahdanau et al. 2014. "dot": qᵀ·x/√C with a learned query, Vaswani et al. 2017. */
  readonly kind: "additive" | "dot";
  /** Of the hidden layer of additive scores; C by default. */
  readonly width?: number;
}

/** Weighted means over time. */
export interface Attended {
  /** (B, C), or (B, Q, C) of Q queries. */
  readonly context: Tensor;
  /** The weights, (B, T) or (B, Q, T): each row sums to 1. A sample without a real frame has equal ones. */
  readonly probabilities: Tensor;
}

/**
 * A mean over time whose weights are learned.   x (B, T, C), mask (B, T) u32, 1 = real → (B, C)
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const pooling = new AttentionPooling(weights.at("pooling"), 8, { kind: "additive" });
 * await weights.initialize();
 * const x = Tensor.from(device, Float32Array.from({ length: 48 }, (_, i) => Math.sin(i)), [2, 3, 8]);
 * const mask = Tensor.from(device, Uint32Array.of(1, 1, 1, 1, 1, 0), [2, 3]); // the second sample has two frames
 * const { context, probabilities } = scope(device, () => pooling.forward(x, mask));
 * console.log(context.shape, (await probabilities.read())[5]); // [2, 8] 0
 * ```
 */
export class AttentionPooling {
  readonly #hidden: Linear | undefined;
  /** v of additive scores (1, width), or the query (1, C). */
  readonly #query: Linear;
  readonly #scale: number;

  /** Parameters `hidden.weight`, `hidden.bias` and `v.weight`, or `query.weight`. */
  constructor(weights: WeightSource, C: number, { kind, width = C }: AttentionPoolingConfig) {
    checkChoice("make AttentionPooling", "kind", kind, ["additive", "dot"]);
    const additive = kind === "additive";
    this.#hidden = additive
      ? new Linear(weights.at("hidden"), C, width, { init: xavierUniform(C, width) })
      : undefined;
    // Zeros would leave W without a gradient; a query of zeros begins with the mean.
    this.#query = additive
      ? new Linear(weights.at("v"), width, 1, { bias: false, init: xavierUniform(width, 1) })
      : new Linear(weights.at("query"), C, 1, { bias: false });
    this.#scale = additive ? 1 : 1 / Math.sqrt(C);
  }

  /** x (B, T, C) → (B, C) and the weights (B, T). `mask` (B, T) u32, 1 = a real frame; left out: all are. */
  forward(x: Tensor, mask?: Tensor): Attended {
    checkShape("AttentionPooling", "x", x.shape, [-1, -1, -1]);
    const [B, T, C] = x.shape;
    const h = this.#hidden?.forward(x, { activation: "tanh" }) ?? x;
    const scores = reshape(this.#query.forward(h), [B, 1, 1, T]);
    const p = reshape(attentionProbabilities(scores, mask, this.#scale), [B, 1, T]);
    return { context: reshape(matmul(p, x), [B, C]), probabilities: reshape(p, [B, T]) };
  }
}

/** Widths of AdditiveAttention. */
export interface AdditiveAttentionConfig {
  /** Of a query. */
  readonly query: number;
  /** Of what is attended to. */
  readonly memory: number;
  /** Of the hidden layer. */
  readonly width: number;
}

/**
 * Additive attention of queries to a memory (Bahdanau et al. 2014), keys as in torchaudio's Tacotron 2:
 * vᵀ·tanh(query_layer·q + memory_layer·m + b).
 */
export class AdditiveAttention {
  readonly #query: Linear;
  readonly #memory: Linear;
  readonly #v: Parameter;

  /** Parameters `query_layer.weight`, `memory_layer.weight`, `memory_layer.bias` and `v.weight`. */
  constructor(weights: WeightSource, { query, memory, width }: AdditiveAttentionConfig) {
    this.#query = new Linear(weights.at("query_layer"), query, width, {
      bias: false,
      init: xavierUniform(query, width),
    });
    this.#memory = new Linear(weights.at("memory_layer"), memory, width, {
      init: xavierUniform(memory, width),
    });
    this.#v = weights.at("v").get("weight", [1, width], xavierUniform(width, 1));
  }

  /** Keys of a memory, which serve all steps of a decoder.   memory (B, T, M) → (B, T, width) */
  keys(memory: Tensor): Tensor {
    return this.#memory.forward(memory);
  }

  /** query (B, Q, C), memory (B, T, M) and its keys → contexts (B, Q, M). `mask` (B, T) u32, 1 = may be attended to. */
  forward(query: Tensor, memory: Tensor, keys: Tensor, mask?: Tensor): Attended {
    const [B, Q] = query.shape;
    const T = memory.shape[1];
    const v = this.#v.value;
    const scores = additiveScores(this.#query.forward(query), keys, reshape(v, [v.size]));
    const p = reshape(attentionProbabilities(reshape(scores, [B, 1, Q, T]), mask, 1), [B, Q, T]);
    return { context: matmul(p, memory), probabilities: p };
  }
}

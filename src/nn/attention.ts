import { selfAttention, selfAttentionWithProbabilities } from "../ops/attention.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Linear, PackedLinear } from "./linear.ts";
import type { Mode } from "./mode.ts";
import type { WeightScope } from "./weights.ts";

export interface AttentionNames {
  readonly qkv: readonly [string, string, string];
  readonly out: string;
}

/** Multi-head self-attention with one product for query, key and value.   x (B, T, C) → (B, T, C) */
export class SelfAttention {
  readonly #qkv: PackedLinear;
  readonly #out: Linear;
  readonly #heads: number;
  readonly #dropout: number;

  constructor(weights: WeightScope, names: AttentionNames, C: number, heads: number, dropout: number) {
    this.#qkv = new PackedLinear(weights, names.qkv, C, C);
    this.#out = new Linear(weights.at(names.out), C, C);
    this.#heads = heads;
    this.#dropout = dropout;
  }

  /** `residual` is added to the result; `name` is where the probabilities are shown. */
  forward(x: Tensor, mask: Tensor | undefined, mode: Mode, name: string, residual?: Tensor): Tensor {
    const qkv = this.#qkv.forward(x);
    const { training } = mode;
    const dropout =
      training && this.#dropout > 0 ? { rate: this.#dropout, seed: training.next() } : undefined;
    const options = { heads: this.#heads, mask, dropout };
    let y: Tensor;
    if (mode.probabilities) {
      const seen = selfAttentionWithProbabilities(qkv, options);
      mode.observe?.(name, seen.probabilities);
      y = seen.y;
    } else {
      y = selfAttention(qkv, options);
    }
    return this.#out.forward(y, { residual });
  }
}

import { checkOptions, keysOf } from "../io/checks.ts";
import { embedding } from "../ops/embedding.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Init } from "./init.ts";
import type { Parameter } from "./parameter.ts";
import type { WeightSource } from "./weights.ts";

/** What an embedding is made with. */
export interface EmbeddingConfig {
  /** The row that gets no gradient. */
  readonly paddingIndex?: number;
  /** Normal with a deviation of 0.02 by default. */
  readonly init?: Init;
}

const KEYS = keysOf<EmbeddingConfig>({ paddingIndex: true, init: true });

/** A table of V rows of width C.   ids, N of them → (…shape, C) */
export class Embedding {
  /** (V, C) */
  readonly weight: Parameter;
  readonly #paddingIndex: number | undefined;

  /** A table of `V` rows of width `C`. */
  constructor(weights: WeightSource, V: number, C: number, config: EmbeddingConfig = {}) {
    checkOptions("make Embedding", config, KEYS);
    this.weight = weights.pack(["weight"], [V, C], config.init ?? { kind: "normal", std: 0.02 }, true);
    this.#paddingIndex = config.paddingIndex;
  }

  /** `plus`, of the result's shape, is added to it. Throws a RangeError for an id outside 0 … V − 1. */
  forward(ids: readonly number[], shape: readonly number[] = [ids.length], plus?: Tensor): Tensor {
    return embedding(this.weight.value, ids, shape, { plus, paddingIndex: this.#paddingIndex });
  }
}

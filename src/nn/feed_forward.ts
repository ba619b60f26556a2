import type { ActivationKind } from "../ops/activation.ts";
import { dropout } from "../ops/dropout.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Linear } from "./linear.ts";
import type { Mode } from "./mode.ts";
import type { WeightSource } from "./weights.ts";

/** Two linear maps with an activation between.   x (B, T, C) → (B, T, C) */
export class FeedForward {
  readonly #up: Linear;
  readonly #down: Linear;
  readonly #activation: ActivationKind;
  readonly #dropout: number;

  /** Parameters of the first map, C → `inner`, under `up`, of the second under `down`. Dropout follows the activation. */
  constructor(
    up: WeightSource,
    down: WeightSource,
    C: number,
    inner: number,
    activation: ActivationKind,
    dropoutRate = 0,
  ) {
    this.#up = new Linear(up, C, inner);
    this.#down = new Linear(down, inner, C);
    this.#activation = activation;
    this.#dropout = dropoutRate;
  }

  /** x (B, T, C) → (B, T, C). `residual`, of the same shape, is added to the result. */
  forward(x: Tensor, mode: Mode = {}, residual?: Tensor): Tensor {
    const h = dropout(this.#up.forward(x, { activation: this.#activation }), this.#dropout, mode.training);
    return this.#down.forward(h, { residual });
  }
}

/** The transformer layer of both encoders. */
import { add } from "../ops/elementwise.ts";
import { dropout } from "../ops/dropout.ts";
import { checkpoint } from "../tensor/checkpoint.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { SelfAttention } from "../nn/attention.ts";
import type { FeedForward } from "../nn/feed_forward.ts";
import { type Mode, replayable } from "../nn/mode.ts";
import type { LayerNorm } from "../nn/norm.ts";

/** What a layer consists of. */
export interface LayerParts {
  readonly attention: SelfAttention;
  readonly attentionNorm: LayerNorm;
  readonly feedForward: FeedForward;
  readonly feedForwardNorm: LayerNorm;
  /** Rate of dropout on both branches. */
  readonly dropout: number;
}

/**
 * A transformer layer.   x (B, T, C) → (B, T, C)
 *
 *   pre-norm:   h = x + attention(norm(x)),    y = h + feedForward(norm(h))
 *   post-norm:  h = norm(x + attention(x)),    y = norm(h + feedForward(h))
 */
export class EncoderLayer {
  readonly #parts: LayerParts;
  readonly #preNorm: boolean;

  constructor(parts: LayerParts, preNorm: boolean) {
    this.#parts = parts;
    this.#preNorm = preNorm;
  }

  /** `mask` (B, T) u32, 1 = real; `name` is that of the attention probabilities in mode.observe. */
  forward(x: Tensor, mask: Tensor | undefined, mode: Mode, name: string): Tensor {
    if (!mode.checkpoint) return this.#run(x, mask, mode, name);
    const random = replayable(mode.training);
    return checkpoint(x.device, mask ? [mask] : [], () =>
      this.#run(x, mask, { ...mode, training: random() }, name),
    );
  }

  #run(x: Tensor, mask: Tensor | undefined, mode: Mode, name: string): Tensor {
    const { attention, attentionNorm, feedForward, feedForwardNorm } = this.#parts;
    const { device } = x;
    const norm1 = (t: Tensor) => device.labelled("attention_norm", () => attentionNorm.forward(t));
    const norm2 = (t: Tensor) => device.labelled("feed_forward_norm", () => feedForwardNorm.forward(t));
    const h0 = this.#preNorm ? norm1(x) : x;
    const h1 = device.labelled("attention", () =>
      this.#residual(x, mode, (residual) => attention.forward(h0, { mask, mode, name, residual })),
    );
    const h = this.#preNorm ? h1 : norm1(h1);
    const f0 = this.#preNorm ? norm2(h) : h;
    const y = device.labelled("feed_forward", () =>
      this.#residual(h, mode, (residual) => feedForward.forward(f0, mode, residual)),
    );
    return this.#preNorm ? y : norm2(y);
  }

  /** x + dropout(branch). Without dropout the last matrix product of the branch adds x itself: one dispatch fewer. */
  #residual(x: Tensor, mode: Mode, branch: (residual?: Tensor) => Tensor): Tensor {
    const drops = mode.training && this.#parts.dropout > 0;
    return drops ? add(x, dropout(branch(), this.#parts.dropout, mode.training)) : branch(x);
  }
}

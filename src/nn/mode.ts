import type { Tensor } from "../tensor/tensor.ts";

/**
 * How a forward runs. `observe` is shown every stage under the name that the reference cases give it; the tensor must be
 * keep()-ed by whoever wants it longer.
 */
export interface Mode {
  readonly observe?: (name: string, tensor: Tensor) => void;
  /** Also shows attention probabilities, which are otherwise never made. */
  readonly probabilities?: boolean;
  /** Present while training: turns dropout, LayerDrop and SpecAugment on. */
  readonly training?: Training;
}

/** Random choices of a training step; every call of next() is another stream of the same step. */
export interface Training {
  readonly next: () => number;
}

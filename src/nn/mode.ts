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
  /** Activation checkpointing: transformer layers keep nothing for the backward pass but their inputs, and run twice. */
  readonly checkpoint?: boolean;
}

/** Random choices of a training step; every call of next() is another stream of the same step. */
export interface Training {
  readonly next: () => number;
}

/** Gives the same choices every time it is asked: what a part that runs twice draws from. */
export function replayable(training: Training | undefined): () => Training | undefined {
  const drawn: number[] = [];
  return () => {
    let at = 0;
    return (
      training && {
        next() {
          if (at === drawn.length) drawn.push(training.next());
          return drawn[at++];
        },
      }
    );
  };
}

import type { Device } from "../gpu/device.ts";
import { checkChoice } from "../io/checks.ts";
import { type Tensor, WEIGHT_DTYPES, type WeightDType } from "../tensor/tensor.ts";

/** How a forward pass runs. An empty object is inference. */
export interface Mode {
  /**
   * Is given the output of every stage by its name, as `hidden_states.1` or `logits`; the names are those of the reference
   * cases. The tensor goes with its scope: keep() it to read it afterwards, then release() it.
   */
  readonly observe?: (name: string, tensor: Tensor) => void;
  /** Also shows attention probabilities, which are otherwise never made. */
  readonly probabilities?: boolean;
  /** Present while training: turns dropout, LayerDrop and SpecAugment on. */
  readonly training?: Training;
  /** Activation checkpointing: transformer layers keep nothing for the backward pass but their inputs, and run twice. */
  readonly checkpoint?: boolean;
  /**
   * What the layers hand on to each other, and so what the backward pass keeps; "f32" by default. With "f16" they take half the
   * memory; sums, norms, softmax and losses are f32, and so are logits, weights and their gradients. Values beyond 65504 become
   * infinite. Needs the adapter's shader-f16.
   */
  readonly activations?: WeightDType;
}

/** Mode.activations, or f32. Throws for another dtype, and for f16 where the device has none. */
export function activationsOf(device: Device, { activations = "f32" }: Mode): WeightDType {
  checkChoice("run the model", "mode.activations", activations, WEIGHT_DTYPES);
  if (activations === "f16" && !device.info.f16)
    throw new Error(`Cannot compute with f16 activations: ${device.info.name} has no shader-f16; use f32`);
  return activations;
}

/** Seeds of the random choices of one training step: each dropout takes the next. trainingStream() makes one. */
export interface Training {
  /** The next seed, a whole number of 32 bits. */
  readonly next: () => number;
}

/**
 * Streams that all make the choices of the first: what the body of checkpoint(), which runs twice, draws from. Each part of
 * each step takes a new replayable().
 *
 * @example
 * ```ts
 * const x = Tensor.from(device, Float32Array.of(1, 2, 3, 4), [4]);
 * const stream = replayable(trainingStream(1));
 * const block = () => ops.dropout(ops.mul(x, x), 0.5, stream());
 * const { aux, gradients } = valueAndGrad(device, [x], () => {
 *   const y = checkpoint(device, [], block);
 *   return { loss: ops.sum(y), y };
 * });
 * const [y, g] = [await aux.y.read(), await gradients.get(x)!.read()];
 * console.log(y.every((v, i) => (v === 0) === (g[i] === 0))); // true
 * ```
 */
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

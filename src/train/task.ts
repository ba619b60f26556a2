import type { Mode } from "../nn/mode.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** What a loss is made of, by name; each a scalar that is read with the step. */
export interface Losses {
  readonly loss: Tensor;
  readonly parts: Readonly<Record<string, Tensor>>;
}

/**
 * Figures of the dev set, by name: "loss" always, "ua", "wa" and "wer" where there are emotions and words; "utterances"
 * says over how many, "of" of how many, where they are read from files that may be lost.
 */
export type DevResult = Readonly<Record<string, number>> & { readonly loss: number };

/** What the loop trains: a model, its data and its loss. */
export interface Task<B> {
  readonly parameters: readonly Parameter[];
  /** Batches of an epoch; equal epochs give equal batches. */
  plan(epoch: number): readonly (readonly number[])[];
  /** Reads a batch; undefined where nothing of it can be used. */
  load(indices: readonly number[], epoch: number): Promise<B | undefined>;
  /** Items in a batch, fewer than were asked for where some cannot be read; absent where all always can. */
  size?(batch: B): number;
  /** Seconds of speech in a batch, or sentences, for the rate that is shown. */
  amount(batch: B): number;
  /** Runs forward. Synchronous; recorded where a tape runs. */
  losses(batch: B, mode: Mode): Losses;
  /** Undefined where there is no dev set. Throws a TooFewError where too little of it can be read. */
  evaluate(signal?: AbortSignal): Promise<DevResult | undefined>;
  /** Writes the model, without the optimiser's state, into a folder that exists. */
  save(folder: string): Promise<void>;
}

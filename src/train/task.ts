/** What the loop trains, and how much of its data it may do without. */
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

/** Most of an epoch, or of the dev set, that a run does without. */
const MOST_MISSING = 0.05;
/** As many files may be missing however small the corpus is. */
const FEW = 2;

/** So much is missing that the corpus itself must be: an unmounted disk, a network that is down. */
export class TooFewError extends Error {}

/** Throws where `missing` of `all` utterances of `what` are too many. */
export function refuseTooFew(missing: number, all: number, what: string): void {
  if (missing === 0 || (missing < all && missing <= Math.max(FEW, MOST_MISSING * all))) return;
  throw new TooFewError(
    `Cannot go on training: ${missing} of ${all} utterances of ${what} can no longer be read, at most ${100 * MOST_MISSING} % may be missing`,
  );
}

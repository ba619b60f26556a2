/** What the loop trains, and how much of its data it may do without. */
import type { Mode } from "../nn/mode.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A batch's loss, and what it is made of. */
export interface Losses {
  /** () f32, what is differentiated. */
  readonly loss: Tensor;
  /** () f32 each, by the names that the metrics give them. */
  readonly parts?: Readonly<Record<string, Tensor>>;
}

/**
 * Figures of the dev set, by name: "loss" always, and any others. "utterances" says over how many items they are, "of" of
 * how many, where they are read from files that may be lost.
 */
export type DevResult = Readonly<Record<string, number>> & { readonly loss: number };

/** What the loop trains: a model, its data and its loss. `B` is a batch as load() reads it. */
export interface Task<B> {
  /** What messages call several items, as "utterances"; "items" by default. */
  readonly items?: string;
  /** The model's; those that are not trainable stay as they are. */
  readonly parameters: readonly Parameter[];
  /** The micro-batches of an epoch (from 0), at least one, each a list of indices of items; equal epochs give equal batches. */
  plan(epoch: number): readonly (readonly number[])[];
  /** Reads a batch, while the one before is trained on; undefined where nothing of it can be used. */
  load(indices: readonly number[], epoch: number): Promise<B | undefined>;
  /**
   * Completes a batch with the weights of the update that it is for, before its losses, as where a model learns from what it
   * says itself. May read from the GPU, and must be a function of batch and weights alone. Absent: the batch is complete.
   */
  prepare?(batch: B, mode: Pick<Mode, "activations">): Promise<B>;
  /** Items in a batch, fewer than were asked for where some cannot be read; absent where all always can. */
  size?(batch: B): number;
  /** Seconds of speech in a batch, or sentences, for StepReport.amount; absent: 0. */
  amount?(batch: B): number;
  /** Runs forward. Synchronous; recorded where a tape runs. Equal batches and modes give equal losses. */
  losses(batch: B, mode: Mode): Losses;
  /** Figures of the dev set; absent or undefined where there is none. Throws a TooFewError where too little of it can be read. */
  evaluate?(signal?: AbortSignal): Promise<DevResult | undefined>;
  /** Writes the model as model.safetensors, and what belongs to it, into a folder that exists; not the optimiser's state. `at`: absent within the training. */
  save(folder: string, at?: SavePoint): Promise<void>;
}

/** The end of an epoch at which a model is saved as the best. */
export interface SavePoint {
  /** Number of the epoch, from 1. */
  readonly epoch: number;
  /** Its figures of the dev set; absent where there is none. */
  readonly dev?: DevResult;
}

/** Most of an epoch, or of the dev set, that a run does without. */
const MOST_MISSING = 0.05;
/** As many files may be missing however small the corpus is. */
const FEW = 2;

/** Too many items cannot be read, as where a disk is unmounted: trainStage() saves a checkpoint and ends. */
export class TooFewError extends Error {}

/** Throws a TooFewError where `missing` of `all` `items` of `what` are more than 5 %, and more than two. */
export function refuseTooFew(missing: number, all: number, what: string, items = "items"): void {
  if (missing === 0 || (missing < all && missing <= Math.max(FEW, MOST_MISSING * all))) return;
  throw new TooFewError(
    `Cannot go on training: ${missing} of ${all} ${items} of ${what} can no longer be read, at most ${100 * MOST_MISSING} % may be missing`,
  );
}

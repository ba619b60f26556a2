/** Learning rate schedules: the factor of each update. */

/** "linear": down to 0 at the end; "newbob": halved where the dev loss stalls; "constant". All after the warm-up. */
export type ScheduleKind = "linear" | "newbob" | "constant";

/** A schedule of the learning rate. */
export interface ScheduleOptions {
  /** What follows the warm-up. */
  readonly kind: ScheduleKind;
  /** Share of all updates in which the rate rises from 0. */
  readonly warmup: number;
  /** All updates of the stage. */
  readonly total: number;
}

/**
 * Factor of update `step`, from 1: a linear rise, then a linear fall to 0 at the end ("linear"), or no change.
 *
 * As transformers' get_linear_schedule_with_warmup, whose first update has factor 1/warm-up here and not 0: an update
 * that changes nothing is a batch wasted.
 */
export function scheduleFactor(step: number, { kind, warmup, total }: ScheduleOptions): number {
  const rise = Math.round(warmup * total);
  if (step < rise) return step / rise;
  if (kind !== "linear") return 1;
  const full = Math.max(1, rise);
  return Math.max(0, (total - step + 1) / Math.max(1, total - full + 1));
}

/** NewBob's state between epochs. */
export interface NewBobState {
  readonly factor: number;
  readonly last?: number;
  /** Over how many utterances `last` is. */
  readonly utterances?: number;
}

/**
 * NewBob annealing: where the dev loss fell by less than `threshold` of itself, the rate is halved from here on.
 */
export function newBob(state: NewBobState, devLoss: number, threshold = 0.0025, anneal = 0.5): NewBobState {
  const improved = state.last === undefined ? 1 : (state.last - devLoss) / Math.abs(state.last);
  return { factor: improved < threshold ? state.factor * anneal : state.factor, last: devLoss };
}

/** Learning rate schedules: the factor of each update. */
import { checkChoice, checkNumber, checkOptions, keysOf } from "../io/checks.ts";

/** "linear": down to 0 at the end; "newbob": halved where the dev loss stalls; "constant". All after the warm-up. */
export type ScheduleKind = "linear" | "newbob" | "constant";

/** A schedule of the learning rate. */
export interface ScheduleOptions {
  /** What follows the warm-up. */
  readonly kind: ScheduleKind;
  /** Share of all updates, from 0 to 1, in which the rate rises from 0. */
  readonly warmup: number;
  /** All updates of the stage. */
  readonly total: number;
}

const KINDS: readonly ScheduleKind[] = ["linear", "newbob", "constant"];
const KEYS = keysOf<Omit<ScheduleOptions, "total">>({ kind: true, warmup: true });

/** Throws where a schedule has an unknown kind, or a warm-up that is no share. */
export function checkSchedule(action: string, schedule: Omit<ScheduleOptions, "total">): void {
  checkOptions(action, schedule, KEYS, "schedule");
  checkKind(action, schedule);
}

function checkKind(action: string, { kind, warmup }: Omit<ScheduleOptions, "total">): void {
  checkChoice(action, "the schedule's kind", kind, KINDS);
  checkNumber(
    action,
    "the schedule's warmup",
    warmup,
    "a share of all updates, from 0 to 1",
    (x) => x >= 0 && x <= 1,
  );
}

/**
 * Factor of update `step`, from 1: a linear rise, then a linear fall to 0 at the end ("linear"), or no change.
 *
 * As transformers' get_linear_schedule_with_warmup, whose first update has factor 1/warm-up here and not 0: an update
 * that changes nothing is a batch wasted. NewBob's own factor comes on top of that. Throws a RangeError for an unknown
 * kind, a warm-up that is no share, and counts that are no whole numbers from 1.
 */
export function scheduleFactor(step: number, { kind, warmup, total }: ScheduleOptions): number {
  const action = "make the factor of a schedule";
  checkKind(action, { kind, warmup });
  for (const [name, value] of [
    ["step", step],
    ["total", total],
  ] as const)
    checkNumber(action, name, value, "a whole number from 1", (x) => Number.isSafeInteger(x) && x >= 1);
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

/** A model beside the best baseline of its test set, on the same utterances. */
import { type Baselines, rowsOf } from "../baselines/baselines.ts";
import { LABELS } from "../corpora/corpus.ts";
import type { Answer } from "./report.ts";
import { type Difference, type McNemar, mcnemar, pairedBootstrap } from "./significance.ts";
import { isRight, STATISTICS, summands } from "./summands.ts";

/** A model against the baseline that has the highest UA on the same utterances. */
export interface BesideBaseline {
  /** As formatSessionBaselines() names it. */
  readonly baseline: string;
  /** Utterances that both answered. */
  readonly utterances: number;
  /** Dialogues of these. */
  readonly dialogues: number;
  /** UA of the model − that of the baseline. */
  readonly value: number;
  /** Its interval and p, from resampled dialogues; absent where they are too few. */
  readonly difference?: Difference;
  readonly mcnemar: McNemar;
}

/** Fewer dialogues than these say too little of others. */
const FEWEST_DIALOGUES = 10;

/** Undefined where no baseline's answers are known; `seed` is of the resampling. */
export function besideBaseline(
  answers: readonly Answer[],
  baselines: Baselines,
  seed = 0,
): BesideBaseline | undefined {
  const all = rowsOf(baselines).flatMap(([name, { predictions }]) => {
    const own = answers.filter(({ utterance }) => predictions?.[utterance.id] !== undefined);
    const theirs = own.map((answer): Answer => {
      const predicted = predictions?.[answer.utterance.id];
      return { ...answer, probabilities: LABELS.map((label) => Number(label === predicted)) };
    });
    return own.length === 0 ? [] : [{ name, own, theirs, ua: uaOf(theirs) }];
  });
  if (all.length === 0) return undefined;
  const { name, own, theirs, ua } = all.reduce((best, each) => (each.ua > best.ua ? each : best));
  const only = (some: readonly Answer[], rest: readonly Answer[]) =>
    some.filter((answer, i) => isRight(answer) && !isRight(rest[i])).length;
  const groups = own.map(({ utterance }) => utterance.dialogue);
  const dialogues = new Set(groups).size;
  const tested =
    dialogues >= FEWEST_DIALOGUES
      ? pairedBootstrap(groups, summands(own), summands(theirs), STATISTICS.ua, { seed })
      : undefined;
  return {
    ...{ baseline: name, utterances: own.length, dialogues, value: uaOf(own) - ua },
    ...(tested ? { difference: tested } : {}),
    mcnemar: mcnemar(only(own, theirs), only(theirs, own)),
  };
}

function uaOf(answers: readonly Answer[]): number {
  const rows = summands(answers);
  return STATISTICS.ua(Float64Array.from(rows[0], (_, k) => rows.reduce((sum, row) => sum + row[k], 0)));
}

/** As a line of text. */
export function formatBesideBaseline(beside: BesideBaseline): string {
  const { baseline, value, difference, dialogues, mcnemar } = beside;
  const points = (share: number) => `${share < 0 ? "" : "+"}${(100 * share).toFixed(1)}`;
  const resampled = difference
    ? `95 % ${points(difference.interval.low)} to ${points(difference.interval.high)}, paired bootstrap of ${dialogues} dialogues p = ${difference.p.toPrecision(2)}`
    : `${dialogues} dialogues are too few to resample`;
  return `against ${baseline}: UA ${points(value)} points (${resampled}; McNemar p = ${mcnemar.p.toPrecision(2)})`;
}

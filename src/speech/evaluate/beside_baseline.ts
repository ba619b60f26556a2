/** A model beside the best baseline of its test set, on the same utterances. */
import { type Baselines, rowsOf } from "../baselines/baselines.ts";
import { LABELS } from "../corpora/corpus.ts";
import { argmax } from "../metrics/metrics.ts";
import type { Answer } from "./report.ts";
import { type Difference, type McNemar, mcnemar, pairedBootstrap } from "./significance.ts";
import { STATISTICS, summands } from "./summands.ts";

/** A model against the baseline that has the highest UA on the same utterances. */
export interface BesideBaseline {
  /** As formatSessionBaselines() names it. */
  readonly baseline: string;
  /** Utterances that both answered. */
  readonly utterances: number;
  /** UA of the model − that of the baseline; dialogues are resampled. */
  readonly ua: Difference;
  readonly mcnemar: McNemar;
}

/** Undefined where no baseline's answers are known; `seed` is of the resampling. */
export function besideBaseline(
  answers: readonly Answer[],
  baselines: Baselines,
  session: string,
  seed = 0,
): BesideBaseline | undefined {
  const uaOf = ([, { folds, predictions }]: ReturnType<typeof rowsOf>[number]) =>
    predictions ? (folds[session] ?? 0) : -1;
  const [best] = rowsOf(baselines).sort((a, b) => uaOf(b) - uaOf(a));
  const [name, { predictions = {} }] = best;
  const own = answers.filter(({ utterance }) => predictions[utterance.id] !== undefined);
  if (own.length === 0) return undefined;
  const others = own.map((answer): Answer => {
    const predicted = predictions[answer.utterance.id];
    return { ...answer, probabilities: LABELS.map((label) => Number(label === predicted)) };
  });
  const right = ({ utterance, probabilities }: Answer) => LABELS[argmax(probabilities)] === utterance.label;
  const only = (some: readonly Answer[], rest: readonly Answer[]) =>
    some.filter((answer, i) => right(answer) && !right(rest[i])).length;
  const dialogues = own.map(({ utterance }) => utterance.dialogue);
  return {
    ...{ baseline: name, utterances: own.length },
    ua: pairedBootstrap(dialogues, summands(own), summands(others), STATISTICS.ua, { seed }),
    mcnemar: mcnemar(only(own, others), only(others, own)),
  };
}

/** As a line of text. */
export function formatBesideBaseline({ baseline, ua, mcnemar: { p } }: BesideBaseline): string {
  const points = (share: number) => (100 * share).toFixed(1);
  const { interval } = ua;
  return `against ${baseline}: UA ${ua.value < 0 ? "" : "+"}${points(ua.value)} points (95 % ${points(interval.low)} to ${points(interval.high)}, paired bootstrap p = ${ua.p.toPrecision(2)}; McNemar p = ${p.toPrecision(2)})`;
}

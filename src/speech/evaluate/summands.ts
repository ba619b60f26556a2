/** UA, WA and WER as functions of sums over answers, as resampling wants them. */
import { LABELS } from "../corpora/corpus.ts";
import { editsOf } from "../metrics/answer.ts";
import { argmax } from "../metrics/metrics.ts";
import type { Answer } from "./report.ts";

/** The figures of the tables, each a share. */
export const FIGURES = ["ua", "wa", "wer"] as const;
/** "ua", "wa" or "wer". */
export type Figure = (typeof FIGURES)[number];

/** Whether an answer is the label. */
export const isRight = ({ utterance, probabilities }: Answer): boolean =>
  LABELS[argmax(probabilities)] === utterance.label;

/** What the figures of an answer are sums of: of each class its utterances and those that are right, word edits, words. */
export function summands(answers: readonly Answer[]): number[][] {
  const edits = editsOf(answers);
  return answers.map((answer, i) => {
    const row = new Array<number>(2 * LABELS.length + 2).fill(0);
    const truth = LABELS.indexOf(answer.utterance.label);
    row[2 * truth] = 1;
    row[2 * truth + 1] = Number(isRight(answer));
    const own = edits?.[i];
    row[2 * LABELS.length] = own ? own.substitutions + own.deletions + own.insertions : 0;
    row[2 * LABELS.length + 1] = own?.length ?? 0;
    return row;
  });
}

/** A figure of sums of summands(); the WER is NaN where there are no words. */
export const STATISTICS: Readonly<Record<Figure, (sums: Float64Array) => number>> = {
  ua(sums) {
    let [recalls, present] = [0, 0];
    for (let k = 0; k < LABELS.length; k++) {
      if (sums[2 * k] === 0) continue;
      recalls += sums[2 * k + 1] / sums[2 * k];
      present++;
    }
    return recalls / present;
  },
  wa(sums) {
    let [count, correct] = [0, 0];
    for (let k = 0; k < LABELS.length; k++) {
      count += sums[2 * k];
      correct += sums[2 * k + 1];
    }
    return correct / count;
  },
  wer(sums) {
    const [errors, words] = sums.subarray(2 * LABELS.length);
    return words === 0 ? Number.NaN : errors / words;
  },
};

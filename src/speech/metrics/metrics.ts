/**
 * Scores of a classifier. UA is the mean recall of the classes, WA the share of correct answers; some published code swaps
 * the two names.
 */

/** Scores of one class, each from 0 to 1. */
export interface ClassScores {
  /** Correct predictions of the class per prediction of it. */
  readonly precision: number;
  /** Correct predictions of the class per utterance of it. */
  readonly recall: number;
  /** Harmonic mean of both. */
  readonly f1: number;
  /** Utterances that truly belong to the class. */
  readonly support: number;
}

/** Scores of a classifier, each from 0 to 1. */
export interface Scores {
  /** Unweighted accuracy: mean recall over the classes that occur. */
  readonly ua: number;
  /** Weighted accuracy: correct / all. */
  readonly wa: number;
  /** Mean F1 over the classes that occur. */
  readonly macroF1: number;
  /** In the order of the class numbers. */
  readonly perClass: readonly ClassScores[];
  /** [truth][prediction] → count. */
  readonly confusion: readonly (readonly number[])[];
  /** Number of utterances. */
  readonly count: number;
}

/**
 * Scores of `predicted` (N) against `truth` (N), class numbers below `classes`. A class without utterances scores 0 and is
 * left out of means. Throws a RangeError for unequal lengths, no utterances, and numbers out of range.
 */
export function score(truth: readonly number[], predicted: readonly number[], classes: number): Scores {
  if (truth.length !== predicted.length) {
    throw new RangeError(`Cannot score: ${truth.length} labels but ${predicted.length} predictions`);
  }
  if (truth.length === 0) throw new RangeError("Cannot score: there are no utterances");
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  truth.forEach((t, i) => {
    const p = predicted[i];
    if (!(t in confusion) || !(p in confusion)) {
      throw new RangeError(
        `Cannot score: utterance ${i} has label ${t} and prediction ${p}, expected 0 to ${classes - 1}`,
      );
    }
    confusion[t][p]++;
  });
  const perClass = confusion.map((row, k): ClassScores => {
    const support = sum(row);
    const answered = sum(confusion.map((other) => other[k]));
    const precision = ratio(row[k], answered);
    const recall = ratio(row[k], support);
    return { precision, recall, f1: ratio(2 * precision * recall, precision + recall), support };
  });
  const present = perClass.filter((scores) => scores.support > 0);
  const correct = sum(confusion.map((row, k) => row[k]));
  return {
    ua: sum(present.map((scores) => scores.recall)) / present.length,
    wa: correct / truth.length,
    macroF1: sum(present.map((scores) => scores.f1)) / present.length,
    perClass,
    confusion,
    count: truth.length,
  };
}

/** Mean and sample standard deviation, as folds and seeds are reported; 0 for a single value. */
export function meanAndDeviation(values: readonly number[]): { mean: number; deviation: number } {
  const mean = sum(values) / values.length;
  const squares = sum(values.map((value) => (value - mean) ** 2));
  return { mean, deviation: values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1)) };
}

/** Index of the greatest value, the first of equal ones. */
export function argmax(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

/** The items at `indices`. */
export const gather = <T>(items: readonly T[], indices: readonly number[]): T[] =>
  indices.map((i) => items[i]);

/** 0.1234 → "12.3 %"; NaN → "–". */
export const percent = (value: number): string =>
  Number.isNaN(value) ? "–" : `${(100 * value).toFixed(1)} %`;

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

/** a / b; 0 where b is 0. */
function ratio(a: number, b: number): number {
  return b === 0 ? 0 : a / b;
}

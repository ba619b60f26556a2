/** Tests of whether two systems differ on the same utterances. */
import { erfc } from "../../profile/statistics.ts";
import { type BootstrapOptions, bootstrapSums, type Interval, percentiles } from "./intervals.ts";

/** A difference of two systems, first − second. */
export interface Difference {
  /** On all utterances. */
  readonly value: number;
  /** Its 95 % interval. */
  readonly interval: Interval;
  /** Two-sided: 2·min(P(resampled ≤ 0), P(resampled ≥ 0)), each with one resample more than there are, at most 1. */
  readonly p: number;
}

/**
 * Paired cluster bootstrap of a difference of two systems: resamples whole groups (dialogues), the same for both.
 *
 * @param groups the group of each utterance (N)
 * @param first the summands of the first system's statistic (N, K)
 * @param second those of the second system (N, K), on the same utterances
 * @param statistic of K sums
 */
export function pairedBootstrap(
  groups: readonly string[],
  first: readonly (readonly number[])[],
  second: readonly (readonly number[])[],
  statistic: (sums: Float64Array) => number,
  options?: BootstrapOptions,
): Difference {
  const both = first.map((row, i) => [...row, ...second[i]]);
  const difference = (sums: Float64Array) =>
    statistic(sums.subarray(0, sums.length / 2)) - statistic(sums.subarray(sums.length / 2));
  const values = bootstrapSums(groups, both, difference, options);
  const total = new Float64Array(both[0].length);
  for (const row of both) for (let k = 0; k < row.length; k++) total[k] += row[k];
  const share = (holds: (value: number) => boolean) =>
    (values.filter(holds).length + 1) / (values.length + 1);
  return {
    value: difference(total),
    interval: percentiles(values),
    p: Math.min(
      1,
      2 *
        Math.min(
          share((value) => value <= 0),
          share((value) => value >= 0),
        ),
    ),
  };
}

/** The result of mcnemar(). */
export interface McNemar {
  /** Utterances that only the first system has right. */
  readonly onlyFirst: number;
  /** Utterances that only the second system has right. */
  readonly onlySecond: number;
  /** Which form of the test: the exact one where fewer than 25 utterances tell the systems apart. */
  readonly method: "exact binomial" | "chi-square with continuity correction";
  /** Two-sided. */
  readonly p: number;
}

/** Fewer discordant utterances than these are counted exactly. */
const EXACT = 25;

/**
 * McNemar's test of whether two systems are right equally often, from what only one of them has right. It takes utterances for
 * independent of each other. Throws a RangeError for other than whole numbers from 0.
 */
export function mcnemar(onlyFirst: number, onlySecond: number): McNemar {
  if (![onlyFirst, onlySecond].every((n) => Number.isSafeInteger(n) && n >= 0))
    throw new RangeError(`Cannot test ${onlyFirst} and ${onlySecond}: expected whole numbers from 0`);
  const [n, least] = [onlyFirst + onlySecond, Math.min(onlyFirst, onlySecond)];
  if (n < EXACT) {
    let [term, sum] = [1, 0]; // binomial coefficients n over k
    for (let k = 0; k <= least; k++) {
      sum += term;
      term = (term * (n - k)) / (k + 1);
    }
    const p = Math.min(1, (2 * sum) / 2 ** n);
    return { onlyFirst, onlySecond, method: "exact binomial", p };
  }
  const statistic = Math.max(0, Math.abs(onlyFirst - onlySecond) - 1) ** 2 / n;
  const p = Math.min(1, erfc(Math.sqrt(statistic / 2)));
  return { onlyFirst, onlySecond, method: "chi-square with continuity correction", p };
}

/** p-values adjusted for being several (Holm 1979), in their order. */
export function holm(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const adjusted = new Array<number>(values.length);
  let least = 0;
  for (const [rank, i] of order.entries()) {
    least = Math.max(least, Math.min(1, (values.length - rank) * values[i]));
    adjusted[i] = least;
  }
  return adjusted;
}

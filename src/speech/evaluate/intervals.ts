/** 95 % confidence intervals. */
import { random } from "../corpora/random.ts";

/** A 95 % confidence interval. */
export interface Interval {
  /** Lower bound. */
  readonly low: number;
  /** Upper bound. */
  readonly high: number;
}

/** 97.5 % point of the normal distribution. */
const Z = 1.959963984540054;

/** Wilson's interval of a proportion, here WA. Throws a RangeError unless 0 ≤ correct ≤ count and count > 0. */
export function wilson(correct: number, count: number): Interval {
  if (!(count > 0 && correct >= 0 && correct <= count)) {
    throw new RangeError(`Cannot give an interval: ${correct} correct of ${count}`);
  }
  const p = correct / count;
  const z2 = (Z * Z) / count;
  const middle = (p + z2 / 2) / (1 + z2);
  const half = (Z * Math.sqrt((p * (1 - p)) / count + z2 / (4 * count))) / (1 + z2);
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** Options of bootstrap(). */
export interface BootstrapOptions {
  /** Number of resamples. Default 2,000. */
  draws?: number;
  /** Of the resampling. Default 0. */
  seed?: number;
}

/**
 * Percentile interval of a statistic by the cluster bootstrap: whole groups (dialogues) are resampled with replacement, since
 * utterances of one dialogue resemble each other. For two systems, let the statistic be their difference on the drawn
 * utterances: a paired bootstrap. Resamples on which it is NaN are left out.
 *
 * @param groups the group of each utterance (N)
 * @param statistic from indices into the utterances
 */
export function bootstrap(
  groups: readonly string[],
  statistic: (indices: readonly number[]) => number,
  { draws = 2_000, seed = 0 }: BootstrapOptions = {},
): Interval {
  const lists = grouped(groups, (i) => i);
  const draw = random(seed, "bootstrap");
  const values: number[] = [];
  for (let k = 0; k < draws; k++) {
    const value = statistic(lists.flatMap(() => draw.pick(lists)));
    if (!Number.isNaN(value)) values.push(value);
  }
  return percentiles(values);
}

/**
 * As bootstrap(), for statistics of sums over the utterances, which it draws much faster: `sums` (N, K) has the summands of
 * each utterance. Gives the values of every resample on which the statistic is not NaN.
 */
export function bootstrapSums(
  groups: readonly string[],
  sums: readonly (readonly number[])[],
  statistic: (sums: Float64Array) => number,
  { draws = 2_000, seed = 0 }: BootstrapOptions = {},
): number[] {
  const totals = grouped(groups, (i) => sums[i]).map((rows) => {
    const total = new Float64Array(rows[0].length);
    for (const row of rows) for (let k = 0; k < row.length; k++) total[k] += row[k];
    return total;
  });
  const draw = random(seed, "bootstrap");
  const sum = new Float64Array(totals[0].length);
  const values: number[] = [];
  for (let k = 0; k < draws; k++) {
    sum.fill(0);
    for (let g = 0; g < totals.length; g++) {
      const row = draw.pick(totals);
      for (let j = 0; j < row.length; j++) sum[j] += row[j];
    }
    const value = statistic(sum);
    if (!Number.isNaN(value)) values.push(value);
  }
  return values;
}

/** The 2.5 % and the 97.5 % points of resampled values, in any order; NaN of none. */
export function percentiles(values: readonly number[]): Interval {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
  return { low: at(0.025), high: at(0.975) };
}

/** What `item` gives of the utterances of each group, in the order in which the groups first occur. Throws where there are none. */
function grouped<T>(groups: readonly string[], item: (i: number) => T): T[][] {
  const members = new Map<string, T[]>();
  for (const [i, group] of groups.entries()) {
    const list = members.get(group);
    if (list === undefined) members.set(group, [item(i)]);
    else list.push(item(i));
  }
  if (members.size === 0) throw new RangeError("Cannot give an interval: there are no utterances");
  return [...members.values()];
}

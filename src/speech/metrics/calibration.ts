/** Calibration of a classifier: how far its probabilities are from how often it is right. */
import { argmax } from "./metrics.ts";

/** Answers whose greatest probability lies in (low, high]. */
export interface ReliabilityBin {
  /** Lower bound, outside of the bin. */
  readonly low: number;
  /** Upper bound, in the bin. */
  readonly high: number;
  /** Number of answers. */
  readonly count: number;
  /** Mean of their greatest probabilities. */
  readonly confidence: number;
  /** Share of them that is correct. */
  readonly accuracy: number;
}

/** Calibration of a classifier. */
export interface Calibration {
  /** Expected calibration error: mean of |accuracy − confidence| over the bins, weighted by their answers (Guo et al. 2017). */
  readonly ece: number;
  /** Brier score: mean over answers of the sum over classes of (p − y)², from 0 to 2. */
  readonly brier: number;
  /** Those that hold an answer, in order. */
  readonly bins: readonly ReliabilityBin[];
}

/**
 * Calibration of `probabilities` (N, classes) against `truth` (N), class numbers; `count` bins of equal width from 0 to 1.
 * Throws a RangeError for unequal lengths and for no answers.
 */
export function calibrationOf(
  truth: readonly number[],
  probabilities: readonly (readonly number[])[],
  count = 15,
): Calibration {
  const N = truth.length;
  if (N !== probabilities.length)
    throw new RangeError(`Cannot calibrate: ${N} labels but ${probabilities.length} answers`);
  if (N === 0) throw new RangeError("Cannot calibrate: there are no answers");
  const sums = Array.from({ length: count }, () => ({ count: 0, confidence: 0, correct: 0 }));
  let squares = 0;
  for (const [i, row] of probabilities.entries()) {
    const best = argmax(row);
    // Rounded, so that 0.2 of 15 bins is the upper bound of the third and not a rounding error above it.
    const k = Math.ceil(Number((row[best] * count).toPrecision(12))) - 1;
    const bin = sums[Math.min(count - 1, Math.max(0, k))];
    bin.count++;
    bin.confidence += row[best];
    bin.correct += Number(best === truth[i]);
    squares += row.reduce((sum, p, c) => sum + (p - Number(c === truth[i])) ** 2, 0);
  }
  const bins = sums.flatMap((bin, k): ReliabilityBin[] =>
    bin.count === 0
      ? []
      : [
          {
            ...{ low: k / count, high: (k + 1) / count, count: bin.count },
            ...{ confidence: bin.confidence / bin.count, accuracy: bin.correct / bin.count },
          },
        ],
  );
  const ece = bins.reduce((sum, bin) => sum + bin.count * Math.abs(bin.accuracy - bin.confidence), 0) / N;
  return { ece, brier: squares / N, bins };
}

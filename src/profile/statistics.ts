/** Medians, quartiles and the test by which two profiles are told apart. */
import type { Measured } from "./profile.ts";

/** The `q`-quantile of numbers in any order, between the two nearest ones; NaN of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

/** Median, interquartile range and the values themselves. */
export const measured = (samples: readonly number[]): Measured => ({
  median: quantile(samples, 0.5),
  spread: quantile(samples, 0.75) - quantile(samples, 0.25),
  samples,
});

/**
 * Two-sided p of the Mann-Whitney U test: how likely samples at least so unlike are where both come from one distribution.
 * Exact, by counting arrangements, without ties and where they are not too many; else by the normal approximation with the
 * correction for ties and for continuity.
 */
export function mannWhitney(a: readonly number[], b: readonly number[]): number {
  const [n, m] = [a.length, b.length];
  if (n === 0 || m === 0) return 1;
  const all = [...a.map((value) => ({ value, own: true })), ...b.map((value) => ({ value, own: false }))];
  all.sort((x, y) => x.value - y.value);
  let ranks = 0;
  let ties = 0;
  for (let i = 0; i < all.length; ) {
    let end = i;
    while (end < all.length && all[end].value === all[i].value) end++;
    const count = end - i;
    ties += count ** 3 - count;
    // The mean of the ranks i + 1 … end.
    for (let j = i; j < end; j++) if (all[j].own) ranks += (i + 1 + end) / 2;
    i = end;
  }
  const u = ranks - (n * (n + 1)) / 2;
  const small = Math.min(u, n * m - u);
  if (ties === 0 && n * m <= 400) return Math.min(1, 2 * tail(n, m, small));
  const N = n + m;
  const variance = ((n * m) / 12) * (N + 1 - ties / (N * (N - 1)));
  if (variance === 0) return 1;
  const z = Math.max(0, Math.abs(u - (n * m) / 2) - 0.5) / Math.sqrt(variance);
  return Math.min(1, erfc(z / Math.SQRT2));
}

/** P(U ≤ u) of samples of n and m without ties. */
function tail(n: number, m: number, u: number): number {
  // counts[k] of arrangements with U = k: the coefficients of the Gaussian binomial (n + m over n).
  let counts = [1];
  for (let i = 1; i <= n; i++) {
    const next = new Array<number>(i * m + 1).fill(0);
    // · (1 − q^(m + i)) / (1 − q^i)
    for (let k = 0; k < next.length; k++) {
      const less = k - (m + i);
      next[k] = (counts[k] ?? 0) - (less >= 0 ? (counts[less] ?? 0) : 0) + (k >= i ? next[k - i] : 0);
    }
    counts = next;
  }
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.slice(0, Math.floor(u) + 1).reduce((sum, count) => sum + count, 0) / total;
}

/** The complementary error function of x ≥ 0, to 1.2e-7 of itself (Numerical Recipes, erfcc). */
export function erfc(x: number): number {
  const t = 1 / (1 + 0.5 * x);
  const c = [
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277,
  ];
  return t * Math.exp(-x * x + c.reduceRight((sum, each) => each + t * sum, 0));
}

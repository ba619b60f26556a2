/**
 * Linear discriminant analysis and naive Bayes. Both assume equal class priors, which is best for UA, and return log
 * posteriors up to a constant.
 */

/** Log posteriors of the classes, up to a constant. */
export type Classifier<X> = (x: X) => number[];

/** Linear discriminants under one shared covariance, from samples (N, F) with labels (N) below `classes`. */
export function fitLda(
  samples: readonly (readonly number[])[],
  labels: readonly number[],
  classes: number,
): Classifier<readonly number[]> {
  const F = samples[0].length;
  const means = Array.from({ length: classes }, (_, k) => {
    const members = samples.filter((_, i) => labels[i] === k);
    return Array.from(
      { length: F },
      (_, f) => members.reduce((s, x) => s + x[f], 0) / Math.max(1, members.length),
    );
  });
  const covariance = Array.from({ length: F }, () => new Array<number>(F).fill(0));
  samples.forEach((x, i) => {
    const d = x.map((value, f) => value - means[labels[i]][f]);
    for (let a = 0; a < F; a++)
      for (let b = 0; b < F; b++) covariance[a][b] += (d[a] * d[b]) / samples.length;
  });
  // Regularised, so that a constant feature does not make the matrix singular.
  for (let f = 0; f < F; f++) covariance[f][f] = covariance[f][f] * 1.001 + 1e-9;
  const weights = means.map((mean) => solve(covariance, mean));
  const offsets = means.map((mean, k) => -0.5 * dot(mean, weights[k]));
  return (x) => weights.map((w, k) => dot(w, x) + offsets[k]);
}

/** Multinomial naive Bayes over tokens, add-one smoothing. */
export function fitNaiveBayes(
  texts: readonly (readonly string[])[],
  labels: readonly number[],
  classes: number,
): Classifier<readonly string[]> {
  const counts = Array.from({ length: classes }, () => new Map<string, number>());
  const totals = new Array<number>(classes).fill(0);
  const vocabulary = new Set<string>();
  texts.forEach((tokens, i) => {
    for (const token of tokens) {
      const own = counts[labels[i]];
      own.set(token, (own.get(token) ?? 0) + 1);
      totals[labels[i]]++;
      vocabulary.add(token);
    }
  });
  return (tokens) =>
    counts.map((own, k) =>
      tokens
        .filter((token) => vocabulary.has(token))
        .reduce(
          (sum, token) => sum + Math.log(((own.get(token) ?? 0) + 1) / (totals[k] + vocabulary.size)),
          0,
        ),
    );
}

/** Solves A·x = b for a symmetric positive definite A (F, F) by Gauss-Jordan elimination with pivoting. */
function solve(A: readonly (readonly number[])[], b: readonly number[]): number[] {
  const n = b.length;
  const rows = A.map((row, i) => [...row, b[i]]);
  for (let c = 0; c < n; c++) {
    let pivot = c;
    for (let r = c + 1; r < n; r++) if (Math.abs(rows[r][c]) > Math.abs(rows[pivot][c])) pivot = r;
    [rows[c], rows[pivot]] = [rows[pivot], rows[c]];
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const factor = rows[r][c] / rows[c][c];
      for (let k = c; k <= n; k++) rows[r][k] -= factor * rows[c][k];
    }
  }
  return rows.map((row, i) => row[n] / row[i]);
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

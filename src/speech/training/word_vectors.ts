/**
 * Word vectors of a text: the matrix of positive pointwise mutual information, factorised (Levy & Goldberg 2014, section 3.3).
 * The words of a sentence are each other's contexts.
 */
import { seedOf, uniformStream } from "../../train/seeds.ts";

/** Vectors of the words that occur. */
export interface WordVectors {
  /** Ids of the words, ascending. */
  readonly ids: readonly number[];
  /** A vector for each. */
  readonly vectors: readonly Float64Array[];
}

/** A row of a sparse matrix. */
interface Row {
  readonly columns: Int32Array;
  readonly values: Float64Array;
}

/** Of orthogonal iteration: what is left over mixes vectors of nearly equal weight, which tells no words apart. */
const ITERATIONS = 20;

/**
 * Vectors of `size` numbers, fewer where there are fewer words, whose standard deviation over all is `deviation`. Ids in `special`
 * are no words.
 */
export function wordVectors(
  sentences: readonly (readonly number[])[],
  special: ReadonlySet<number>,
  { size, deviation, seed }: { readonly size: number; readonly deviation: number; readonly seed: number },
): WordVectors {
  const counts = neighbours(sentences, special);
  const ids = [...counts.keys()].sort((a, b) => a - b);
  const matrix = mutualInformation(counts, ids);
  const next = uniformStream(seedOf("word vectors", seed));
  let basis: Float64Array[] = Array.from({ length: Math.min(size, ids.length) }, () =>
    Float64Array.from(ids, () => next() - 0.5),
  );
  for (let i = 0; i < ITERATIONS; i++) basis = orthonormal(basis.map((column) => product(matrix, column)));
  // Of a symmetric matrix the singular values are the sizes of the eigenvalues.
  const weights = basis.map((column) => Math.sqrt(Math.abs(dot(column, product(matrix, column)))));
  const vectors = ids.map((_, w) => Float64Array.from(basis, (column, i) => weights[i] * column[w]));
  const squares = vectors.reduce((sum, vector) => sum + dot(vector, vector), 0);
  const scale = squares > 0 ? deviation / Math.sqrt(squares / (ids.length * basis.length)) : 0;
  return { ids, vectors: vectors.map((vector) => vector.map((x) => scale * x)) };
}

/** How often two words stand in one sentence, at two places. */
function neighbours(sentences: readonly (readonly number[])[], special: ReadonlySet<number>) {
  const counts = new Map<number, Map<number, number>>();
  for (const sentence of sentences) {
    const words = sentence.filter((id) => !special.has(id));
    for (const [i, word] of words.entries()) {
      const row = counts.get(word) ?? new Map<number, number>();
      counts.set(word, row);
      for (const [j, other] of words.entries()) if (i !== j) row.set(other, (row.get(other) ?? 0) + 1);
    }
  }
  return counts;
}

/** log(p(a, b) / (p(a)·p(b))) where that is positive, by the places of `ids`. */
function mutualInformation(
  counts: ReadonlyMap<number, ReadonlyMap<number, number>>,
  ids: readonly number[],
): Row[] {
  const places = new Map(ids.map((id, i) => [id, i]));
  const sumOf = (row: ReadonlyMap<number, number>) => [...row.values()].reduce((sum, n) => sum + n, 0);
  const sums = new Map([...counts].map(([id, row]) => [id, sumOf(row)]));
  const total = [...sums.values()].reduce((sum, n) => sum + n, 0);
  return ids.map((id) => {
    const found = [...(counts.get(id) ?? [])]
      .map(([other, n]) => ({
        column: places.get(other)!,
        value: Math.log((n * total) / (sums.get(id)! * sums.get(other)!)),
      }))
      .filter(({ value }) => value > 0);
    return {
      columns: Int32Array.from(found, ({ column }) => column),
      values: Float64Array.from(found, ({ value }) => value),
    };
  });
}

function product(matrix: readonly Row[], vector: Float64Array): Float64Array {
  return Float64Array.from(matrix, ({ columns, values }) => {
    let sum = 0;
    for (let i = 0; i < columns.length; i++) sum += values[i] * vector[columns[i]];
    return sum;
  });
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** By modified Gram-Schmidt; a column that depends on those before becomes zero. */
function orthonormal(columns: readonly Float64Array[]): Float64Array[] {
  const done: Float64Array[] = [];
  for (const column of columns) {
    const own = column.slice();
    const before = Math.sqrt(dot(own, own));
    for (const other of done) {
      const share = dot(own, other);
      for (let i = 0; i < own.length; i++) own[i] -= share * other[i];
    }
    const length = Math.sqrt(dot(own, own));
    done.push(length > 1e-12 * before ? own.map((x) => x / length) : own.fill(0));
  }
  return done;
}

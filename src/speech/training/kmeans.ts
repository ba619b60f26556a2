/** Clusters by k-means: begun by k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's iterations. */

/** Points (N, size), row by row. */
export interface Points {
  readonly values: Float32Array;
  /** Numbers of a point. */
  readonly size: number;
}

/** Options of kMeans(). */
export interface KMeansOptions {
  readonly clusters: number;
  /** Most iterations; it ends earlier where no point changes its cluster. */
  readonly iterations: number;
  /** Uniform numbers in [0, 1). */
  readonly next: () => number;
  /** Told after every iteration; other work is done meanwhile. */
  readonly onIteration?: (iteration: number) => void | Promise<void>;
}

/**
 * The centroids (clusters, size). Equal points and numbers give equal centroids: sums are float64 in the order of the points. A
 * cluster that loses all its points begins anew at the point that is farthest from its own. Throws a RangeError where there are
 * fewer points than clusters.
 */
export async function kMeans(
  points: Points,
  { clusters, iterations, next, onIteration }: KMeansOptions,
): Promise<Float32Array> {
  const { values, size } = points;
  const count = values.length / size;
  if (count < clusters)
    throw new RangeError(
      `Cannot make ${clusters} clusters of ${count} frames: expected at least ${clusters} frames`,
    );
  const centroids = await begin(points, clusters, next, onIteration);
  const owners = new Int32Array(count).fill(-1);
  const far = new Float64Array(count);
  for (let iteration = 1; iteration <= iterations; iteration++) {
    let changed = false;
    const lengths = squares(centroids, size);
    for (let i = 0; i < count; i++) {
      const { index, distance } = nearest(values, i * size, centroids, lengths, size);
      changed ||= owners[i] !== index;
      owners[i] = index;
      far[i] = distance;
    }
    if (!changed) break;
    update(points, owners, far, centroids);
    await onIteration?.(iteration);
  }
  return centroids;
}

/** The cluster of each of the points. */
export function assign({ values, size }: Points, centroids: Float32Array): Uint16Array {
  const lengths = squares(centroids, size);
  return Uint16Array.from(
    { length: values.length / size },
    (_, i) => nearest(values, i * size, centroids, lengths, size).index,
  );
}

/** The first centroids: each a point, drawn in proportion to its squared distance from those before. */
async function begin(
  { values, size }: Points,
  clusters: number,
  next: () => number,
  onIteration: KMeansOptions["onIteration"],
): Promise<Float32Array> {
  const count = values.length / size;
  const centroids = new Float32Array(clusters * size);
  const distances = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
  let chosen = Math.min(count - 1, Math.floor(next() * count));
  for (let k = 0; k < clusters; k++) {
    centroids.set(values.subarray(chosen * size, (chosen + 1) * size), k * size);
    let total = 0;
    for (let i = 0; i < count; i++) {
      let distance = 0;
      for (let d = 0; d < size; d++) distance += (values[i * size + d] - centroids[k * size + d]) ** 2;
      distances[i] = Math.min(distances[i], distance);
      total += distances[i];
    }
    let left = next() * total;
    chosen = 0;
    while (chosen < count - 1 && left >= distances[chosen]) left -= distances[chosen++];
    if (k % 32 === 31) await onIteration?.(0);
  }
  return centroids;
}

/** ‖c‖² of each centroid. */
function squares(centroids: Float32Array, size: number): Float64Array {
  const out = new Float64Array(centroids.length / size);
  for (let i = 0; i < centroids.length; i++) out[Math.floor(i / size)] += centroids[i] ** 2;
  return out;
}

/** The nearest centroid, the first of equals, and its squared distance: ‖x‖² + ‖c‖² − 2·x·c. */
function nearest(
  values: Float32Array,
  at: number,
  centroids: Float32Array,
  lengths: Float64Array,
  size: number,
): { index: number; distance: number } {
  let [index, least] = [0, Number.POSITIVE_INFINITY];
  for (let k = 0; k < lengths.length; k++) {
    let product = 0;
    for (let d = 0, c = k * size; d < size; d++, c++) product += values[at + d] * centroids[c];
    const distance = lengths[k] - 2 * product;
    if (distance < least) [index, least] = [k, distance];
  }
  let own = 0;
  for (let d = 0; d < size; d++) own += values[at + d] ** 2;
  return { index, distance: least + own };
}

/** Means of the clusters' points. `far`: squared distance of each point from its centroid; changed. */
function update({ values, size }: Points, owners: Int32Array, far: Float64Array, centroids: Float32Array) {
  const clusters = centroids.length / size;
  const sums = new Float64Array(centroids.length);
  const counts = new Float64Array(clusters);
  for (const [i, k] of owners.entries()) {
    counts[k]++;
    for (let d = 0; d < size; d++) sums[k * size + d] += values[i * size + d];
  }
  for (let k = 0; k < clusters; k++) {
    if (counts[k] > 0) {
      for (let d = 0; d < size; d++) centroids[k * size + d] = sums[k * size + d] / counts[k];
      continue;
    }
    let farthest = 0;
    for (let i = 1; i < far.length; i++) if (far[i] > far[farthest]) farthest = i;
    far[farthest] = 0;
    centroids.set(values.subarray(farthest * size, (farthest + 1) * size), k * size);
  }
}

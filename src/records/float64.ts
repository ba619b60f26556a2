/** What the float64 references of several records share. Nothing here is fast or clever. */
import { type Shape, sizeOf } from "../tensor/shape.ts";

export type Numbers = ArrayLike<number>;

/** A tensor in float64, row-major. */
export interface Array64 {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** An array filled by index. */
export const array64 = (shape: Shape, f: (index: number) => number): Array64 => ({
  shape,
  data: Float64Array.from({ length: sizeOf(shape) }, (_, i) => f(i)),
});

/** f of every element. */
export const map = (x: Array64, f: (value: number, index: number) => number): Array64 => ({
  shape: x.shape,
  data: x.data.map(f),
});

const pcg = (v: number): number => {
  const state = (Math.imul(v, 747796405) + 2891336453) >>> 0;
  const word = Math.imul((state >>> ((state >>> 28) + 4)) ^ state, 277803737) >>> 0;
  return ((word >>> 22) ^ word) >>> 0;
};

/** The bits that kernels/lib/random.wgsl draws: what decides which values dropout keeps. */
export const randomBits = (seed: number, index: number): number => pcg((index ^ pcg(seed)) >>> 0);

/** What dropout multiplies element `index` by: 0, or 1/(1 − rate). */
export const kept = (rate: number, seed: number, index: number): number =>
  rate === 0 ? 1 : randomBits(seed, index) >= rate * 2 ** 32 ? 1 / (1 - rate) : 0;

/** `size` standard normal numbers of f32. */
export function normal(size: number, seed: number): Float32Array {
  const uniform = (i: number) => randomBits(seed, i) / 2 ** 32;
  return Float32Array.from(
    { length: size },
    (_, i) => Math.sqrt(-2 * Math.log(1 - uniform(2 * i))) * Math.cos(2 * Math.PI * uniform(2 * i + 1)),
  );
}

/** Some class from `least` to `most`, the same for the same seed and index. */
export const someClass = (seed: number, index: number, least: number, most: number): number =>
  least + (randomBits(seed, index) % (most - least + 1));

/** ‖got − want‖ / ‖want‖, or ‖got − want‖ where that is zero. NaN and inf must stand in the same places, else it is NaN or inf. */
export function relativeL2(got: Numbers, want: Numbers): number {
  if (got.length !== want.length)
    throw new RangeError(`Cannot compare ${got.length} values with ${want.length}`);
  let distance = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    if (Object.is(got[i], want[i]) && !Number.isFinite(want[i])) continue;
    distance += (got[i] - want[i]) ** 2;
    norm += want[i] ** 2;
  }
  return Math.sqrt(norm > 0 ? distance / norm : distance);
}

export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly alpha?: number;
}

/** alpha·op(A)·op(B), (M, N). */
export function product(a: Numbers, b: Numbers, p: Product): Float64Array {
  const { M, N, K, transA, transB, alpha = 1 } = p;
  const y = new Float64Array(M * N);
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++) {
      let sum = 0;
      for (let k = 0; k < K; k++)
        sum += a[transA ? k * M + m : m * K + k] * b[transB ? n * K + k : k * N + n];
      y[m * N + n] = alpha * sum;
    }
  return y;
}

/** Sum over the rows of (rows, C). */
export function columnSums(x: Numbers, C: number): Float64Array {
  const y = new Float64Array(C);
  for (let i = 0; i < x.length; i++) y[i % C] += x[i];
  return y;
}

/** P(X > x) of the normal distribution for x >= 0: a series near zero, else a continued fraction. */
function normalTail(x: number): number {
  if (x < 3) {
    let sum = 0;
    for (let term = x, n = 1; Math.abs(term) > 1e-18; n++) {
      sum += term;
      term *= (x * x) / (2 * n + 1);
    }
    return 0.5 - density(x) * sum;
  }
  let fraction = x;
  for (let n = 200; n > 0; n--) fraction = x + n / fraction;
  return density(x) / fraction;
}

const density = (x: number) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
const normalCdf = (x: number) => (x >= 0 ? 1 - normalTail(x) : normalTail(-x));
const inner = (x: number) => Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** Value and slope of every activation. */
export const activations = {
  gelu: { f: (x: number) => x * normalCdf(x), slope: (x: number) => normalCdf(x) + x * density(x) },
  gelu_tanh: {
    f: (x: number) => 0.5 * x * (1 + Math.tanh(inner(x))),
    slope: (x: number) =>
      0.5 * (1 + Math.tanh(inner(x))) +
      0.5 * x * (1 - Math.tanh(inner(x)) ** 2) * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x),
  },
  tanh: { f: Math.tanh, slope: (x: number) => 1 / Math.cosh(x) ** 2 },
  relu: { f: (x: number) => Math.max(x, 0), slope: (x: number) => (x > 0 ? 1 : 0) },
  sigmoid: { f: sigmoid, slope: (x: number) => sigmoid(x) * sigmoid(-x) },
} as const;

/** softmax of one row. */
export function softmaxRow(x: Numbers): number[] {
  const values = Array.from(x);
  const most = Math.max(...values);
  const e = values.map((v) => Math.exp(v - most));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}

/** log(softmax) of one row. */
export function logSoftmaxRow(x: Numbers): number[] {
  const values = Array.from(x);
  const most = Math.max(...values);
  const logSum = Math.log(values.reduce((sum, v) => sum + Math.exp(v - most), 0));
  return values.map((v) => v - most - logSum);
}

export interface Groups {
  readonly B: number;
  readonly T: number;
  readonly C: number;
  readonly G: number;
  readonly eps: number;
}

/** Group norm of x (B, T, C) and its gradients on x, w, b; with T = G = 1 it is the layer norm of B rows. */
export function normalise(x: Numbers, w: Numbers, b: Numbers, dy: Numbers, { B, T, C, G, eps }: Groups) {
  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  const dw = new Float64Array(C);
  for (let s = 0; s < B; s++)
    for (let g = 0; g < G; g++) {
      const places: number[] = [];
      for (let t = 0; t < T; t++)
        for (let c = (g * C) / G; c < ((g + 1) * C) / G; c++) places.push((s * T + t) * C + c);
      const average = (f: (at: number) => number) =>
        places.reduce((sum, at) => sum + f(at), 0) / places.length;
      const mean = average((at) => x[at]);
      const rstd = 1 / Math.sqrt(average((at) => (x[at] - mean) ** 2) + eps);
      const xh = (at: number) => (x[at] - mean) * rstd;
      const meanG = average((at) => dy[at] * w[at % C]);
      const along = average((at) => dy[at] * w[at % C] * xh(at));
      for (const at of places) {
        y[at] = xh(at) * w[at % C] + b[at % C];
        dx[at] = rstd * (dy[at] * w[at % C] - meanG - xh(at) * along);
        dw[at % C] += dy[at] * xh(at);
      }
    }
  return { y, gradients: { x: dx, w: dw, b: columnSums(dy, C) } };
}

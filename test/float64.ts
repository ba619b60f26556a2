/** The operators as plain float64 loops, forward and backward. Nothing here is fast or clever. */

type Numbers = ArrayLike<number>;

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
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (x < 3) {
    let sum = 0;
    for (let term = x, n = 1; Math.abs(term) > 1e-18; n++) {
      sum += term;
      term *= (x * x) / (2 * n + 1);
    }
    return 0.5 - density * sum;
  }
  let fraction = x;
  for (let n = 200; n > 0; n--) fraction = x + n / fraction;
  return density / fraction;
}

const normalCdf = (x: number) => (x >= 0 ? 1 - normalTail(x) : normalTail(-x));
const density = (x: number) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
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

export interface Convolution {
  readonly B: number;
  readonly T: number;
  readonly C: number;
  readonly O: number;
  readonly k: number;
  readonly groups?: number;
  readonly stride?: number;
  readonly padding?: number;
  readonly dilation?: number;
  readonly drop?: number;
}

export const convolutionFrames = (c: Convolution): number =>
  Math.floor((c.T + 2 * (c.padding ?? 0) - (c.dilation ?? 1) * (c.k - 1) - 1) / (c.stride ?? 1)) +
  1 -
  (c.drop ?? 0);

/** x (B, T, C), w (O, C/groups, k), b (O), dy as y: y and the gradients of x, w, b. */
export function conv1d(x: Numbers, w: Numbers, b: Numbers | undefined, dy: Numbers, c: Convolution) {
  const { B, T, C, O, k, groups = 1, stride = 1, padding = 0, dilation = 1 } = c;
  const [To, Cg, Og] = [convolutionFrames(c), C / groups, O / groups];
  const y = new Float64Array(B * To * O);
  const dx = new Float64Array(x.length);
  const dw = new Float64Array(w.length);
  for (let s = 0; s < B; s++)
    for (let t = 0; t < To; t++)
      for (let o = 0; o < O; o++) {
        const at = (s * To + t) * O + o;
        y[at] = b?.[o] ?? 0;
        for (let j = 0; j < k; j++) {
          const frame = t * stride + j * dilation - padding;
          if (frame < 0 || frame >= T) continue;
          for (let i = 0; i < Cg; i++) {
            const xAt = (s * T + frame) * C + Math.floor(o / Og) * Cg + i;
            const wAt = (o * Cg + i) * k + j;
            y[at] += w[wAt] * x[xAt];
            dx[xAt] += w[wAt] * dy[at];
            dw[wAt] += x[xAt] * dy[at];
          }
        }
      }
  return { y, gradients: [dx, dw, ...(b ? [columnSums(dy, O)] : [])] };
}

export interface Attention {
  readonly B: number;
  readonly H: number;
  readonly Tq: number;
  readonly Tk: number;
  readonly D: number;
  readonly scale?: number;
  readonly mask?: Numbers;
  /** What dropout multiplies a weight by: 0 or 1/(1 − rate). */
  readonly kept?: (b: number, h: number, tq: number, tk: number) => number;
}

/** q (B, Tq, H·D), k and v (B, Tk, H·D), dO as the output. All keys masked: all weigh the same, as in transformers. */
export function attention(q: Numbers, k: Numbers, v: Numbers, dO: Numbers, a: Attention) {
  const { B, H, Tq, Tk, D, scale = 1 / Math.sqrt(D), mask, kept = () => 1 } = a;
  const C = H * D;
  const y = new Float64Array(B * Tq * C);
  const p = new Float64Array(B * H * Tq * Tk);
  const [dq, dk, dv] = [q, k, v].map((x) => new Float64Array(x.length));
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let i = 0; i < Tq; i++) {
        const qAt = (b * Tq + i) * C + h * D;
        const kAt = (j: number) => (b * Tk + j) * C + h * D;
        const scores = Array.from({ length: Tk }, (_, j) => {
          if (mask && !mask[b * Tk + j]) return -Number.MAX_VALUE;
          let s = 0;
          for (let e = 0; e < D; e++) s += q[qAt + e] * k[kAt(j) + e];
          return s * scale;
        });
        const most = Math.max(...scores);
        const raised = scores.map((s) => Math.exp(s - most));
        const total = raised.reduce((x, e) => x + e, 0);
        const weights = raised.map((e) => e / total);
        const dWeights = weights.map((weight, j) => {
          p[((b * H + h) * Tq + i) * Tk + j] = weight;
          const keep = kept(b, h, i, j);
          let along = 0;
          for (let e = 0; e < D; e++) {
            y[qAt + e] += weight * keep * v[kAt(j) + e];
            dv[kAt(j) + e] += weight * keep * dO[qAt + e];
            along += keep * v[kAt(j) + e] * dO[qAt + e];
          }
          return along;
        });
        const mean = dWeights.reduce((x, d, j) => x + d * weights[j], 0);
        for (let j = 0; j < Tk; j++) {
          const ds = weights[j] * (dWeights[j] - mean) * scale;
          for (let e = 0; e < D; e++) {
            dq[qAt + e] += ds * k[kAt(j) + e];
            dk[kAt(j) + e] += ds * q[qAt + e];
          }
        }
      }
  return { y, p, dq, dk, dv };
}

export interface Groups {
  readonly B: number;
  readonly T: number;
  readonly C: number;
  readonly G: number;
  readonly eps: number;
}

/** Group norm of x (B, T, C); with T = G = 1 it is the layer norm of B rows. */
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
  return { y, gradients: [dx, dw, columnSums(dy, C)] };
}

/** w = g·v/‖v‖ over all axes but the last.   v (R, k)   g (k) */
export function weightNorm(v: Numbers, g: Numbers, dy: Numbers) {
  const k = g.length;
  const squares = columnSums(
    Float64Array.from(v, (x) => x * x),
    k,
  );
  const along = columnSums(
    Float64Array.from(v, (x, i) => x * dy[i]),
    k,
  );
  const norm = squares.map(Math.sqrt);
  return {
    y: Float64Array.from(v, (x, i) => (g[i % k] * x) / norm[i % k]),
    gradients: [
      Float64Array.from(
        v,
        (x, i) => (g[i % k] / norm[i % k]) * (dy[i] - (x * along[i % k]) / squares[i % k]),
      ),
      along.map((x, i) => x / norm[i]),
    ],
  };
}

const pcg = (v: number): number => {
  const state = (Math.imul(v, 747796405) + 2891336453) >>> 0;
  const word = Math.imul((state >>> ((state >>> 28) + 4)) ^ state, 277803737) >>> 0;
  return ((word >>> 22) ^ word) >>> 0;
};

/** The bits that kernels/lib/random.wgsl draws: what decides which weights dropout keeps. */
export const randomBits = (seed: number, index: number): number => pcg((index ^ pcg(seed)) >>> 0);

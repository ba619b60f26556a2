/** Long short-term memory: the twin of kernels/lstm.wgsl, one layer in one direction or both. */
import type { Costed } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkOptions, describeValue, keysOf } from "../io/checks.ts";
import { checkShape, showShape } from "../tensor/shape.ts";
import { isTracked, recordAll } from "../tensor/tape.ts";
import { checkF32, Tensor, unread } from "../tensor/tensor.ts";
import { add, full, scale } from "./elementwise.ts";
import { gemm } from "./matmul.ts";
import { columnSum } from "./reduce.ts";

/** Bytes of `states` times the state of every sample, and of the weights once. */
const traffic = ({ dims: { B, H, D, steps }, bytes }: Costed, states: number): number =>
  4 * states * steps * D * B * H + bytes("w");

const shape = ({ dims: { B, H, D, steps } }: Costed) => ({ B, H, D, steps });

const k = twin("lstm", {
  // The product; of a unit 4 sums, 3 sigmoids of 3, 2 tanh, and 4 for c and h.
  forward: (given) => {
    const { B, H, D, steps, saves } = given.dims;
    return {
      flops: steps * D * B * H * (8 * H + 19),
      bytes: traffic(given, saves ? 13 : 8),
      shape: shape(given),
    };
  },
  // Of a unit 2 for dy and h, tanh and 3 for c, 5 for dc, 15 for the gates, 1 for the dc before.
  backward: (given) => {
    const { B, H, D, steps } = given.dims;
    return { flops: steps * D * B * H * (8 * H + 27), bytes: traffic(given, 16), shape: shape(given) };
  },
  backward_initial: (given) => {
    const { B, H, D } = given.dims;
    return { flops: 8 * D * B * H * H, bytes: traffic(given, 5), shape: shape(given) };
  },
  last: ({ bytes }) => ({ flops: 0, bytes: 2 * bytes("hN") }),
  previous: ({ bytes }) => ({ flops: 0, bytes: 2 * bytes("before") }),
});

/** The weights of a layer in D directions, one below the other; rows are those of the gates i, f, g, o. */
export interface LstmWeights {
  /** (D·4H, K) */
  readonly weightIh: Tensor;
  /** (D·4H, H) */
  readonly weightHh: Tensor;
  /** (D·4H) */
  readonly biasIh?: Tensor;
  /** (D·4H): added to the other. */
  readonly biasHh?: Tensor;
}

/** What an LSTM hands on from step to step: both (D, B, H). */
export interface LstmState {
  readonly h: Tensor;
  readonly c: Tensor;
}

/** How an LSTM runs. */
export interface LstmOptions {
  /** Frames of each sample, from 1 to T; all T by default. */
  readonly lengths?: readonly number[];
  /** Zeros by default. Gradients reach it. */
  readonly state?: LstmState;
  /** With one direction: from each sample's last frame to its first. Of two the second does so in any case. */
  readonly reverse?: boolean;
}

const WEIGHTS = keysOf<LstmWeights>({ weightIh: true, weightHh: true, biasIh: true, biasHh: true });
const OPTIONS = keysOf<LstmOptions>({ lengths: true, state: true, reverse: true });

/** What an LSTM gives. */
export interface LstmOutput extends LstmState {
  /** h at every frame, the directions side by side: (B, T, D·H). */
  readonly y: Tensor;
}

/**
 * One layer of an LSTM, as torch.nn.LSTM on packed sequences: i, f, o = σ(x·Wih + bih + h·Whh + bhh), g = tanh(the same),
 * c' = f·c + i·g, h' = o·tanh(c').
 *
 *   x (B, T, K)   →   y (B, T, D·H)   h, c (D, B, H): after each sample's last frame, or its first where reversed
 *
 * D is 1 or 2 by the weights. Frames from a sample's length on are 0 in y. f32; the same bits every run, and a sample's are the
 * same in any batch on one path of one adapter. Throws where shapes or lengths do not fit.
 */
export function lstm(x: Tensor, weights: LstmWeights, options: LstmOptions = {}): LstmOutput {
  const { B, T, K, H, D, lengths } = checkLstm(x, weights, options);
  const { weightIh, weightHh: w, biasIh, biasHh } = weights;
  const { state } = options;
  const bias = biasIh && biasHh ? add(biasIh, biasHh) : (biasIh ?? biasHh);
  const inputs = [x, weightIh, w, bias, state?.h, state?.c].filter((t) => t !== undefined);
  const tracked = inputs.some(isTracked);
  const walk = walkOf(x, w, lengths, options);
  const ends = Tensor.from(x.device, Uint32Array.from(lengths), [B]);
  const N = D * 4 * H;

  const gates = x.like([B, T, N]);
  gemm(gates, x, weightIh, {
    ...{ M: B * T, N, K, transB: true, bias },
    ...{ a: { rowStride: K }, b: { rowStride: K }, y: { rowStride: N } },
  });
  const y = x.like([B, T, D * H]);
  const c = x.like([D, B, H]);
  const cells = x.like(tracked ? y.shape : [1]);
  const initial = { h0: state?.h ?? unread(w), c0: state?.c ?? unread(w) };
  walk.forward({ w, lengths: ends, gates, y, cN: c, cells, ...initial }, { saves: tracked ? 1 : 0 });
  // Of a single step y is h: by way of another shape, as the two are outputs of their own.
  const h = T === 1 && D === 1 ? y.reshaped([B * H]).reshaped([D, B, H]) : x.like([D, B, H]);
  if (h.memory !== y.memory) walk.over(h.size, "last", { savedY: y, lengths: ends, hN: h });

  const saved = [x, weightIh, w, gates, cells, y, ends, ...(state ? [state.h] : [])];
  recordAll("lstm", inputs, [y, h, c], saved, ([dy, dhN, dcN], needs) => {
    const wanted = new Set(inputs.filter((_, i) => needs[i]));
    const dgates = gates.like();
    const dc = dcN ? scale(dcN, 1) : full(x.device, c.shape, 0);
    walk.backward(
      {
        ...{ w, lengths: ends, savedGates: gates, savedCells: cells, dgates, dc },
        ...{ dy: dy ?? unread(w), dhN: dhN ?? unread(w) },
      },
      { hasDy: dy ? 1 : 0, hasDh: dhN ? 1 : 0 },
    );
    const dx = wanted.has(x) ? x.like() : undefined;
    if (dx)
      gemm(dx, dgates, weightIh, {
        ...{ M: B * T, N: K, K: N },
        ...{ a: { rowStride: N }, b: { rowStride: K }, y: { rowStride: K } },
      });
    const dweightIh = wanted.has(weightIh) ? weightIh.like() : undefined;
    if (dweightIh)
      gemm(dweightIh, dgates, x, {
        ...{ M: N, N: K, K: B * T, transA: true },
        ...{ a: { rowStride: N }, b: { rowStride: K }, y: { rowStride: K } },
      });
    const dw = wanted.has(w) ? w.like() : undefined;
    if (dw) {
      const before = y.like();
      walk.over(before.size, "previous", { savedY: y, h0: initial.h0, lengths: ends, before });
      gemm(dw, dgates, before, {
        ...{ M: 4 * H, N: H, K: B * T, batch: D, transA: true },
        ...{ a: { rowStride: N, batchStride: 4 * H }, b: { rowStride: D * H, batchStride: H } },
        y: { rowStride: H, batchStride: 4 * H * H },
      });
    }
    const dbias = bias && wanted.has(bias) ? columnSum(dgates.reshaped([B * T, N])) : undefined;
    const dh0 = state && wanted.has(state.h) ? state.h.like() : undefined;
    if (dh0) walk.initial({ w, lengths: ends, dgates, dh0 });
    return [dx, dweightIh, dw, ...(bias ? [dbias] : []), ...(state ? [dh0, dc] : [])];
  });
  return { y, h, c };
}

type Bindings = Parameters<typeof k.run>[1];
type Dims = Parameters<typeof k.run>[2];

/** The dispatches of a layer. Steps go one after the other, each a dispatch, or all in one. */
function walkOf(x: Tensor, w: Tensor, lengths: readonly number[], { state, reverse }: LstmOptions) {
  const [B, T] = x.shape;
  const H = w.shape[1];
  const D = w.shape[0] / (4 * H);
  const { rows, units, whole, flags } = launch(x.device, "lstm", { B, D, H });
  const tiles = { forward: Math.ceil(H / units.forward), backward: Math.ceil(H / units.backward) };
  const dims = {
    ...{ B, T, H, D, reversed: D === 2 ? 2 : reverse ? 1 : 0, first: 0, steps: 1, tiles: 0 },
    ...{ hasState: state ? 1 : 0, saves: 0, hasDy: 0, hasDh: 0 },
  };
  const longest = lengths.reduce((most, length) => Math.max(most, length), 0);
  const blocks = Math.ceil(B / rows);
  const run = (entry: "forward" | "backward", bound: Bindings, own: Dims, first: number, steps: number) =>
    k.run(
      ...([entry, bound, { ...dims, tiles: tiles[entry], ...own, first, steps }] as const),
      [whole ? 1 : tiles[entry], blocks, D],
      { flags },
    );
  return {
    forward(bound: Bindings, own: Dims): void {
      const each = whole ? 0 : longest;
      for (let s = 0; s < each; s++) run("forward", bound, own, s, 1);
      if (each < T) run("forward", bound, own, each, T - each);
    },
    backward(bound: Bindings, own: Dims): void {
      const each = whole ? 0 : longest;
      if (each < T) run("backward", bound, own, T - 1, T - each);
      for (let s = each - 1; s >= 0; s--) run("backward", bound, own, s, 1);
    },
    initial(bound: Bindings): void {
      k.run("backward_initial", bound, dims, [tiles.backward, blocks, D], { flags });
    },
    /** A thread to each V of `size` numbers. */
    over(size: number, entry: "last" | "previous", bound: Bindings): void {
      k.run(entry, bound, dims, gridFor(flags.vec ? size / 4 : size, 64), { flags });
    },
  };
}

function checkLstm(x: Tensor, weights: LstmWeights, options: LstmOptions) {
  checkOptions("run lstm", options, OPTIONS);
  checkOptions("run lstm", weights, WEIGHTS, "weights");
  const { weightIh, weightHh, biasIh, biasHh } = weights;
  const { state, reverse } = options;
  const optional = { ...(biasIh && { biasIh }), ...(biasHh && { biasHh }) };
  checkF32("lstm", { x, weightIh, weightHh, ...optional, ...(state && { h: state.h, c: state.c }) });
  checkShape("lstm", "x", x.shape, [-1, -1, -1]);
  checkShape("lstm", "weightHh", weightHh.shape, [-1, -1]);
  const [B, T, K] = x.shape;
  const [N, H] = weightHh.shape;
  const D = N / (4 * H);
  if (D !== 1 && D !== 2)
    throw new TypeError(
      `Cannot run lstm: weightHh is ${showShape(weightHh.shape)} but should be (${4 * H}, ${H}) or, of two directions, (${8 * H}, ${H})`,
    );
  checkShape("lstm", "weightIh", weightIh.shape, [N, K]);
  for (const [name, bias] of Object.entries(optional)) checkShape("lstm", name, bias.shape, [N]);
  if (state) {
    checkShape("lstm", "h", state.h.shape, [D, B, H]);
    checkShape("lstm", "c", state.c.shape, [D, B, H]);
  }
  if (D === 2 && reverse)
    throw new TypeError("Cannot run lstm: reverse is for one direction; the weights have two");
  if (B === 0 || T === 0)
    throw new RangeError(`Cannot run lstm: x is ${showShape(x.shape)}, which has no frame`);
  const { lengths = Array<number>(B).fill(T) } = options;
  if (!Array.isArray(lengths) || lengths.length !== B)
    throw new TypeError(
      `Cannot run lstm: lengths are ${Array.isArray(lengths) ? lengths.length : describeValue(lengths)} but should be ${B}, one for each sample`,
    );
  for (const [b, length] of lengths.entries())
    if (!Number.isInteger(length) || length < 1 || length > T)
      throw new RangeError(
        `Cannot run lstm: length ${b} is ${describeValue(length)} but should be from 1 to ${T}`,
      );
  return { B, T, K, H, D, lengths };
}

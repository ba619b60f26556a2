/**
 * 1-D convolution over channels-last frames. A window of k frames is k·C contiguous floats, so the convolution is a
 * matrix product whose rows of A overlap; only groups, padding, dilation and odd channel counts cost a copy first.
 */
import { checkOptions } from "../io/checks.ts";
import { type Costed, moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, showShape, sizeOf } from "../tensor/shape.ts";
import { isTracked, record } from "../tensor/tape.ts";
import { elementFlags, type Tensor } from "../tensor/tensor.ts";
import { gemm } from "./matmul.ts";
import { columnSum } from "./reduce.ts";

const copied = ({ bytes }: Costed) => ({ flops: 0, bytes: moved(bytes, "x", "y") });

const kernel = twin("conv1d", {
  unfold: copied,
  // Every element of x is added to one of y.
  fold: (given) => ({ ...copied(given), flops: given.size("x") }),
  regroup: copied,
  pack: copied,
  unpack: copied,
  turn: copied,
});

/** As torch.nn.functional.conv1d's. */
export interface ConvOptions {
  /** Frames from one window to the next; 1 by default. */
  readonly stride?: number;
  /** Zero frames on both sides; 0 by default. */
  readonly padding?: number;
  /** Frames from one tap of the kernel to the next; 1 by default. */
  readonly dilation?: number;
  /** Of channels, each convolved by itself; 1 by default. */
  readonly groups?: number;
  /** Frames cut off the end of the result: HuBERT's even positional kernel drops one. */
  readonly drop?: number;
}

const OPTIONS: readonly (keyof ConvOptions)[] = ["stride", "padding", "dilation", "groups", "drop"];

interface Geometry {
  readonly B: number;
  readonly T: number;
  readonly C: number;
  readonly G: number;
  readonly To: number;
  readonly k: number;
  readonly Kp: number;
  readonly stride: number;
  readonly padding: number;
  readonly dilation: number;
  readonly O: number;
}

function copy(entry: string, x: Tensor, shape: readonly number[], g: Geometry): Tensor {
  const y = x.like(shape, x.dtype);
  const size = sizeOf(shape);
  const overrides = launch(x.device, "conv1d");
  kernel.run(entry, { x, y }, { size, ...g }, gridFor(size, overrides.WG), {
    flags: elementFlags(x),
    overrides,
  });
  return y;
}

/** Output frames: ⌊(T + 2·padding − dilation·(k − 1) − 1)/stride⌋ + 1. */
export const convFrames = (T: number, k: number, stride = 1, padding = 0, dilation = 1): number =>
  Math.floor((T + 2 * padding - dilation * (k - 1) - 1) / stride) + 1;

/** A weight in the order of an unfolded row.   w (O, C/groups, k) → (O, k·C/groups, padded to a multiple of 4) */
export function packWeight(w: Tensor, groups = 1): Tensor {
  const [O, Cg, k] = w.shape;
  const Kp = Math.ceil((k * Cg) / 4) * 4;
  const g: Geometry = {
    B: 1,
    T: 1,
    C: Cg * groups,
    G: groups,
    To: 1,
    k,
    Kp,
    stride: 1,
    padding: 0,
    dilation: 1,
    O,
  };
  const y = copy("pack", w, [O, Kp], g);
  return record("packWeight", [w], y, [], (dy) => [copy("unpack", dy, w.shape, g)]);
}

/**
 * y[t] = Σ w[:, c, j]·x[t·stride + j·dilation − padding, c] + b, within each group of channels.
 *
 *   x (B, T, C)   w (O, C/groups, k)   b (O)   →   y (B, To, O)
 *
 * `packed` is packWeight(w), for callers who keep it; its gradient then reaches w through packWeight's own record.
 */
export function conv1d(
  x: Tensor,
  w: Tensor,
  b: Tensor | undefined,
  options: ConvOptions = {},
  packed: Tensor = packWeight(w, options.groups),
): Tensor {
  checkOptions("run conv1d", options, OPTIONS);
  const { stride = 1, padding = 0, dilation = 1, groups: G = 1, drop = 0 } = options;
  checkShape("conv1d", "x", x.shape, [-1, -1, -1]);
  const [B, T, C] = x.shape;
  const [O, Cg, k] = w.shape;
  if (w.shape.length !== 3 || Cg * G !== C || O % G !== 0) {
    throw new TypeError(
      `Cannot run conv1d: w is ${showShape(w.shape)}, x is ${showShape(x.shape)} and there are ${G} groups`,
    );
  }
  if (b) checkShape("conv1d", "b", b.shape, [O]);
  if (isTracked(w) && !isTracked(packed))
    throw new Error(
      "Cannot run conv1d: w is tracked but packed is not; call packWeight(w) while the tape runs",
    );
  const To = convFrames(T, k, stride, padding, dilation) - drop;
  if (To < 1) throw new RangeError(`Cannot run conv1d: ${T} frames are too few for a kernel of ${k}`);
  const Kp = packed.shape[1];
  const Og = O / G;
  const g: Geometry = { B, T, C, G, To, k, Kp, stride, padding, dilation, O };
  // Rows of the unfolded matrix: the frames themselves, overlapping, where no groups, padding or dilation need a copy.
  // Kernels load four floats at a time, so rows must begin at multiples of four.
  const whole = G === 1 && padding === 0 && [stride * Cg, k * Cg, T * Cg].every((n) => n % 4 === 0);
  const overlap = (Cg % 4 === 0 || whole) && dilation === 1;
  const Tp = overlap ? (G === 1 && padding === 0 ? T : (To - 1) * stride + k) : To;
  const regrouped = { ...g, To: Tp };
  const a = !overlap
    ? copy("unfold", x, [G, B, To, Kp], g)
    : Tp === T && G === 1 && padding === 0
      ? x
      : copy("regroup", x, [G, B, Tp, Cg], regrouped);
  const aRows = overlap
    ? { rowStride: stride * Cg, segmentRows: To, segmentStride: Tp * Cg, batchStride: B * Tp * Cg }
    : { rowStride: Kp, batchStride: B * To * Kp };
  const M = B * To;
  const y = x.like([B, To, O]);
  const out = { rowStride: O, batchStride: Og };
  gemm(y, a, packed, {
    M,
    N: Og,
    K: Kp,
    batch: G,
    transB: true,
    a: aRows,
    b: { rowStride: Kp, batchStride: Og * Kp },
    y: out,
    bias: b,
  });
  return record("conv1d", [x, packed, ...(b ? [b] : [])], y, [a, packed, w], (dy, needs) => {
    const db = b && needs[2] ? columnSum(dy.reshaped([M, O])) : undefined;
    const dPacked = needs[1] ? packed.like() : undefined;
    if (dPacked) {
      gemm(dPacked, dy, a, {
        M: Og,
        N: Kp,
        K: M,
        batch: G,
        transA: true,
        a: { rowStride: O, batchStride: Og },
        b: aRows,
        y: { rowStride: Kp, batchStride: Og * Kp },
      });
    }
    const dx = needs[0] ? inputGradient(dy, w, packed, g, x) : undefined;
    return [dx, dPacked, ...(b ? [db] : [])];
  });
}

function inputGradient(dy: Tensor, w: Tensor, packed: Tensor, g: Geometry, x: Tensor): Tensor {
  const { B, T, C, G, To, k, Kp, stride, padding, dilation, O } = g;
  const [Og, Cg, M] = [O / G, C / G, B * To];
  if (stride === 1 && dilation === 1 && Og % 4 === 0 && padding < k) {
    // A convolution again: dy padded by k - 1, taps reversed, ins and outs exchanged. Nothing of size To·k·C is made.
    const front = k - 1 - padding;
    const Tp = T + k - 1;
    const turned = copy("turn", w, [C, k * Og], g);
    const dyg = copy("regroup", dy, [G, B, Tp, Og], { ...g, T: To, C: O, To: Tp, padding: front });
    const dx = x.like();
    gemm(dx, dyg, turned, {
      M: B * T,
      N: Cg,
      K: k * Og,
      batch: G,
      transB: true,
      a: { rowStride: Og, segmentRows: T, segmentStride: Tp * Og, batchStride: B * Tp * Og },
      b: { rowStride: k * Og, batchStride: Cg * k * Og },
      y: { rowStride: C, batchStride: Cg },
    });
    return dx;
  }
  const columns = x.like([G, B, To, Kp]);
  gemm(columns, dy, packed, {
    M,
    N: Kp,
    K: Og,
    batch: G,
    a: { rowStride: O, batchStride: Og },
    b: { rowStride: Kp, batchStride: Og * Kp },
    y: { rowStride: Kp, batchStride: M * Kp },
  });
  return copy("fold", columns, x.shape, g);
}

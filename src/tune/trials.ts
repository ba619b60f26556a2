/** What is run to measure a launch choice: the operator that makes it, on noise, of the sizes that it was asked with. */
import type { LaunchSizes } from "../gpu/choices.ts";
import type { Device } from "../gpu/device.ts";
import type { Tunable } from "../gpu/tunable.ts";

import { gelu } from "../ops/activation.ts";
import { crossAttention } from "../ops/attention.ts";
import { convert } from "../ops/convert.ts";
import { dropout } from "../ops/dropout.ts";
import { add, mul, scale } from "../ops/elementwise.ts";
import { layerNorm } from "../ops/layer_norm.ts";
import { gemm } from "../ops/matmul.ts";
import { mse } from "../ops/mse.ts";
import { adamStep, clipNorm } from "../ops/optimizer.ts";
import { columnSum, dot } from "../ops/reduce.ts";
import { softmax } from "../ops/softmax.ts";
import { softplus } from "../ops/softplus.ts";
import { weightNorm } from "../ops/weight_norm.ts";
import { normal } from "../records/float64.ts";
import { accumulate } from "../tensor/accumulate.ts";
import { vjp } from "../tensor/autograd.ts";
import { scope } from "../tensor/scope.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Something to be run by one value of a choice and by another. */
export interface Trial {
  /** Records the work, and returns results that must not depend on the choice. What it makes belongs to the scope around it. */
  readonly run: () => readonly Tensor[];
  /** The only kernel whose time counts, where others merely prepare; by the GPU's clock. All by default. */
  readonly kernel?: string;
  /** Largest relative L2 distance between the results of two values. */
  readonly tolerance: number;
}

/** Distance from float64 that the operators state. */
const STATED = 2e-6;
/** The same of sums of f16 products, which matrices of subgroups round in ways of their own. */
const MATRICES = 1e-5;
/** That of attention's gradients. */
const ATTENTION = 5e-6;
/** Width of rows where a choice depends on their number alone: that of the encoders. */
const WIDTH = 1024;
const PERIOD = 65_537;

/** Normal numbers, the same ones over and over: a prime's length apart, so that rows differ. */
function noise(device: Device, shape: Shape, seed: number): Tensor {
  const data = new Float32Array(sizeOf(shape));
  const drawn = normal(Math.min(data.length, PERIOD), seed);
  for (let at = 0; at < data.length; at += drawn.length)
    data.set(data.length - at < drawn.length ? drawn.subarray(0, data.length - at) : drawn, at);
  return Tensor.from(device, data, shape);
}

type Numbers = Readonly<Record<string, number>>;

function product(device: Device, sizes: LaunchSizes, matrices = false): Trial {
  const { M, N, K, batch = 1 } = sizes as Numbers;
  const { transA = false, transB = false } = sizes as Readonly<Record<string, boolean>>;
  const a = noise(device, [batch, transA ? K : M, transA ? M : K], 1);
  const full = noise(device, [batch, transB ? N : K, transB ? K : N], 2);
  const b = sizes.W === "f16" ? convert(full, "F32", full.shape, "f16") : full;
  const layout = (rows: number, rowStride: number) => ({ rowStride, batchStride: rows * rowStride });
  const given = {
    ...{ M, N, K, batch, transA, transB, allowF16: matrices },
    a: transA ? layout(K, M) : layout(M, K),
    b: transB ? layout(N, K) : layout(K, N),
    y: layout(M, N),
  };
  return {
    run: () => {
      const y = Tensor.empty(device, [batch, M, N]);
      gemm(y, a, b, given);
      return [y];
    },
    // Sums of K products: each order has an error of its own, which grows as √K.
    tolerance: (matrices ? MATRICES : STATED) * Math.max(1, Math.sqrt(K / 1024)),
  };
}

/** A kernel that goes over `quads` quads of some tensors: what it makes of each element is the same however they are shared out. */
const over =
  (run: (x: Tensor, y: Tensor) => Tensor) =>
  (device: Device, sizes: LaunchSizes): Trial => {
    const { quads } = sizes as { readonly quads: number };
    const [x, y] = [noise(device, [quads, 4], 1), noise(device, [quads, 4], 2)];
    return { run: () => [run(x, y)], tolerance: STATED };
  };

/** Forward and backward, of one sample that has all heads. */
function attended(device: Device, sizes: LaunchSizes): Trial {
  const { D, heads, Tq, Tk } = sizes as Numbers;
  const C = heads * D;
  const [q, kv, dy] = [
    noise(device, [1, Tq, C], 1),
    noise(device, [1, Tk, 2 * C], 2),
    noise(device, [1, Tq, C], 3),
  ];
  const run = () => {
    const { outputs, gradients } = vjp(device, [q, kv], () => ({
      outputs: [crossAttention(q, kv, { heads })],
      cotangents: [dy],
    }));
    return [...outputs, ...gradients.values()];
  };
  return { run, kernel: "attention", tolerance: ATTENTION };
}

/** An update of Adam's from the same state each time. */
function adam(device: Device, sizes: LaunchSizes): Trial {
  const shape = [4 * (sizes as Numbers).quads];
  const [p, g, m, v] = [1, 2, 3, 4].map((seed) => noise(device, shape, seed));
  const squares = scope(device, () => mul(v, v));
  const clip = clipNorm(device, [g]);
  const settings = { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01, decoupled: true };
  const run = () => {
    const [p1, m1, v1] = [p, m, squares].map((x) => scale(x, 1));
    adamStep(p1, g, m1, v1, clip, { ...settings, rate: 1e-3, step: 10 });
    return [p1, m1, v1];
  };
  return { run, kernel: "optimizer", tolerance: STATED };
}

/** The sum of many rows: its error grows with their root, and the sum of normal numbers no faster. */
const ofRows = (rows: number): number => STATED * Math.max(1, Math.sqrt(rows / 1024));

const TRIALS: { readonly [C in Tunable]: (device: Device, sizes: LaunchSizes) => Trial } = {
  accumulate: over((x, y) => accumulate(x, y)),
  activation: over((x) => gelu(x)),
  attention: attended,
  broadcast(device, sizes) {
    const { quads } = sizes as Numbers;
    const [large, small] = [noise(device, [quads, 4], 1), noise(device, [4], 2)];
    return { run: () => [add(large, small)], tolerance: STATED };
  },
  convert: over((x) => convert(x, "F32", x.shape, "f32")),
  dropout: over((x) => dropout(x, 0.1, { next: () => 5 })),
  elementwise: over((x, y) => add(x, y)),
  layer_norm(device, sizes) {
    const { N, C } = sizes as Numbers;
    const [x, dy] = [noise(device, [N, C], 1), noise(device, [N, C], 2)];
    const [w, b] = [noise(device, [C], 3), noise(device, [C], 4)];
    const run = () => {
      const { outputs, gradients } = vjp(device, [x, w, b], () => ({
        outputs: [layerNorm(x, w, b, 1e-5)],
        cotangents: [dy],
      }));
      return [...outputs, ...gradients.values()];
    };
    return { run, kernel: "layer_norm", tolerance: ofRows(N) };
  },
  "layer_norm.backward_params"(device, sizes) {
    const { N } = sizes as Numbers;
    const [x, dy] = [noise(device, [N, WIDTH], 1), noise(device, [N, WIDTH], 2)];
    const [w, b] = [noise(device, [WIDTH], 3), noise(device, [WIDTH], 4)];
    const run = () => {
      const { gradients } = vjp(device, [w, b], () => ({
        outputs: [layerNorm(x, w, b, 1e-5)],
        cotangents: [dy],
      }));
      return [...gradients.values()];
    };
    return { run, tolerance: ofRows(N) };
  },
  matmul: (device, sizes) => product(device, sizes),
  matmul_matrices: (device, sizes) => product(device, sizes, true),
  mse: over((x, y) => mse(x, y, { reduction: "none" })),
  optimizer: adam,
  "reduce.columns"(device, sizes) {
    const { rows } = sizes as Numbers;
    const x = noise(device, [rows, WIDTH], 1);
    return { run: () => [columnSum(x)], tolerance: ofRows(rows) };
  },
  "reduce.dots"(device, sizes) {
    const { size } = sizes as Numbers;
    // Of a tensor with itself: a sum that is not nearly 0.
    const x = noise(device, [size], 1);
    return { run: () => [dot(x, x)], tolerance: ofRows(size) };
  },
  softmax(device, sizes) {
    const { N, C } = sizes as Numbers;
    const x = noise(device, [N, C], 1);
    return { run: () => [softmax(x)], tolerance: STATED };
  },
  softplus: over((x) => softplus(x)),
  "weight_norm.dots"(device, sizes) {
    const { rows } = sizes as Numbers;
    const [v, g] = [noise(device, [1, rows, 128], 1), noise(device, [1, 1, 128], 2)];
    return { run: () => [weightNorm(v, g)], tolerance: ofRows(rows) };
  },
};

/** What `choice` is measured by at these sizes; its tensors belong to the scope around it. */
export const trialOf = (device: Device, choice: Tunable, sizes: LaunchSizes): Trial =>
  TRIALS[choice](device, sizes);

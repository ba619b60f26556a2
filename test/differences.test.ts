import { test } from "node:test";
import { activation, type ActivationKind } from "../src/ops/activation.ts";
import { crossAttention, selfAttention } from "../src/ops/attention.ts";
import { conv1d, packWeight } from "../src/ops/conv1d.ts";
import { dropout } from "../src/ops/dropout.ts";
import { add, mul, reshape, scale } from "../src/ops/elementwise.ts";
import { embedding } from "../src/ops/embedding.ts";
import { concat, maskRows, slice, transpose } from "../src/ops/frames.ts";
import { groupNorm } from "../src/ops/group_norm.ts";
import { layerNorm } from "../src/ops/layer_norm.ts";
import { linear, matmul } from "../src/ops/matmul.ts";
import { maskedMean } from "../src/ops/reduce.ts";
import { blend, join } from "../src/ops/sigmoid_gate.ts";
import { weightNorm } from "../src/ops/weight_norm.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { type CheckedInput, checkGradients } from "./gradcheck.ts";

const device = await testDevice();
const flags = (values: number[], shape: number[]) => Tensor.from(device, Uint32Array.from(values), shape);
const keys = flags([1, 1, 0, 1, 1, 1, 1, 0, 0, 0], [2, 5]);
const rows = flags([1, 0, 1, 1, 0, 1], [2, 3]);

/** Every op with a gradient of its own that ctc, cross_entropy and softmax tests do not check already. */
const ops: readonly [name: string, op: (...x: Tensor[]) => Tensor, inputs: CheckedInput[]][] = [
  ...(["gelu", "gelu_tanh", "tanh", "sigmoid"] as ActivationKind[]).map(
    (kind): [string, (x: Tensor) => Tensor, CheckedInput[]] => [kind, (x) => activation(x, kind), [[3, 7]]],
  ),
  [
    "linear with bias and residual",
    (x, w, b, r) => linear(x, w, b, { residual: r }),
    [[5, 6], [3, 6], [3], [5, 3]],
  ],
  ["linear with gelu", (x, w, b) => linear(x, w, b, { activation: "gelu" }), [[4, 8], [8, 8], [8]]],
  [
    "matmul",
    (a, b) => matmul(a, b, { alpha: 0.5 }),
    [
      [2, 3, 5],
      [2, 5, 7],
    ],
  ],
  [
    "matmul transposed",
    (a, b) => matmul(a, b, { transB: true }),
    [
      [2, 3, 8],
      [2, 4, 8],
    ],
  ],
  ["conv1d strided", (x, w, b) => conv1d(x, w, b, { stride: 2 }, packWeight(w)), [[2, 9, 4], [8, 4, 3], [8]]],
  [
    "conv1d grouped and padded",
    (x, w) => conv1d(x, w, undefined, { groups: 2, padding: 2, drop: 1 }, packWeight(w, 2)),
    [
      [1, 7, 8],
      [8, 4, 4],
    ],
  ],
  [
    "conv1d dilated, odd",
    (x, w) => conv1d(x, w, undefined, { dilation: 2, padding: 1 }, packWeight(w)),
    [
      [1, 9, 3],
      [5, 3, 3],
    ],
  ],
  ["self-attention", (x) => selfAttention(x, { heads: 2, mask: keys }), [[2, 5, 24]]],
  [
    "cross-attention",
    (q, kv) => crossAttention(q, kv, { heads: 1, mask: keys }),
    [
      [2, 3, 5],
      [2, 5, 10],
    ],
  ],
  [
    "attention with dropout",
    (x) => selfAttention(x, { heads: 1, dropout: { rate: 0.3, seed: 9 } }),
    [[1, 6, 12]],
  ],
  ["layer norm", (x, w, b) => layerNorm(x, w, b, 1e-5), [[4, 7], [7], [7]]],
  ["group norm", (x, w, b) => groupNorm(x, w, b, 2, 1e-5), [[2, 5, 4], [4], [4]]],
  [
    "weight norm",
    (v, g) => weightNorm(v, g),
    [
      [4, 3, 5],
      [1, 1, 5],
    ],
  ],
  ["embedding", (w) => embedding(w, [1, 4, 1, 0], [2, 2]), [[5, 3]]],
  [
    "join",
    (s, c) => join(s, c, true),
    [
      [2, 3, 4],
      [2, 3, 4],
    ],
  ],
  [
    "blend",
    (s, c, g) => blend(s, c, g),
    [
      [2, 3, 4],
      [2, 3, 4],
      [2, 3, 4],
    ],
  ],
  [
    "blend, bounded and pooled",
    (s, c, g) => blend(s, c, g, true),
    [
      [2, 3, 4],
      [2, 3, 4],
      [2, 1, 4],
    ],
  ],
  ["masked mean", (x) => maskedMean(x, rows), [[2, 3, 5]]],
  ["dropout", (x) => dropout(x, 0.4, { next: () => 123 }), [[5, 7]]],
  [
    "add",
    (a, b) => add(a, b, 2, -3),
    [
      [3, 5],
      [3, 5],
    ],
  ],
  [
    "mul",
    (a, b) => mul(a, b),
    [
      [3, 5],
      [3, 5],
    ],
  ],
  ["scale", (a) => scale(a, -1.5), [[7]]],
  ["reshape", (a) => reshape(a, [5, 3]), [[3, 5]]],
  [
    "concat",
    (a, b) => concat([a, b]),
    [
      [2, 3],
      [2, 4],
    ],
  ],
  ["slice", (a) => slice(a, 1, 2), [[3, 5]]],
  ["transpose", (a) => transpose(a), [[2, 3, 5]]],
  ["maskRows with a fill", (x, f) => maskRows(x, rows, f), [[2, 3, 4], [4]]],
];

for (const [name, op, inputs] of ops) {
  test(`${name} has the gradient that finite differences measure`, () => checkGradients(device, op, inputs));
}

test("relu has the gradient that finite differences measure away from its kink", async () => {
  const data = Float32Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? 1 : -1) * (0.5 + i / 12));
  await checkGradients(device, (x) => activation(x, "relu"), [{ shape: [3, 4], data }]);
});

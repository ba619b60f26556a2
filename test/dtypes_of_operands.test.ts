/** Tensors of a dtype that an operator does not read: their bits would be taken for another number. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { twin } from "../src/gpu/kernel.ts";
import * as ops from "../src/ops/mod.ts";
import { scope } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const f32 = (...shape: Shape) => Tensor.from(device, new Float32Array(sizeOf(shape)).fill(1), shape);
const i32 = (...shape: Shape) => Tensor.from(device, new Int32Array(sizeOf(shape)).fill(1), shape);
const u32 = (...shape: Shape) => Tensor.from(device, new Uint32Array(sizeOf(shape)).fill(1), shape);

test("operators refuse i32 where they compute in f32", () => {
  const calls: Record<string, () => unknown> = {
    "matmul.forward: a": () => ops.matmul(i32(4, 4), f32(4, 4)),
    "matmul.forward: b": () => ops.matmul(f32(4, 4), i32(4, 4)),
    "matmul.forward: bias": () => ops.linear(f32(4, 4), f32(4, 4), i32(4)),
    "softmax.forward: logits": () => ops.softmax(i32(2, 3)),
    "layer_norm.forward: x": () => ops.layerNorm(i32(2, 4), f32(4), f32(4), 1e-5),
    "layer_norm.forward: w": () => ops.layerNorm(f32(2, 3), i32(3), f32(3), 1e-5),
    "group_norm.forward: b": () => ops.groupNorm(f32(1, 2, 4), f32(4), i32(4), 2, 1e-5),
    "conv1d.pack: x": () => ops.conv1d(f32(1, 5, 4), i32(4, 4, 3), undefined),
    "cross_entropy.rows: logits": () => ops.crossEntropy(i32(2, 3), [0, 1]),
    "ctc.measure: logits": () => ops.ctcLoss(i32(1, 4, 3), [[1]], [4]),
    "selfAttention: qkv": () => ops.selfAttention(i32(1, 2, 12), { heads: 1 }),
    "crossAttention: kv": () => ops.crossAttention(f32(1, 2, 4), i32(1, 2, 8), { heads: 1 }),
    "reduce.mean_time: x": () => ops.maskedMean(i32(1, 2, 3), u32(1, 2)),
    "dropout.forward: x": () => ops.dropout(i32(4), 0.5, { next: () => 1 }),
    "embedding.forward: w": () => ops.embedding(i32(4, 4), [0], [1]),
    "frames.concat: x": () => ops.concat([i32(2, 3), i32(2, 3)]),
    "frames.slice: x": () => ops.slice(i32(2, 3), 0, 1),
    "transpose.forward: x": () => ops.transpose(i32(1, 2, 3)),
    "sigmoid_gate.concat_pair: c": () => ops.concatPair(f32(2, 3), i32(2, 3)),
    "weight_norm.dots: v": () => ops.weightNorm(i32(2, 3, 4), f32(1, 1, 4)),
  };
  for (const [where, call] of Object.entries(calls))
    assert.throws(() => scope(device, call as () => undefined), {
      name: "TypeError",
      message: `Cannot run ${where} is i32 but should be f32`,
    });
  assert.throws(
    () => scope(device, () => ops.linear(f32(3, 3), f32(3, 3), f32(3), { residual: i32(3, 3) })),
    {
      name: "TypeError",
      message: "Cannot run linear: residual is i32 but should be f32, as the result is",
    },
  );
  assert.throws(() => scope(device, () => ops.halved(i32(4))), {
    message: "Cannot run halved: w is i32 but should be f32",
  });
});

test("operators refuse operands of which one is f16 and another f32", (t) => {
  if (!device.info.f16) return t.skip(`${device.info.name} has no f16`);
  const f16 = (...shape: Shape) => ops.full(device, shape, 1, "f16");
  const calls: Record<string, () => unknown> = {
    "add: b is f32 but should be f16, as a is": () => ops.add(f16(4), f32(4)),
    "mul: b is f16 but should be f32": () => ops.mul(f32(4), f16(4)),
    "div: b is f32 but should be f16, as a is": () => ops.div(f16(2, 4), f32(4)),
    "mse: target is f16 but should be f32": () => ops.mse(f32(4), f16(4)),
    "frames.concat: x is f16 but should be f32": () => ops.concat([f32(2, 3), f16(2, 3)]),
    "layer_norm.forward: w is f16 but should be f32": () => ops.layerNorm(f16(2, 4), f16(4), f32(4), 1e-5),
    "sigmoid_gate.concat_pair: c is f32 but should be f16": () => ops.concatPair(f16(2, 3), f32(2, 3)),
    "embedding.forward: plus is f16 but should be f32": () =>
      ops.embedding(f32(4, 4), [0], [1], { plus: f16(1, 4), dtype: "f32" }),
  };
  for (const [message, call] of Object.entries(calls))
    assert.throws(() => scope(device, call as () => undefined), { message: `Cannot run ${message}` });
});

test("masks are u32: an additive one is refused, not read as 1 = keep", () => {
  const additive = (...shape: Shape) => Tensor.from(device, Float32Array.of(0, -Infinity), shape);
  const calls: Record<string, () => unknown> = {
    "attention.forward: mask": () => ops.selfAttention(f32(1, 2, 12), { heads: 1, mask: additive(1, 2) }),
    "reduce.mean_time: mask": () => ops.maskedMean(f32(1, 2, 3), additive(1, 2)),
    "frames.choose: keep": () => ops.maskRows(f32(2, 3), additive(2)),
    "softmax.forward: mask": () => ops.softmax(f32(3, 2), { mask: additive(2) }),
  };
  for (const [where, call] of Object.entries(calls))
    assert.throws(() => scope(device, call as () => undefined), {
      name: "TypeError",
      message: `Cannot run ${where} is f32 but should be u32`,
    });
});

test("an own kernel is held to its WGSL, and takes any bits as Bits", async () => {
  const source = (type: string) => `
    alias Bits = u32;
    @group(0) @binding(0) var<storage, read> x: array<${type}>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(2) fn main(@builtin(local_invocation_index) t: u32) { y[t] = f32(x[t]); }`;
  const y = f32(2);
  const x = Tensor.from(device, Float32Array.of(0, 2), [2]);
  assert.throws(() => twin("test/words", source("u32")).run("main", { x, y }, {}, [1]), {
    message:
      "Cannot run test/words.main: x is f32 but should be u32; array<Bits> after `alias Bits = u32` takes any",
  });
  twin("test/bits", source("Bits")).run("main", { x, y }, {}, [1]);
  assert.deepEqual(await y.read(), Float32Array.of(0, 0x40000000));
  for (const t of [x, y]) t.release();
});

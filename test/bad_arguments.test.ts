/** What plain JavaScript can pass and TypeScript would not let through, or cannot see: refused in one line. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { type Grid, twin, type Variant } from "../src/gpu/kernel.ts";
import { currentHost } from "../src/host/current.ts";
import * as ops from "../src/ops/mod.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { checkpoint } from "../src/tensor/checkpoint.ts";
import { gradcheck } from "../src/tensor/gradcheck.ts";
import { scope } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import { noGrad, record } from "../src/tensor/tape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { FLAGS } from "./elementwise_flags.ts";

const device = await testDevice();
const f32 = (...shape: Shape) => Tensor.from(device, new Float32Array(sizeOf(shape)).fill(1), shape);
const none = undefined as never;

/** Holds every call to its message, in a scope of its own. */
function refused(calls: Record<string, () => unknown>): void {
  for (const [message, call] of Object.entries(calls))
    assert.throws(() => scope(device, () => void call()), { message });
}

test("Tensor.from() and write() take the typed array of the dtype, and lengths that are whole", () => {
  const floats = new Float32Array(3);
  refused({
    "Cannot make a tensor from an Array: a Float32Array, Int32Array or Uint32Array expected": () =>
      Tensor.from(device, [1, 2, 3] as never, [3]),
    "Cannot make a tensor from a Float64Array: a Float32Array, Int32Array or Uint32Array expected": () =>
      Tensor.from(device, new Float64Array(3) as never, [3]),
    "Cannot make a tensor of shape (1.5, 2): lengths should be whole numbers from 0 on": () =>
      Tensor.from(device, floats, [1.5, 2]),
    "Cannot make a tensor of shape (-1, -3): lengths should be whole numbers from 0 on": () =>
      Tensor.from(device, floats, [-1, -3]),
    "Cannot make a tensor: its shape is undefined but should be an array of lengths": () =>
      Tensor.from(device, floats, none),
    "Cannot write an Int32Array to a tensor of f32: a Float32Array expected": () =>
      f32(3).write(new Int32Array(3)),
    "Cannot write an Array to a tensor of f32: a Float32Array expected": () => f32(2).write([1, 2] as never),
    "Cannot write a Float32Array to a tensor of u32: a Uint32Array expected": () =>
      Tensor.from(device, new Uint32Array(3), [3]).write(floats),
  });
  const x = f32(3);
  x.release();
  assert.throws(() => ops.scale(x, 2), {
    message: "Cannot use a tensor of shape (3): it was released, or its scope has ended",
  });
});

test("operators refuse values that they would take for others", () => {
  const [stream, logits] = [{ next: () => 1 }, f32(2, 3)];
  const [q, w] = [f32(1, 2, 30), f32(4)];
  const activations = "should be one of gelu, gelu_tanh, tanh, relu, sigmoid";
  refused({
    "Cannot run dropout: the rate of dropout is 1.5 but should be from 0 to 1": () =>
      ops.dropout(logits, 1.5, stream),
    "Cannot run dropout: the rate of dropout is NaN but should be from 0 to 1": () =>
      ops.dropout(logits, Number.NaN, undefined),
    "Cannot run dropout: source is true but should be a stream of seeds, as trainingStream() makes": () =>
      ops.dropout(logits, 0.5, true as never),
    "Cannot run selfAttention: the rate of dropout is 2 but should be from 0 to 1": () =>
      ops.selfAttention(q, { heads: 1, dropout: { rate: 2, seed: 1 } }),
    "Cannot run selfAttention: a width of 10 does not divide into undefined heads": () =>
      ops.selfAttention(q, {} as never),
    "Cannot run selfAttention: qkv is (1, 2, 4) but its last axis should be q, k and v of one width": () =>
      ops.selfAttention(f32(1, 2, 4), { heads: 1 }),
    'Cannot run crossEntropy: reduction is "avg" but should be one of mean, sum, none': () =>
      ops.crossEntropy(logits, [0, 1], { reduction: "avg" as never }),
    'Cannot run ctcLoss: reduction is "avg" but should be one of mean, sum, none': () =>
      ops.ctcLoss(f32(1, 4, 3), [[1]], [4], { reduction: "avg" as never }),
    [`Cannot run linear: activation is "swish" but ${activations}`]: () =>
      ops.linear(f32(2, 4), f32(4, 4), undefined, { activation: "swish" as never }),
    [`Cannot run layerNorm: activation is "swish" but ${activations}`]: () =>
      ops.layerNorm(f32(2, 4), w, w, 1e-5, "swish" as never),
    [`Cannot run activation: activation is "swish" but ${activations}`]: () =>
      ops.activation(logits, "swish" as never),
    'Cannot run softmax: fill is "inf" but should be one of -inf, finfo.min; did you mean -inf?': () =>
      ops.softmax(logits, { fill: "inf" as never }),
    'Cannot run convert: to is "float16" but should be one of f32, f16': () =>
      ops.convert(logits, "F32", [2, 3], "float16" as never),
    "Cannot run layerNorm: eps is undefined but should be a number": () =>
      ops.layerNorm(f32(2, 4), w, w, none),
    "Cannot run groupNorm: eps is undefined but should be a number": () =>
      ops.groupNorm(f32(1, 2, 4), w, w, 2, none),
    "Cannot run add: b is undefined but should be a tensor": () => ops.add(logits, none),
    "Cannot run concat: parts are an Array but should be an array of one tensor or more": () =>
      ops.concat([]),
    "Cannot run embedding: ids are a Tensor but should be an array of numbers": () =>
      ops.embedding(logits, logits as never, [1]),
    "Cannot run matmul.forward: b is an Object but should be a tensor, as its value is": () =>
      ops.matmul(logits, { value: f32(3, 4), shape: [3, 4] } as never),
  });
  for (const t of [logits, q, w]) t.release();
});

test("operators refuse options that they do not have, and name the nearest", () => {
  const x = f32(2, 3);
  refused({
    "Cannot run mean: options is -1 but should be an object": () => ops.mean(x, -1 as never),
    "Cannot run mean: options has no dim; there are axis": () => ops.mean(x, { dim: -1 } as never),
    "Cannot run sum: options has no axes; did you mean axis?": () => ops.sum(x, { axes: -1 } as never),
    "Cannot run softmax: options has no axis; there are mask, fill, log": () =>
      ops.softmax(x, { axis: 0 } as never),
    "Cannot run crossEntropy: options has no label_smoothing; did you mean labelSmoothing?": () =>
      ops.crossEntropy(x, [0, 1], { label_smoothing: 0.1 } as never),
    "Cannot run matmul: options has no transposeB; there are transB, alpha": () =>
      ops.matmul(x, x, { transposeB: true } as never),
  });
  x.release();
});

test("Twin.run() refuses a variant, an override and a grid that it would not go by", () => {
  const y = f32(4);
  const run = (variant: Variant, grid: Grid = [1]) =>
    twin("elementwise", {}).run("fill", { y }, { quads: 1, alpha: 1, beta: 1 }, grid, {
      flags: FLAGS,
      ...variant,
    });
  run({});
  refused({
    "Cannot run elementwise.fill: options has no WG; there are flags, overrides": () =>
      run({ WG: 32 } as never),
    "Cannot run elementwise.fill: options has no override; did you mean overrides?": () =>
      run({ override: { WG: 32 } } as never),
    "Cannot run elementwise.fill: override WG is 32.5, a value of u32 expected": () =>
      run({ overrides: { WG: 32.5 } }),
    "Cannot run elementwise.fill: override WG is NaN, a value of u32 expected": () =>
      run({ overrides: { WG: Number.NaN } }),
    "Cannot run elementwise.fill: its grid is 1 but should be [x, y, z], numbers of workgroups": () =>
      run({}, 1 as never),
  });
  y.release();
});

test("openDevice() refuses a host that was not awaited, and options that there are not", async () => {
  const open = openDevice as (host: unknown, options?: object) => Promise<unknown>;
  const host = await currentHost();
  for (const [message, call] of Object.entries({
    "Cannot open a GPU: the host is undefined but should be what `await currentHost()` gives": () =>
      open(none),
    "Cannot open a GPU: the host is a Promise but should be what `await currentHost()` gives": () =>
      open(currentHost()),
    "Cannot open a GPU: options has no paht; did you mean path?": () => open(host, { paht: "cpu" }),
    "Cannot open a GPU: memoryLimit is NaN but should be a number of bytes": () =>
      open(host, { memoryLimit: Number.NaN }),
  }))
    await assert.rejects(call(), { message });
  const small = await testDevice({ memoryLimit: 1000 });
  assert.throws(() => Tensor.empty(small, [1000]), {
    message: "Cannot allocate 4096 bytes on the GPU: 0 bytes are in use and the limit is 1000 bytes",
  });
});

test("valueAndGrad() and record() name what they were given instead of arrays", () => {
  const x = f32(3);
  const loss = () => ops.sum(x);
  refused({
    "Cannot run valueAndGrad: its parameters are a Tensor but should be an array of tensors or Parameters":
      () => valueAndGrad(device, x as never, loss),
    "Cannot run valueAndGrad: its parameters are an Object but should be an array of tensors or Parameters, as its parameters are":
      () => valueAndGrad(device, { parameters: [x] } as never, loss),
    "Cannot run valueAndGrad: parameter 0 is undefined but should be a tensor or a Parameter": () =>
      valueAndGrad(device, [none], loss),
    "Cannot record mine: its inputs, saved tensors and backward are a Tensor, an Array, a function but should be an array, an array and a function":
      () => record("mine", x as never, x, [], () => []),
    "Cannot record mine: its inputs, saved tensors and backward are an Array, an Array, undefined but should be an array, an array and a function":
      () => record("mine", [x], x, [], none),
    "Cannot differentiate mine: its backward gave 2 gradients but should give an array of 1, one for each input":
      () =>
        valueAndGrad(device, [x], () => ops.sum(record("mine", [x], ops.scale(x, 1), [], (dy) => [dy, dy]))),
  });
  x.release();
});

test("bodies that return a Promise are refused: what they do later would happen outside", async () => {
  const later = (async () => 1) as never;
  const message = (name: string) => ({
    name: "TypeError",
    message: `Cannot run ${name}: its body returned a Promise, but must be synchronous`,
  });
  const x = f32(3);
  assert.throws(() => noGrad(device, later), message("noGrad"));
  assert.throws(() => checkpoint(device, [], later), message("checkpoint"));
  assert.throws(() => device.labelled("part", later), message("labelled"));
  await assert.rejects(device.precompile(later), message("precompile"));
  const inside = () => ops.add(ops.sum(x), noGrad(device, later));
  assert.throws(() => scope(device, () => valueAndGrad(device, [x], inside)), message("noGrad"));
  const part = () => ops.sum(checkpoint(device, [], later));
  assert.throws(() => scope(device, () => valueAndGrad(device, [x], part)), message("checkpoint"));
  x.release();
});

test("precompile() frees what its body made, also where that throws", async () => {
  const own = await testDevice();
  const body = () => void ops.scale(Tensor.from(own, new Float32Array(300), [300]), 2);
  await own.precompile(body);
  await assert.rejects(
    own.precompile(() => {
      body();
      throw new Error("stop");
    }),
    { message: "stop" },
  );
  assert.equal(own.pool.statistics.live, 0);
});

test("dispose() tells the debugging host how much nobody released", async () => {
  const lines: string[] = [];
  const host = { ...(await currentHost()), debug: (line: string) => void lines.push(line) };
  const leaky = await openDevice(host);
  Tensor.empty(leaky, [100]);
  leaky.dispose();
  const tidy = await openDevice(host);
  scope(tidy, () => void Tensor.empty(tidy, [100]));
  tidy.dispose();
  assert.deepEqual(lines, [
    "wavegate: 416 bytes of tensors were not released before their device was disposed",
  ]);
});

test("a profile is started once and ended once", async (t) => {
  await assert.rejects(device.endProfile(), {
    message: "Cannot end a profile: none is running, startProfile() first",
  });
  if (!device.info.timestamps) return t.diagnostic(`${device.info.name} has no timestamps`);
  device.startProfile();
  assert.throws(() => device.startProfile(), {
    message: "Cannot start a profile: one is running, endProfile() first",
  });
  await device.endProfile();
});

test("gradcheck() says so where rounding of the loss hides what it compares", async () => {
  const x = f32(2);
  const unmoved = () => {
    const y = noGrad(device, () => ops.sum(x));
    return ops.add(
      record("unmoved", [x], y, [], () => [ops.full(device, [2], 0)]),
      1e6,
    );
  };
  await assert.rejects(gradcheck(device, [x], unmoved), {
    message: /^Cannot confirm the gradient by parameter 0: along a direction it is at most \S+, and rounding/,
  });
  const tiny = () => ops.add(ops.scale(ops.sum(x), 1e-6), 1);
  await assert.rejects(gradcheck(device, [x], tiny), {
    message:
      /^Cannot confirm the gradient by any parameter: along a direction it is at most \S+, and rounding/,
  });
  assert.ok((await gradcheck(device, [x], () => ops.sum(ops.mul(x, x)))) < 1e-2);
  x.release();
});

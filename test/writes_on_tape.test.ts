/** Writes to what a tape has, and parts that run twice: errors, where gradients would be wrong in silence. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { twin } from "../src/gpu/kernel.ts";
import { replayable } from "../src/nn/mode.ts";
import * as ops from "../src/ops/mod.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { checkpoint } from "../src/tensor/checkpoint.ts";
import { scope } from "../src/tensor/scope.ts";
import { noGrad } from "../src/tensor/tape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { trainingStream } from "../src/train/seeds.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const x = Tensor.from(device, Float32Array.of(1, 2, 3, 4), [4]);

const double = twin(
  "test/in-place",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
  @compute @workgroup_size(4) fn main(@builtin(local_invocation_index) t: u32) { y[t] = 2.0 * y[t]; }`,
);
const doubled = (y: Tensor): Tensor => {
  double.run("main", { y }, {}, [1]);
  return y;
};

/** The gradient of a loss by x. */
async function gradient(loss: () => Tensor): Promise<number[]> {
  const { value, gradients } = scope(device, () => valueAndGrad(device, [x], loss));
  const found = [...((await gradients.get(x)?.read()) ?? [])];
  for (const t of [value, ...gradients.values()]) t.release();
  return found;
}

test("a kernel that writes in place to what a gradient passes is refused, and named", async () => {
  const before = device.pool.statistics.live;
  const refused = (body: () => Tensor, name: RegExp) => assert.rejects(gradient(body), { message: name });
  const onTape = /^Cannot run test\/in-place\.main: y is a tensor of shape \(4\) that is on the tape; write/;
  const saved =
    /^Cannot run test\/in-place\.main: y is a tensor of shape \(4\) that mul has saved for the backward pass; write/;
  await refused(() => ops.sum(doubled(ops.scale(x, 3))), onTape);
  await refused(() => ops.sum(doubled(x)), onTape);
  await refused(() => ops.sum(noGrad(device, () => doubled(x))), onTape);
  await refused(() => {
    const constant = ops.full(device, [4], 3);
    const y = ops.mul(x, constant);
    doubled(constant);
    return ops.sum(y);
  }, saved);
  assert.equal(device.pool.statistics.live, before);
  assert.deepEqual(
    await gradient(() => {
      const constant = doubled(ops.full(device, [4], 3)); // no tape has it
      const y = ops.mul(x, constant);
      doubled(ops.full(device, [4], 1));
      return ops.sum(y);
    }),
    [6, 6, 6, 6],
  );
  assert.deepEqual(await doubled(x).read(), Float32Array.of(2, 4, 6, 8), "after the tape it may be written");
  x.write(Float32Array.of(1, 2, 3, 4));
});

test("Tensor.write() is refused where the backward pass would see the new values", async () => {
  const constant = ops.full(device, [4], 3);
  const rewritten = (write: () => void) => () => {
    const y = ops.mul(x, constant);
    write();
    return ops.sum(y);
  };
  const ones = new Float32Array(4).fill(1);
  const saved = {
    message:
      "Cannot run Tensor.write: it is a tensor of shape (4) that mul has saved for the backward pass; write to a new one",
  };
  await assert.rejects(gradient(rewritten(() => constant.write(ones))), saved);
  await assert.rejects(gradient(rewritten(() => noGrad(device, () => constant.write(ones)))), saved);
  await assert.rejects(
    gradient(() =>
      ops.sum(
        checkpoint(device, [], () => {
          const y = ops.mul(x, constant);
          constant.write(ones);
          return y;
        }),
      ),
    ),
    saved,
  );
  const unused = ops.full(device, [4], 3);
  assert.deepEqual(await gradient(rewritten(() => unused.write(ones))), [3, 3, 3, 3]);
  constant.write(ones);
  assert.deepEqual(await gradient(rewritten(() => {})), [1, 1, 1, 1]);
  for (const t of [constant, unused]) t.release();
});

test("checkpoint() refuses a stream that goes on, and takes a replayable one and one made inside", async () => {
  const square = (next: { next(): number } | undefined) => ops.dropout(ops.mul(x, x), 0.5, next);
  const outside = trainingStream(1);
  await assert.rejects(
    gradient(() => ops.sum(checkpoint(device, [], () => square(outside)))),
    {
      message:
        /^Cannot differentiate checkpoint: its body ran dropout with seed \d+ the second time and dropout with seed \d+ the first; a random stream from outside must be replayable\(\)$/,
    },
  );
  const qkv = () => ops.reshape(ops.concat([ops.concat([x, x]), x]), [1, 1, 12]);
  await assert.rejects(
    gradient(() =>
      ops.sum(
        checkpoint(device, [], () =>
          ops.selfAttention(qkv(), { heads: 1, dropout: { rate: 0.5, seed: outside.next() } }),
        ),
      ),
    ),
    { message: /^Cannot differentiate checkpoint: its body ran selfAttention with seed \d+ the second time/ },
  );
  const plain = await gradient(() => ops.sum(square(trainingStream(1))));
  const stream = replayable(trainingStream(1));
  assert.deepEqual(await gradient(() => ops.sum(checkpoint(device, [], () => square(stream())))), plain);
  const inside = () => square(trainingStream(1));
  assert.deepEqual(await gradient(() => ops.sum(checkpoint(device, [], inside))), plain);
  const nested = () => checkpoint(device, [], inside);
  assert.deepEqual(await gradient(() => ops.sum(checkpoint(device, [], nested))), plain);
});

test("checkpoint() refuses a body that records other operators the second time", async () => {
  let runs = 0;
  const more = () => (runs++ === 0 ? ops.scale(x, 2) : ops.scale(ops.scale(x, 2), 1));
  await assert.rejects(
    gradient(() => ops.sum(checkpoint(device, [], more))),
    {
      message:
        /^Cannot differentiate checkpoint: its body ran scale the second time and no more the first; a random/,
    },
  );
  runs = 0;
  const fewer = () => (runs++ === 0 ? ops.scale(ops.scale(x, 2), 1) : ops.scale(x, 2));
  await assert.rejects(
    gradient(() => ops.sum(checkpoint(device, [], fewer))),
    {
      message:
        /^Cannot differentiate checkpoint: its body ran no more the second time and scale the first; a random/,
    },
  );
});

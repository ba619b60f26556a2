import assert from "node:assert/strict";
import { test } from "node:test";
import { accumulate } from "../src/tensor/accumulate.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, type Given, given } from "./ops_fixture.ts";

const device = await testDevice();

/** Numbers that repeat after 1021: no power of two. */
function repeated(size: number, seed: number): Given {
  const data = new Float32Array(size);
  const { data: few } = given([1021], seed);
  for (let at = 0; at < size; at += 1021) data.set(few.subarray(0, size - at), at);
  return { shape: [size], data };
}

// The last is one more than a thread of each workgroup can take at once.
for (const size of [0, 1, 7, 1023, 65535 * 64 * 4 + 1])
  test(`accumulate() adds ${size} values`, async () => {
    const [a, b] = [repeated(size, 1), repeated(size, 2)];
    const y = await forward(device, [a, b], accumulate);
    assert.equal(y.length, size);
    let wrong = 0;
    for (let i = 0; i < size; i++) if (y[i] !== Math.fround(a.data[i] + b.data[i])) wrong++;
    assert.equal(wrong, 0);
  });

test("accumulate() refuses two shapes", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => accumulate(of(2, 3), of(3)), {
      name: "TypeError",
      message: "Cannot run accumulate: b is (3) but should be (2, 3)",
    });
  });
});

test("vjp() adds up gradients where no operator was ever loaded", async () => {
  const [x, ones] = [2, 1].map((v) => Tensor.from(device, new Float32Array(5).fill(v), [5]));
  const { gradients } = scope(device, () =>
    vjp(device, [x], () => ({ outputs: [x, x], cotangents: [ones, x] })),
  );
  assert.deepEqual(await gradients.get(x)?.read(), new Float32Array(5).fill(3));
  for (const t of [x, ones, ...gradients.values()]) t.release();
});

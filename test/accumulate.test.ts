import assert from "node:assert/strict";
import { test } from "node:test";
import { accumulate } from "../src/tensor/accumulate.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, given } from "./ops_fixture.ts";

const device = await testDevice();

for (const size of [0, 1, 7, 1023, 65535 * 64 * 4 + 1])
  test(`accumulate() adds ${size} values`, async () => {
    // Short rows of numbers, repeated: a long run of random ones takes seconds to draw.
    const [a, b] = [1, 2].map((seed) => {
      const { data } = given([1021], seed);
      return { shape: [size], data: Float32Array.from({ length: size }, (_, i) => data[i % 1021]) };
    });
    const y = await forward(device, [a, b], accumulate);
    const wrong = y.findIndex((v, i) => v !== Math.fround(a.data[i] + b.data[i]));
    assert.equal(wrong, -1, `at ${wrong}`);
    assert.equal(y.length, size);
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

import assert from "node:assert/strict";
import { test } from "node:test";
import { blend, join } from "../src/ops/sigmoid_gate.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward } from "./ops_fixture.ts";

const device = await testDevice();
test("join() is exact at ±1e4", async () => {
  const [s, c] = [
    { shape: [1, 2, 2], data: Float32Array.of(1e4, -1e4, 0, 1e-20) },
    { shape: [1, 2, 2], data: Float32Array.of(-1e4, 1e4, 20, -20) },
  ];
  const y = await forward(device, [s, c], (x, y) => join(x, y, true));
  assert.deepEqual([...y.slice(0, 4)], [1, 0, 0, 1]);
});

test("join() and blend() say what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => join(of(1, 2, 3), of(1, 2, 4)), {
      name: "TypeError",
      message: "Cannot run join: c is (1, 2, 4) but should be (1, 2, 3)",
    });
    assert.throws(() => blend(of(2, 5, 3), of(2, 5, 3), of(2, 4, 3)), {
      message: "Cannot run blend: g is (2, 4, 3) but should be (2, 5, 3)",
    });
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { mse } from "../src/ops/mse.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Shape } from "../src/tensor/shape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, given, near } from "./ops_fixture.ts";

const device = await testDevice();

test("mse() is the mean by default, and counts nothing past the end of the last four", async () => {
  // A buffer that held large numbers before.
  scope(device, () => Tensor.from(device, new Float32Array(8).fill(1e30), [8]));
  const [x, target] = [1, 3].map((v) => ({ shape: [5], data: new Float32Array(5).fill(v) }));
  assert.deepEqual(await forward(device, [x, target], (a, b) => mse(a, b)), Float32Array.of(4));
});

test("mse() of 10 million values is as exact as that of few, and gives the same bits every time", async () => {
  const data = new Float32Array(10_000_001).fill(0.3);
  const [x, target] = [data, new Float32Array(data.length)].map((d) => Tensor.from(device, d, [d.length]));
  const bits = async () => {
    const y = mse(x, target);
    const values = await y.read();
    y.release();
    return values;
  };
  const first = await bits();
  near(first, [data[0] ** 2], 1e-6, "the loss");
  assert.deepEqual(await bits(), first);
  for (const t of [x, target]) t.release();
});

test("mse() of nothing is 0 as a sum, and refused as a mean", async () => {
  const empty = given([0, 3], 1);
  const total = await forward(device, [empty, empty], (a, b) => mse(a, b, { reduction: "sum" }));
  assert.deepEqual(total, Float32Array.of(0));
  scope(device, () => {
    const x = Tensor.empty(device, [0, 3]);
    assert.throws(() => mse(x, x), {
      name: "RangeError",
      message: "Cannot run mse: x is (0, 3), which leaves nothing to average",
    });
  });
});

test("mse() says which shapes and types do not fit", () => {
  scope(device, () => {
    const of = (shape: Shape, dtype: "f32" | "i32" = "f32") => Tensor.empty(device, shape, dtype);
    assert.throws(() => mse(of([2, 3]), of([3])), {
      name: "TypeError",
      message: "Cannot run mse: target is (3) but should be (2, 3)",
    });
    assert.throws(() => mse(of([2]), of([2], "i32")), {
      name: "TypeError",
      message: "Cannot run mse: target is i32 but should be f32",
    });
    assert.throws(() => mse(of([2]), of([2]), { reduction: "max" as "sum" }), {
      name: "RangeError",
      message: 'Cannot run mse: reduction is "max" but should be one of mean, sum, none',
    });
  });
});

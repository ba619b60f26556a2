import assert from "node:assert/strict";
import { test } from "node:test";
import { add, mul, reshape } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

test("add() and mul() of a tensor and itself add up both gradients", async () => {
  const x = given([9], 1);
  const doubled = await run(device, [x], (t) => add(t, t));
  near(
    doubled.gradients[0],
    doubled.dy.map((v) => 2 * v),
    1e-7,
    "gradient of x + x",
  );
  const squared = await run(device, [x], (t) => mul(t, t));
  near(
    squared.gradients[0],
    squared.dy.map((v, i) => 2 * x.data[i] * v),
    1e-6,
    "gradient of x·x",
  );
});

test("reshape() moves no bytes", () => {
  scope(device, () => {
    const t = Tensor.empty(device, [2, 6]);
    assert.equal(reshape(t, [3, 4]).memory, t.memory);
    assert.equal(reshape(t, [2, 6]), t);
    assert.throws(() => reshape(t, [5]), { message: "Cannot reshape (2, 6) to (5): the sizes differ" });
  });
});

test("add() says which shapes do not fit", () => {
  scope(device, () => {
    assert.throws(() => add(Tensor.empty(device, [2, 3]), Tensor.empty(device, [3, 2])), {
      name: "TypeError",
      message:
        "Cannot run add: a is (2, 3) but b is (3, 2), expected one shape or the last axes of the other",
    });
  });
});

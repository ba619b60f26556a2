import assert from "node:assert/strict";
import { test } from "node:test";
import { add, div, full, mul, reshape, scale, sub } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { agree, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

for (const size of [1, 7, 1023]) {
  const [a, b] = [given([size], 1), given([size], 2)];
  const of = (f: (a: number, b: number, dy: number) => number, dy: Float32Array) =>
    Float64Array.from(a.data, (v, i) => f(v, b.data[i], dy[i]));

  test(`add() agrees with float64 on ${size} values`, async () => {
    const ran = await run(device, [a, b], (x, y) => add(x, y, 0.5, -3));
    const gradients = [of((_a, _b, dy) => 0.5 * dy, ran.dy), of((_a, _b, dy) => -3 * dy, ran.dy)];
    agree(ran, { y: of((x, y) => 0.5 * x - 3 * y, ran.dy), gradients }, 1e-6);
  });

  test(`mul() agrees with float64 on ${size} values`, async () => {
    const ran = await run(device, [a, b], mul);
    const gradients = [of((_a, y, dy) => y * dy, ran.dy), of((x, _b, dy) => x * dy, ran.dy)];
    agree(ran, { y: of((x, y) => x * y, ran.dy), gradients }, 1e-6);
  });

  test(`sub() agrees with float64 on ${size} values`, async () => {
    const ran = await run(device, [a, b], sub);
    const gradients = [of((_a, _b, dy) => dy, ran.dy), of((_a, _b, dy) => -dy, ran.dy)];
    agree(ran, { y: of((x, y) => x - y, ran.dy), gradients }, 1e-6);
  });

  test(`div() agrees with float64 on ${size} values`, async () => {
    const ran = await run(device, [a, b], div);
    const gradients = [of((_a, y, dy) => dy / y, ran.dy), of((x, y, dy) => (-x / y ** 2) * dy, ran.dy)];
    agree(ran, { y: of((x, y) => x / y, ran.dy), gradients }, 1e-6);
  });

  test(`scale() agrees with float64 on ${size} values`, async () => {
    const ran = await run(device, [a], (x) => scale(x, -0.3));
    agree(ran, { y: of((x) => -0.3 * x, ran.dy), gradients: [of((_a, _b, dy) => -0.3 * dy, ran.dy)] }, 1e-6);
  });
}

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

test("reshape() moves no bytes, and its gradient comes back in the old shape", async () => {
  const x = given([2, 6], 1);
  const ran = await run(device, [x], (t) => reshape(t, [3, 4]));
  assert.deepEqual(ran.shape, [3, 4]);
  assert.deepEqual([ran.y, ran.gradients[0]], [x.data, ran.dy]);
  scope(device, () => {
    const t = Tensor.from(device, x.data, x.shape);
    assert.equal(reshape(t, [2, 6]), t);
    assert.throws(() => reshape(t, [5]), { message: "Cannot reshape (2, 6) to (5): the sizes differ" });
  });
});

test("full() fills every element", async () => {
  const y = full(device, [3, 7], -2.5);
  assert.deepEqual(await y.read(), new Float32Array(21).fill(-2.5));
  y.release();
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

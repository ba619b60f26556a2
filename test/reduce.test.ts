import assert from "node:assert/strict";
import { test } from "node:test";
import { dot, maskedMean, mean, rowSums, sum } from "../src/ops/reduce.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

test("dot() has no gradient of its own", async () => {
  const message = "Cannot differentiate dot: its gradient is its other factor; start from that";
  await assert.rejects(
    run(device, [given([7], 1), given([7], 2)], (a, b) => dot(a, b)),
    { message },
  );
});

test("sum() of 20 million values is as exact as that of few, and gives the same bits every time", async () => {
  const data = new Float32Array(20_000_003).fill(0.1);
  const x = Tensor.from(device, data, [data.length]);
  const bits = async (average: boolean) => {
    const y = average ? mean(x) : sum(x);
    const values = await y.read();
    y.release();
    return values;
  };
  near(await bits(false), [data[0] * data.length], 1e-6, "the sum");
  near(await bits(true), [data[0]], 1e-6, "the mean");
  assert.deepEqual(await bits(false), await bits(false));
  x.release();
});

test("sum() and mean() over more rows than one dimension has workgroups", async () => {
  const rows = 65536 + 7;
  const x = { shape: [rows, 2], data: Float32Array.from({ length: 2 * rows }, (_, i) => i % 1000) };
  const ran = await run(device, [x], (t) => sum(t, { axis: -1 }));
  const y = Float64Array.from({ length: rows }, (_, n) => x.data[2 * n] + x.data[2 * n + 1]);
  near(ran.y, y, 1e-7, "y");
  const gradient = Float64Array.from(x.data, (_, i) => ran.dy[i >> 1]);
  near(ran.gradients[0], gradient, 1e-7, "the gradient");
});

test("sum() of nothing is 0; mean() of nothing is refused", async () => {
  const empty = given([0, 3], 1);
  assert.deepEqual(await forward(device, [empty], (t) => sum(t)), Float32Array.of(0));
  assert.deepEqual(
    await forward(device, [given([2, 0], 1)], (t) => sum(t, { axis: -1 })),
    new Float32Array(2),
  );
  assert.equal((await forward(device, [empty], (t) => mean(t, { axis: -1 }))).length, 0);
  const ran = await run(device, [empty], (t) => sum(t));
  assert.equal(ran.gradients[0].length, 0);
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => mean(of(0, 3)), {
      name: "RangeError",
      message: "Cannot run mean: x is (0, 3), which leaves nothing to average",
    });
    assert.throws(() => mean(of(3, 0), { axis: -1 }), {
      name: "RangeError",
      message: "Cannot run mean: x is (3, 0), which leaves nothing to average",
    });
  });
});

test("sum() and mean() refuse an axis that is not the last, and integers", () => {
  scope(device, () => {
    const x = Tensor.empty(device, [2, 3]);
    assert.throws(() => sum(x, { axis: 0 as -1 }), {
      name: "RangeError",
      message: "Cannot run sum: axis is 0 but should be -1 or absent, for all",
    });
    assert.throws(() => mean(Tensor.empty(device, []), { axis: -1 }), {
      name: "TypeError",
      message: "Cannot run mean: x is (), which has no last axis",
    });
    assert.throws(() => mean(Tensor.empty(device, [2], "u32")), {
      name: "TypeError",
      message: "Cannot run mean: x is u32 but should be f32",
    });
  });
});

test("rowSums() divides once, however many passes it takes", async () => {
  const x = { shape: [2, 5000], data: new Float32Array(10_000).fill(3) };
  const y = await forward(device, [x], (t) => rowSums(t, 2, 5000, 5000));
  assert.deepEqual(y, Float32Array.of(3, 3));
});

test("maskedMean() never looks at a padded frame, whatever stands there", async () => {
  const x = { shape: [1, 3, 2], data: Float32Array.of(1, 2, Number.NaN, Infinity, 3, 6) };
  const y = await forward(device, [x], (t) =>
    maskedMean(t, Tensor.from(device, Uint32Array.of(1, 0, 1), [1, 3])),
  );
  assert.deepEqual([...y], [2, 4]);
});

test("maskedMean() says which mask does not fit", () => {
  scope(device, () => {
    assert.throws(() => maskedMean(Tensor.empty(device, [2, 3, 4]), Tensor.empty(device, [2, 4], "u32")), {
      name: "TypeError",
      message: "Cannot run maskedMean: mask is (2, 4) but should be (2, 3)",
    });
  });
});

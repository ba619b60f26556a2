import assert from "node:assert/strict";
import { test } from "node:test";
import { conv1d, convFrames, packWeight } from "../src/ops/conv1d.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { given, run } from "./ops_fixture.ts";

const device = await testDevice();

test("conv1d() takes a packed weight that its caller keeps, and sends the gradient through it", async () => {
  const options = { groups: 2, padding: 1 };
  const [x, w] = [given([1, 9, 8], 1), given([4, 4, 3], 2)];
  const kept = await run(device, [x, w], (a, weight) =>
    conv1d(a, weight, undefined, options, packWeight(weight, 2)),
  );
  assert.deepEqual(kept, await run(device, [x, w], (a, weight) => conv1d(a, weight, undefined, options)));
});

test("conv1d() of one sample is the same alone and in a batch", async () => {
  const [x, w] = [given([3, 20, 8], 1), given([8, 8, 3], 2)];
  const together = await run(device, [x, w], (a, b) => conv1d(a, b, undefined, { stride: 2 }));
  const second = { shape: [1, 20, 8], data: x.data.slice(160, 320) };
  const alone = await run(device, [second, w], (a, b) => conv1d(a, b, undefined, { stride: 2 }));
  const size = alone.y.length;
  assert.deepEqual(together.y.subarray(size, 2 * size), alone.y);
});

test("convFrames() counts as PyTorch does", () => {
  assert.equal(convFrames(16000, 10, 5), 3199);
  assert.equal(convFrames(49, 128, 1, 64), 50);
  assert.equal(convFrames(20, 3, 2, 1, 4), 7);
});

test("conv1d() says what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => conv1d(of(1, 9, 6), of(4, 6, 3), undefined, { groups: 2 }), {
      name: "TypeError",
      message: "Cannot run conv1d: w is (4, 6, 3), x is (1, 9, 6) and there are 2 groups",
    });
    assert.throws(() => conv1d(of(1, 2, 4), of(4, 4, 3), undefined), {
      name: "RangeError",
      message: "Cannot run conv1d: 2 frames are too few for a kernel of 3",
    });
    assert.throws(() => conv1d(of(1, 5, 4), of(4, 4, 3), of(3)), {
      message: /b is \(3\) but should be \(4\)/,
    });
  });
});

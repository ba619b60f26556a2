import assert from "node:assert/strict";
import { test } from "node:test";
import { conv1d, convFrames, packWeight } from "../src/ops/conv1d.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import * as reference from "./float64.ts";
import { agree, given, run } from "./ops_fixture.ts";

const device = await testDevice();

/** x, w and b of the shapes that the case says; O and C small, since the reference is six loops. */
async function check(c: reference.Convolution, bias: boolean): Promise<void> {
  const { B, T, C, O, k, groups = 1 } = c;
  const w = given([O, C / groups, k], 2, 1 / Math.sqrt((C / groups) * k));
  const inputs = [given([B, T, C], 1), w, ...(bias ? [given([O], 3)] : [])];
  const ran = await run(device, inputs, (x, weight, b) => conv1d(x, weight, b, c));
  assert.deepEqual(ran.shape, [B, reference.convolutionFrames(c), O]);
  agree(ran, reference.conv1d(inputs[0].data, w.data, inputs[2]?.data, ran.dy, c));
}

const cases: [what: string, c: reference.Convolution, bias: boolean][] = [
  ["one value", { B: 1, T: 1, C: 1, O: 1, k: 1 }, true],
  ["raw audio, 10 taps, stride 5", { B: 2, T: 1023, C: 1, O: 8, k: 10, stride: 5 }, false],
  ["3 taps, stride 2, frames left over", { B: 3, T: 38, C: 8, O: 12, k: 3, stride: 2 }, true],
  ["2 taps, stride 2", { B: 2, T: 17, C: 4, O: 8, k: 2, stride: 2 }, false],
  ["stride longer than the kernel", { B: 2, T: 23, C: 4, O: 4, k: 2, stride: 3 }, true],
  ["same padding", { B: 2, T: 7, C: 4, O: 8, k: 3, padding: 1 }, true],
  ["padding as long as the kernel", { B: 1, T: 5, C: 4, O: 4, k: 3, padding: 3 }, true],
  [
    "grouped, even kernel, one frame dropped",
    { B: 2, T: 19, C: 32, O: 32, k: 16, groups: 4, padding: 8, drop: 1 },
    true,
  ],
  ["grouped, more outputs than inputs", { B: 2, T: 9, C: 8, O: 16, k: 3, groups: 2, padding: 1 }, false],
  ["grouped, odd channels", { B: 2, T: 11, C: 9, O: 15, k: 5, groups: 3, padding: 2 }, true],
  ["depthwise", { B: 2, T: 13, C: 7, O: 7, k: 3, groups: 7, padding: 1 }, true],
  ["dilated", { B: 2, T: 21, C: 4, O: 8, k: 3, dilation: 4, padding: 4 }, true],
  [
    "dilated, strided, padded, odd",
    { B: 2, T: 25, C: 3, O: 5, k: 3, dilation: 2, stride: 3, padding: 2 },
    true,
  ],
  ["odd channels", { B: 2, T: 15, C: 5, O: 7, k: 4 }, true],
  ["1 tap", { B: 1, T: 33, C: 12, O: 20, k: 1 }, true],
];

for (const [what, c, bias] of cases) test(`conv1d() agrees with float64: ${what}`, () => check(c, bias));

test("conv1d() takes a packed weight that its caller keeps, and sends the gradient through it", async () => {
  const c = { B: 1, T: 9, C: 8, O: 4, k: 3, groups: 2, padding: 1 };
  const [x, w] = [given([1, 9, 8], 1), given([4, 4, 3], 2)];
  const ran = await run(device, [x, w], (a, weight) =>
    conv1d(a, weight, undefined, c, packWeight(weight, 2)),
  );
  agree(ran, reference.conv1d(x.data, w.data, undefined, ran.dy, c));
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

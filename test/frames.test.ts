import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, maskRows, slice } from "../src/ops/frames.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward } from "./ops_fixture.ts";

const device = await testDevice();

test("maskRows() drops what is no number", async () => {
  const x = { shape: [2, 2], data: Float32Array.of(Number.NaN, Infinity, 1, 2) };
  const y = await forward(device, [x], (t) => maskRows(t, Tensor.from(device, Uint32Array.of(0, 1), [2])));
  assert.deepEqual([...y], [0, 0, 1, 2]);
});

test("maskRows(), concat() and slice() say what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => maskRows(of(2, 3), of(3)), {
      name: "TypeError",
      message: "Cannot run maskRows: keep is (3) but should be (2)",
    });
    assert.throws(() => concat([of(2, 3), of(3, 3)]), {
      message: "Cannot run concat: (3, 3) stands beside (2, 3)",
    });
    assert.throws(() => slice(of(2, 3), 1, 3), {
      name: "RangeError",
      message: "Cannot run slice: columns 1 to 4 of (2, 3)",
    });
  });
});

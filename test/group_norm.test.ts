import assert from "node:assert/strict";
import { test } from "node:test";
import { groupNorm } from "../src/ops/group_norm.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();

test("groupNorm() says what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => groupNorm(of(1, 2, 6), of(6), of(6), 4, 1e-5), {
      name: "RangeError",
      message: "Cannot run groupNorm: 6 channels do not divide into 4 groups",
    });
    assert.throws(() => groupNorm(of(2, 6), of(6), of(6), 2, 1e-5), { message: /x is \(2, 6\)/ });
    assert.throws(() => groupNorm(of(1, 2, 6), of(6), of(5), 2, 1e-5), {
      message: /b is \(5\) but should be \(6\)/,
    });
  });
});

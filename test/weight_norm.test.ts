import assert from "node:assert/strict";
import { test } from "node:test";
import { weightNorm } from "../src/ops/weight_norm.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import * as reference from "./float64.ts";
import { agree, given, run } from "./ops_fixture.ts";

const device = await testDevice();

for (const [O, C, k] of [
  [1, 1, 1],
  [7, 3, 5],
  [33, 31, 7],
  [64, 16, 128],
  [1023, 1, 3],
]) {
  test(`weightNorm() agrees with float64: (${O}, ${C}, ${k})`, async () => {
    const [v, g] = [given([O, C, k], 1), given([1, 1, k], 2)];
    const ran = await run(device, [v, g], weightNorm);
    agree(ran, reference.weightNorm(v.data, g.data, ran.dy));
  });
}

test("weightNorm() says which gain does not fit", () => {
  scope(device, () => {
    assert.throws(() => weightNorm(Tensor.empty(device, [4, 2, 3]), Tensor.empty(device, [4, 1, 1])), {
      name: "TypeError",
      message: "Cannot run weightNorm: g is (4, 1, 1) but should be (1, 1, 3)",
    });
  });
});

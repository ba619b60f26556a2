import assert from "node:assert/strict";
import { test } from "node:test";
import { weightNorm } from "../src/ops/weight_norm.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();

test("weightNorm() says which gain does not fit", () => {
  scope(device, () => {
    assert.throws(() => weightNorm(Tensor.empty(device, [4, 2, 3]), Tensor.empty(device, [4, 1, 1])), {
      name: "TypeError",
      message: "Cannot run weightNorm: g is (4, 1, 1) but should be (1, 1, 3)",
    });
  });
});

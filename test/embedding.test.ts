import assert from "node:assert/strict";
import { test } from "node:test";
import { embedding } from "../src/ops/embedding.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();

test("embedding() refuses ids outside the table, and as many as do not fill the shape", () => {
  scope(device, () => {
    const w = Tensor.empty(device, [4, 2]);
    assert.throws(() => embedding(w, [0, 4], [2]), {
      name: "RangeError",
      message: "Cannot run embedding: id 4 at position 1 is outside the vocabulary of 4",
    });
    for (const id of [-1, 1.5, Number.NaN]) assert.throws(() => embedding(w, [id], [1]), RangeError);
    assert.throws(() => embedding(w, [0, 1, 2], [2, 2]), {
      name: "TypeError",
      message: "Cannot run embedding: 3 ids do not fill the shape (2, 2)",
    });
  });
});

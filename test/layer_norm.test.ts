import assert from "node:assert/strict";
import { test } from "node:test";
import { layerNorm } from "../src/ops/layer_norm.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, given } from "./ops_fixture.ts";

const device = await testDevice();

test("layerNorm() of a constant row is b, whatever eps", async () => {
  for (const C of [7, 8]) {
    const [w, b] = [given([C], 2), given([C], 3)];
    const constant = { shape: [2, C], data: new Float32Array(2 * C).fill(-12345.678) };
    const y = await forward(device, [constant, w, b], (...t) => layerNorm(t[0], t[1], t[2], 1e-12));
    assert.deepEqual([...y], [...b.data, ...b.data]);
  }
});

test("layerNorm() says which weight does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => layerNorm(of(2, 4), of(3), of(4), 1e-5), {
      name: "TypeError",
      message: "Cannot run layerNorm: w is (3) but should be (4)",
    });
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { softplus } from "../src/ops/softplus.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward } from "./ops_fixture.ts";

const device = await testDevice();
const of = (data: Float32Array) => forward(device, [{ shape: [data.length], data }], softplus);

test("softplus() is within 3e-7 of float64 point by point, from the smallest normal numbers up", async () => {
  const data = Float32Array.from({ length: 20_001 }, (_, i) => i / 106 - 87);
  const y = await of(data);
  for (const [i, v] of data.entries()) {
    const want = Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
    assert.ok(Math.abs(y[i] - want) <= 3e-7 * want, `at ${v} it is ${y[i]}, reference ${want}`);
  }
});

test("softplus() at the ends of the range", async () => {
  const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
  assert.deepEqual([...(await of(Float32Array.of(-inf, -1e4, 1e4, inf, nan)))], [0, 0, 1e4, inf, nan]);
  assert.equal((await of(new Float32Array(0))).length, 0);
});

test("softplus() refuses integers", () => {
  const ids = Tensor.from(device, Int32Array.of(1, 2), [2]);
  assert.throws(() => softplus(ids), {
    name: "TypeError",
    message: "Cannot run softplus: x is i32 but should be f32",
  });
  ids.release();
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { transposed } from "../src/ops/transpose.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();

test("transposed() reads rows where they lie and goes on with zeros", async () => {
  for (const [R, C, xRowStride, Ry] of [
    [5, 8, 12, 8],
    [5, 3, 7, 8],
    [21, 36, 36, 24],
    [4, 4, 4, 4],
    [3, 2, 2, 3],
  ]) {
    const [B, xBatchStride] = [2, R * xRowStride + 4];
    const data = Float32Array.from({ length: B * xBatchStride }, (_, i) => i + 1);
    const x = Tensor.from(device, data, [data.length]);
    const y = transposed(x, B, { R, C, Ry, xRowStride, xBatchStride });
    assert.deepEqual(y.shape, [B, C, Ry]);
    const at = (i: number) => {
      const [b, c, r] = [Math.floor(i / (C * Ry)), Math.floor(i / Ry) % C, i % Ry];
      return r < R ? data[b * xBatchStride + r * xRowStride + c] : 0;
    };
    assert.deepEqual(
      await y.read(),
      Float32Array.from({ length: y.size }, (_, i) => at(i)),
      `${R} x ${C}`,
    );
    for (const t of [x, y]) t.release();
  }
});

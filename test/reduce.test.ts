import assert from "node:assert/strict";
import { test } from "node:test";
import { columnSum, dot, maskedMean } from "../src/ops/reduce.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { columnSums } from "./float64.ts";
import { agree, forward, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

for (const [rows, C] of [
  [1, 1],
  [7, 1023],
  [256, 9],
  [257, 9],
  [5001, 7],
]) {
  test(`columnSum() agrees with float64: ${rows} rows of ${C}`, async () => {
    const x = given([rows, C], 1);
    near(await forward(device, [x], columnSum), columnSums(x.data, C), 1e-6, "y");
  });
}

test("dot() agrees with float64, and has no gradient of its own", async () => {
  const [a, b] = [given([50_001], 1), given([50_001], 2)];
  const want = a.data.reduce((sum, v, i) => sum + v * b.data[i], 0);
  near(await forward(device, [a, b], dot), [want], 2e-6, "y");
  const message = "Cannot differentiate dot: its gradient is its other factor; start from that";
  await assert.rejects(run(device, [a, b], dot), { message });
});

/** As many frames count as `lengths` says, but every fifth is left out. */
const maskOf = (lengths: readonly number[], T: number) =>
  Uint32Array.from({ length: lengths.length * T }, (_, i) =>
    i % T < lengths[Math.floor(i / T)] && i % 5 !== 4 ? 1 : 0,
  );

for (const [T, C, lengths] of [
  [1, 1, [1]],
  [7, 5, [7, 3, 0]],
  [1023, 3, [1023, 17]],
  [149, 64, [149, 148, 1]],
] as const) {
  test(`maskedMean() agrees with float64: ${lengths.join(", ")} of ${T} frames, width ${C}`, async () => {
    const B = lengths.length;
    const mask = maskOf(lengths, T);
    const x = given([B, T, C], 1);
    const ran = await run(device, [x], (t) => maskedMean(t, Tensor.from(device, mask, [B, T])));
    assert.deepEqual(ran.shape, [B, C]);
    const y = new Float64Array(B * C);
    const dx = new Float64Array(x.data.length);
    for (let b = 0; b < B; b++) {
      const count = mask.subarray(b * T, (b + 1) * T).reduce((n, m) => n + m, 0);
      for (let i = 0; i < T * C; i++) {
        if (!mask[b * T + Math.floor(i / C)]) continue;
        y[b * C + (i % C)] += x.data[b * T * C + i] / count;
        dx[b * T * C + i] = ran.dy[b * C + (i % C)] / count;
      }
    }
    agree(ran, { y, gradients: [dx] });
  });
}

test("maskedMean() never looks at a padded frame, whatever stands there", async () => {
  const x = { shape: [1, 3, 2], data: Float32Array.of(1, 2, Number.NaN, Infinity, 3, 6) };
  const y = await forward(device, [x], (t) =>
    maskedMean(t, Tensor.from(device, Uint32Array.of(1, 0, 1), [1, 3])),
  );
  assert.deepEqual([...y], [2, 4]);
});

test("maskedMean() says which mask does not fit", () => {
  scope(device, () => {
    assert.throws(() => maskedMean(Tensor.empty(device, [2, 3, 4]), Tensor.empty(device, [2, 4], "u32")), {
      name: "TypeError",
      message: "Cannot run maskedMean: mask is (2, 4) but should be (2, 3)",
    });
  });
});

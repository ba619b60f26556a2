import assert from "node:assert/strict";
import { test } from "node:test";
import { groupNorm } from "../src/ops/group_norm.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { normalise } from "./float64.ts";
import { agree, type Given, given, run } from "./ops_fixture.ts";

const device = await testDevice();

async function check(x: Given, G: number, limit?: number): Promise<void> {
  const [B, T, C] = x.shape;
  const [w, b] = [given([C], 2), given([C], 3)];
  const ran = await run(device, [x, w, b], (...t) => groupNorm(t[0], t[1], t[2], G, 1e-5));
  agree(ran, normalise(x.data, w.data, b.data, ran.dy, { B, T, C, G, eps: 1e-5 }), limit);
}

for (const [B, T, C, G] of [
  [1, 1, 1, 1],
  [2, 7, 6, 3],
  [3, 17, 10, 1],
  [2, 1023, 4, 4],
  [1, 149, 512, 512],
]) {
  test(`groupNorm() agrees with float64: (${B}, ${T}, ${C}) in ${G} groups`, () =>
    check(given([B, T, C], 1), G));
}

test("groupNorm() keeps its precision on a mean of 1e4", () => {
  const x = given([2, 101, 6], 1);
  return check({ ...x, data: x.data.map((v) => v + 1e4) }, 2);
});

// 10 s of audio after HuBERT's first convolution. Sums of 32,000 terms one by one would be 2e-6 to 9e-6 off.
for (const [what, mean, first] of [
  ["", 0, 0],
  [", a mean of 300", 300, 0],
  [", a first frame 20 deviations off", 3, 20],
] as const) {
  test(`groupNorm() sums 32,000 frames within 5e-7 of float64${what}, forward and backward`, () => {
    const x = given([1, 32000, 4], 1);
    return check({ ...x, data: x.data.map((v, i) => v + mean + (i < 4 ? first : 0)) }, 4, 5e-7);
  });
}

test("groupNorm() sums 8,000 frames of two channels a group within 5e-7 of float64", () => {
  const x = given([2, 8000, 4], 1);
  return check({ ...x, data: x.data.map((v, i) => v + (i < 4 ? 10 : 1)) }, 2, 5e-7);
});

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

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ActivationKind, activation, activationCode } from "../src/ops/activation.ts";
import { testDevice } from "./device.ts";
import { activations } from "./float64.ts";
import { agree, forward, type Given, given, run } from "./ops_fixture.ts";

const device = await testDevice();
const kinds = Object.keys(activations) as ActivationKind[];

for (const kind of kinds) {
  const { f, slope } = activations[kind];
  for (const size of [1, 7, 1023])
    test(`activation() ${kind} agrees with float64 on ${size} values`, async () => {
      const x = given([size], size, 2);
      const ran = await run(device, [x], (t) => activation(t, kind));
      const gradient = Float64Array.from(x.data, (v, i) => slope(v) * ran.dy[i]);
      agree(ran, { y: Float64Array.from(x.data, f), gradients: [gradient] }, 1e-6);
    });

  test(`activation() ${kind} is right point by point from −12 to 12 and at ±1e4`, async () => {
    const data = Float32Array.from({ length: 4801 }, (_, i) => (i - 2400) / 200);
    data.set([-1e4, 1e4, 0, 1e-30, -1e-30]);
    const x: Given = { shape: [4801], data };
    const ran = await run(device, [x], (t) => activation(t, kind));
    for (const [i, v] of data.entries()) {
      const close = (got: number, want: number, scale: number, what: string) =>
        assert.ok(
          Math.abs(got - want) <= 1e-6 * Math.max(scale, Math.abs(want)),
          `${what}(${v}) = ${got}, reference ${want}`,
        );
      close(ran.y[i], f(v), 1, kind);
      close(ran.gradients[0][i], slope(v) * ran.dy[i], Math.abs(ran.dy[i]), `the slope of ${kind}`);
    }
  });
}

test("activation() keeps the shape", async () => {
  const ran = await run(device, [given([2, 3, 5], 1)], (t) => activation(t, "relu"));
  assert.deepEqual(ran.shape, [2, 3, 5]);
});

test("activation() of nothing is nothing", async () => {
  assert.equal((await forward(device, [given([0, 4], 1)], (t) => activation(t, "gelu"))).length, 0);
});

test("activationCode() has a number of its own for every function, 0 for none", () => {
  assert.equal(new Set([0, ...kinds.map(activationCode)]).size, kinds.length + 1);
  assert.equal(activationCode(), 0);
});

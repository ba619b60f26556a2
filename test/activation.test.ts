import assert from "node:assert/strict";
import { test } from "node:test";
import { type ActivationKind, activation, activationCode, exp, log, relu } from "../src/ops/activation.ts";
import { activations } from "../src/records/float64.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, type Given, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();
const kinds = Object.keys(activations) as ActivationKind[];

for (const kind of kinds) {
  const { f, slope } = activations[kind];
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

test("activation() of nothing is nothing", async () => {
  assert.equal((await forward(device, [given([0, 4], 1)], (t) => activation(t, "gelu"))).length, 0);
});

test("activationCode() has a number of its own for every function, 0 for none", () => {
  assert.equal(new Set([0, ...kinds.map((kind) => activationCode("test", kind))]).size, kinds.length + 1);
  assert.equal(activationCode("test"), 0);
});

/** `size` numbers from `from` to `to`, at equal steps or ratios. */
const spaced = (size: number, from: number, to: number): Given => {
  const step = from > 0 ? (to / from) ** (1 / (size - 1)) : (to - from) / (size - 1);
  const data = Float32Array.from({ length: size }, (_, i) => (from > 0 ? from * step ** i : from + i * step));
  return { shape: [size], data };
};

for (const [name, op, f, x] of [
  ["exp", exp, Math.exp, spaced(20_001, -87, 88.7)],
  ["log over all magnitudes", log, Math.log, spaced(20_001, 1.2e-38, 3e38)],
  ["log near 1", log, Math.log, spaced(20_001, 0.999, 1.001)],
] as const)
  test(`${name} is within 2e-7 of float64 point by point`, async () => {
    const y = await forward(device, [x], op);
    for (const [i, v] of x.data.entries()) {
      const want = f(v);
      assert.ok(
        Math.abs(y[i] - want) <= 2e-7 * Math.abs(want),
        `${name}: at ${v} it is ${y[i]}, reference ${want}`,
      );
    }
  });

test("exp(), log() and relu() at the ends of the range", async () => {
  const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
  const at = async (op: typeof exp, ...values: number[]) => [
    ...(await forward(device, [{ shape: [values.length], data: Float32Array.from(values) }], op)),
  ];
  assert.deepEqual(await at(exp, 0, -inf, -200, 89, inf, nan), [1, 0, 0, inf, inf, nan]);
  assert.deepEqual(await at(log, 1, 0, -0, inf, -1, -inf, nan), [0, -inf, -inf, inf, nan, nan, nan]);
  assert.deepEqual(await at(relu, 0, -1, -inf, 3, inf, nan), [0, 0, 0, 3, inf, nan]);
  // Below the normal numbers: exact where the adapter keeps them, else as 0.
  const [tiny] = await at(log, 1e-40);
  if (tiny !== -inf) near([tiny], [Math.log(1e-40)], 1e-4, "log(1e-40)");
});

test("exp(), log() and activation() refuse integers", () => {
  const ids = Tensor.from(device, Int32Array.of(1, 2), [2]);
  for (const [name, op] of Object.entries({ exp, log, relu }))
    assert.throws(() => op(ids), {
      name: "TypeError",
      message: `Cannot run ${name}: x is i32 but should be f32`,
    });
  ids.release();
});

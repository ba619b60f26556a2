import assert from "node:assert/strict";
import { test } from "node:test";
import { blend, join } from "../src/ops/sigmoid_gate.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { sigmoid } from "./float64.ts";
import { agree, type Given, given, run } from "./ops_fixture.ts";

const device = await testDevice();
const f = (squash: boolean) => (squash ? sigmoid : (x: number) => x);
const slope = (squash: boolean) => (squash ? (x: number) => sigmoid(x) * sigmoid(-x) : () => 1);

/** Left and right half of rows of 2·C. */
const half = (x: Float32Array, C: number, right: boolean) => x.filter((_, i) => i % (2 * C) >= C === right);
const sideBySide = (a: Float64Array, b: Float64Array, C: number) =>
  Float64Array.from({ length: 2 * a.length }, (_, i) => {
    const [n, c] = [Math.floor(i / (2 * C)), i % (2 * C)];
    return c < C ? a[n * C + c] : b[n * C + c - C];
  });

function joined(s: Given, c: Given, squash: boolean, dy: Float32Array) {
  const C = s.shape.at(-1) as number;
  const [y0, y1] = [s, c].map((g) => Float64Array.from(g.data, f(squash)));
  const gradients = [s, c].map((g, i) =>
    Float64Array.from(half(dy, C, i === 1), (d, at) => d * slope(squash)(g.data[at])),
  );
  return { y: sideBySide(y0, y1, C), gradients };
}

function blended(s: Given, c: Given, g: Given, squash: boolean, dy: Float32Array) {
  const [, T, C] = s.shape;
  const pooled = g.data.length < s.data.length;
  const gate = (i: number) => (pooled ? Math.floor(i / (T * C)) * C + (i % C) : i);
  const G = (i: number) => f(squash)(g.data[gate(i)]);
  const [dyS, dyC] = [half(dy, C, false), half(dy, C, true)];
  const dg = new Float64Array(g.data.length);
  s.data.forEach((v, i) => {
    dg[gate(i)] += (dyS[i] * v - dyC[i] * c.data[i]) * slope(squash)(g.data[gate(i)]);
  });
  return {
    y: sideBySide(
      Float64Array.from(s.data, (v, i) => v * G(i)),
      Float64Array.from(c.data, (v, i) => v * (1 - G(i))),
      C,
    ),
    gradients: [
      Float64Array.from(dyS, (d, i) => d * G(i)),
      Float64Array.from(dyC, (d, i) => d * (1 - G(i))),
      dg,
    ],
  };
}

for (const [B, T, C] of [
  [1, 1, 1],
  [2, 7, 5],
  [3, 17, 64],
  [1, 1023, 3],
]) {
  for (const squash of [false, true]) {
    const kind = squash ? "with the sigmoid" : "as it is";
    const [s, c] = [given([B, T, C], 1, 3), given([B, T, C], 2, 3)];

    test(`join() ${kind} agrees with float64: (${B}, ${T}, ${C})`, async () => {
      const ran = await run(device, [s, c], (x, y) => join(x, y, squash));
      assert.deepEqual(ran.shape, [B, T, 2 * C]);
      agree(ran, joined(s, c, squash, ran.dy));
    });

    test(`blend() ${kind} agrees with float64: (${B}, ${T}, ${C}), a gate a frame`, async () => {
      const g = given([B, T, C], 3);
      agree(...(await both(s, c, g, squash)));
    });

    test(`blend() ${kind} agrees with float64: (${B}, ${T}, ${C}), a gate a sample`, async () => {
      const g = given([B, 1, C], 3);
      agree(...(await both(s, c, g, squash)));
    });
  }
}

async function both(s: Given, c: Given, g: Given, squash: boolean) {
  const ran = await run(device, [s, c, g], (x, y, z) => blend(x, y, z, squash));
  return [ran, blended(s, c, g, squash, ran.dy)] as const;
}

test("join() and blend() stay finite and exact at ±1e4", async () => {
  const [s, c] = [
    { shape: [1, 2, 2], data: Float32Array.of(1e4, -1e4, 0, 1e-20) },
    { shape: [1, 2, 2], data: Float32Array.of(-1e4, 1e4, 20, -20) },
  ];
  const ran = await run(device, [s, c], (x, y) => join(x, y, true));
  assert.deepEqual([...ran.y.slice(0, 4)], [1, 0, 0, 1]);
  agree(ran, joined(s, c, true, ran.dy));
  agree(...(await both(s, c, c, true)));
});

test("join() and blend() say what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => join(of(1, 2, 3), of(1, 2, 4)), {
      name: "TypeError",
      message: "Cannot run join: c is (1, 2, 4) but should be (1, 2, 3)",
    });
    assert.throws(() => blend(of(2, 5, 3), of(2, 5, 3), of(2, 4, 3)), {
      message: "Cannot run blend: g is (2, 4, 3) but should be (2, 5, 3)",
    });
  });
});

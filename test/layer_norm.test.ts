import assert from "node:assert/strict";
import { test } from "node:test";
import { layerNorm } from "../src/ops/layer_norm.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { activations, normalise } from "./float64.ts";
import { agree, forward, type Given, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

const inputs = (N: number, C: number): Given[] => [given([N, C], 1), given([C], 2), given([C], 3)];
const reference = ([x, w, b]: readonly Given[], dy: Float32Array, eps: number) =>
  normalise(x.data, w.data, b.data, dy, {
    B: x.data.length / w.data.length,
    T: 1,
    C: w.data.length,
    G: 1,
    eps,
  });

for (const [N, C, eps] of [
  [1, 1, 1e-5],
  [1, 7, 1e-5],
  [1023, 7, 1e-5],
  [3, 1023, 1e-12],
  [7, 1024, 1e-5],
  [17, 768, 1e-12],
  [259, 12, 1e-5],
]) {
  test(`layerNorm() agrees with float64: ${N} rows of ${C}, eps ${eps}`, async () => {
    const given = inputs(N, C);
    const ran = await run(device, given, (x, w, b) => layerNorm(x, w, b, eps));
    agree(ran, reference(given, ran.dy, eps));
  });
}

for (const C of [65, 64]) {
  test(`layerNorm() keeps its precision on a mean of 1e4: rows of ${C}`, async () => {
    const [x, w, b] = inputs(9, C);
    const far = { ...x, data: x.data.map((v) => v + 1e4) };
    const ran = await run(device, [far, w, b], (...t) => layerNorm(t[0], t[1], t[2], 1e-12));
    agree(ran, reference([far, w, b], ran.dy, 1e-12));
  });
}

for (const [N, C, first] of [
  [200, 1023, 30],
  [500, 768, 200],
]) {
  test(`layerNorm() is within 2e-7 of float64 where rows of ${C} begin with an outlier of ${first}`, async () => {
    const [x, w, b] = inputs(N, C);
    const far = { ...x, data: x.data.map((v, i) => v + (i % C === 0 ? first : 0)) };
    const ran = await run(device, [far, w, b], (...t) => layerNorm(t[0], t[1], t[2], 1e-5));
    agree(ran, reference([far, w, b], ran.dy, 1e-5), 2e-7, 2e-6);
  });
}

test("layerNorm() of a constant row is b, whatever eps", async () => {
  for (const C of [7, 8]) {
    const [, w, b] = inputs(1, C);
    const constant = { shape: [2, C], data: new Float32Array(2 * C).fill(-12345.678) };
    const y = await forward(device, [constant, w, b], (...t) => layerNorm(t[0], t[1], t[2], 1e-12));
    assert.deepEqual([...y], [...b.data, ...b.data]);
  }
});

test("layerNorm() with an activation agrees with float64, fused and recorded", async () => {
  const given = inputs(5, 20);
  const ran = await run(device, given, (x, w, b) => layerNorm(x, w, b, 1e-5, "gelu"));
  const inside = reference(given, ran.dy, 1e-5).y;
  const dy = Float32Array.from(inside, (v, i) => activations.gelu.slope(v) * ran.dy[i]);
  const { gradients } = reference(given, dy, 1e-5);
  agree(ran, { y: inside.map(activations.gelu.f), gradients });
});

test("layerNorm() normalises the last axis of any shape", async () => {
  const [x, w, b] = inputs(6, 5);
  const ran = await run(device, [{ ...x, shape: [2, 3, 5] }, w, b], (...t) =>
    layerNorm(t[0], t[1], t[2], 1e-5),
  );
  assert.deepEqual(ran.shape, [2, 3, 5]);
  near(ran.y, reference([x, w, b], ran.dy, 1e-5).y, 1e-6, "y");
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

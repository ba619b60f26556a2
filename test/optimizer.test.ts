import assert from "node:assert/strict";
import { test } from "node:test";
import { adamStep, clipNorm, sgdStep } from "../src/ops/optimizer.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { near } from "./ops_fixture.ts";
import { normal } from "./reference.ts";

const device = await testDevice();
const upload = (data: Float32Array) => Tensor.from(device, data, [data.length]);
const squares = (data: Float32Array) => data.reduce((sum, v) => sum + v * v, 0);

async function values(body: () => Tensor): Promise<Float32Array> {
  const t = scope(device, body);
  const found = await t.read();
  t.release();
  return found;
}

test("clipNorm() gives the global norm and the factor that clips it, loss scale and all", async () => {
  const [a, b] = [normal(1001, 1), normal(7, 2)];
  const norm = Math.sqrt(squares(a) + squares(b));
  const clip = (most?: number, unscale?: number) =>
    values(() => clipNorm(device, [upload(a), upload(b)], most, unscale));
  near(await clip(), [1, norm, 1], 1e-7, "no clipping");
  near(await clip(2), [2 / (norm + 1e-6), norm, 1], 1e-7, "clipping");
  near(await clip(2, 0.25), [(2 / (norm / 4 + 1e-6)) * 0.25, norm / 4, 1], 1e-7, "clipping of a scaled loss");
  const broken = Float32Array.from(a).fill(Number.NaN, 500, 501);
  const [factor, , finite] = await values(() => clipNorm(device, [upload(broken)]));
  assert.deepEqual([factor, finite], [0, 0]);
});

test("clipNorm() of eight million values is within 3e-7 of float64", async () => {
  const data = normal(4096, 3);
  const n = 8_000_000;
  const found = await values(() => {
    const many = Tensor.empty(device, [n]);
    many.write(Float32Array.from({ length: n }, (_, i) => data[i % 4096]));
    return clipNorm(device, [many]);
  });
  let want = 0;
  for (let i = 0; i < n; i++) want += data[i % 4096] ** 2;
  near(found.subarray(1, 2), [Math.sqrt(want)], 3e-7, "the norm");
});

for (const decoupled of [true, false]) {
  test(`adamStep() agrees with torch's ${decoupled ? "AdamW" : "Adam"} in float64 for three steps`, async () => {
    const N = 17;
    const rule = { rate: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, decay: 0.1, decoupled };
    const [p, m, v] = [Array.from(normal(N, 1)), Array<number>(N).fill(0), Array<number>(N).fill(0)];
    const on = [p, m, v].map((list) => upload(Float32Array.from(list)));
    for (let step = 1; step <= 3; step++) {
      const g = normal(N, 10 + step);
      scope(device, () =>
        adamStep(on[0], upload(g), on[1], on[2], upload(Float32Array.of(0.5, 1, 1)), { ...rule, step }),
      );
      for (let i = 0; i < N; i++) {
        const grad = g[i] / 2 + (decoupled ? 0 : rule.decay * p[i]);
        if (decoupled) p[i] *= 1 - rule.rate * rule.decay;
        m[i] = rule.beta1 * m[i] + (1 - rule.beta1) * grad;
        v[i] = rule.beta2 * v[i] + (1 - rule.beta2) * grad * grad;
        const root = Math.sqrt(v[i] / (1 - rule.beta2 ** step)) + rule.eps;
        p[i] -= (rule.rate * m[i]) / (1 - rule.beta1 ** step) / root;
      }
    }
    for (const [i, want] of [p, m, v].entries()) near(await on[i].read(), want, 1e-6, ["p", "m", "v"][i]);
    for (const t of on) t.release();
  });
}

test("sgdStep() agrees with torch's SGD in float64, and a gradient that is not finite changes nothing", async () => {
  const N = 9;
  const [p, m] = [Array.from(normal(N, 1)), Array<number>(N).fill(0)];
  const on = [p, m].map((list) => upload(Float32Array.from(list)));
  const step = (g: Float32Array, clip: number[], number: number) =>
    scope(device, () =>
      sgdStep(on[0], upload(g), on[1], upload(Float32Array.from(clip)), {
        ...{ rate: 0.1, momentum: 0.9, decay: 0.01, step: number },
      }),
    );
  for (const number of [1, 2]) {
    const g = normal(N, 20 + number);
    step(g, [1, 1, 1], number);
    for (let i = 0; i < N; i++) {
      const grad = g[i] + 0.01 * p[i];
      m[i] = number === 1 ? grad : 0.9 * m[i] + grad;
      p[i] -= 0.1 * m[i];
    }
  }
  step(normal(N, 30), [0, 1, 0], 3);
  for (const [i, want] of [p, m].entries()) near(await on[i].read(), want, 1e-6, "pm"[i]);
  for (const t of on) t.release();
});

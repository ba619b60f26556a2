import assert from "node:assert/strict";
import { test } from "node:test";
import { dropout } from "../src/ops/dropout.ts";
import { testDevice } from "./device.ts";
import { type Given, forward, run } from "./ops_fixture.ts";

const device = await testDevice();
const N = 10_007;
const ones: Given = { shape: [N], data: new Float32Array(N).fill(1) };
const seeded = (seed: number) => ({ next: () => seed });

test("dropout() keeps the share that the rate leaves, scaled, and drops the same forward and backward", async () => {
  for (const rate of [0.1, 0.5, 0.9]) {
    const { recorded, gradients, dy } = await run(device, [ones], (x) => dropout(x, rate, seeded(7)));
    const kept = recorded.filter((v) => v !== 0);
    assert.ok(kept.every((v) => v === Math.fround(1 / (1 - rate))));
    const deviation = Math.sqrt(rate * (1 - rate) * N);
    assert.ok(Math.abs(kept.length - (1 - rate) * N) < 5 * deviation, `${kept.length} kept at rate ${rate}`);
    gradients[0].forEach((g, i) => {
      assert.ok(g === Math.fround(dy[i] * recorded[i]), `gradient ${i} is ${g}`);
    });
  }
});

test("dropout() is a function of its seed", async () => {
  const y = (seed: number) => forward(device, [ones], (x) => dropout(x, 0.5, seeded(seed)));
  assert.deepEqual(await y(1), await y(1));
  assert.notDeepEqual(await y(1), await y(2));
});

test("dropout() leaves all at rate 0 or without a source, and nothing at rate 1", async () => {
  for (const source of [seeded(1), undefined])
    assert.deepEqual(await forward(device, [ones], (x) => dropout(x, source ? 0 : 0.5, source)), ones.data);
  assert.deepEqual(await forward(device, [ones], (x) => dropout(x, 1, seeded(3))), new Float32Array(N));
});

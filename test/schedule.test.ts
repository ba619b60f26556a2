import assert from "node:assert/strict";
import { test } from "node:test";
import { newBob, scheduleFactor } from "../src/train/schedule.ts";

test("scheduleFactor() rises over the warm-up, then falls to the end", () => {
  const linear = (step: number) => scheduleFactor(step, { kind: "linear", warmup: 0.1, total: 100 });
  assert.equal(linear(1), 0.1);
  assert.equal(linear(10), 1);
  assert.ok(linear(55) > 0.49 && linear(55) < 0.52);
  assert.ok(linear(100) > 0 && linear(100) < 0.02);
  for (const kind of ["constant", "newbob"] as const) {
    assert.equal(scheduleFactor(77, { kind, warmup: 0.1, total: 100 }), 1);
    assert.equal(scheduleFactor(5, { kind, warmup: 0.1, total: 100 }), 0.5);
  }
  assert.equal(scheduleFactor(1, { kind: "linear", warmup: 0, total: 1 }), 1);
});

test("newBob() halves the rate where the dev loss stalls", () => {
  const first = newBob({ factor: 1 }, 2);
  const better = newBob(first, 1.5);
  const stalled = newBob(better, 1.499);
  assert.deepEqual(
    [first.factor, better.factor, stalled.factor, newBob(stalled, 3).factor],
    [1, 1, 0.5, 0.25],
  );
});

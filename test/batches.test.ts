/** How an epoch is cut into batches, and to which lengths these are padded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { planEpoch, planInOrder, roundLength } from "../src/speech/training/batches.ts";
import { uniformStream } from "../src/train/seeds.ts";

test("planEpoch() uses every item once, keeps lengths together and limits, and differs by epoch", () => {
  const next = uniformStream(4);
  const seconds = Array.from({ length: 300 }, () => 0.5 + 9 * next());
  const plan = planEpoch(seconds, { items: 8, seconds: 30 }, 1, 0);
  assert.deepEqual(
    plan.flat().sort((a, b) => a - b),
    seconds.map((_, i) => i),
  );
  let padded = 0;
  for (const batch of plan) {
    const longest = Math.max(...batch.map((i) => seconds[i]));
    assert.ok(batch.length <= 8 && (batch.length === 1 || batch.length * longest <= 30));
    padded += batch.length * longest;
  }
  assert.ok(seconds.reduce((a, b) => a + b) / padded > 0.85, "much padding");
  assert.deepEqual(planEpoch(seconds, { items: 8, seconds: 30 }, 1, 0), plan);
  assert.notDeepEqual(planEpoch(seconds, { items: 8, seconds: 30 }, 1, 1), plan);
  const ordered = planInOrder(seconds, { items: 8 }).flat();
  assert.ok(ordered.every((i, k) => k === 0 || seconds[ordered[k - 1]] <= seconds[i]));
});

test("roundLength() adds at most 6.25 % and has few values", () => {
  const seen = new Set<number>();
  for (let n = 400; n < 200_000; n += 97) {
    const rounded = roundLength(n);
    assert.ok(rounded >= n && rounded <= 1.0625 * n + 1, `${n} → ${rounded}`);
    seen.add(rounded);
  }
  assert.ok(seen.size <= 16 * 10, `${seen.size}`);
});

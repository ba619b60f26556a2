import assert from "node:assert/strict";
import { test } from "node:test";
import { expected, inOrder, readTimes, totals, withoutNoise } from "../tools/test_runs.ts";

const times = { "node a": 10, "deno a": 2, "node b": 30 };

test("inOrder() puts the longest first, and files that never ran among them", () => {
  assert.deepEqual(inOrder(["deno a", "node new", "node a", "node b"], times), [
    "node b",
    "node a",
    "node new",
    "deno a",
  ]);
});

test("expected() is the time of the worker that ends last", () => {
  const queue = ["node b", "node a", "deno a"];
  assert.equal(expected(queue, times, 1), 42);
  assert.equal(expected(queue, times, 2), 30);
});

test("readTimes() keeps times and nothing else", () => {
  assert.deepEqual(readTimes('{"node a":1.5,"node b":null,"node c":-1,"node d":"x"}'), { "node a": 1.5 });
});

test("totals() reads the counts of both runtimes, coloured or not", () => {
  const node = "\x1b[34mℹ pass 12\x1b[39m\nℹ fail 1\nℹ skipped 2\n";
  assert.deepEqual(totals("node", node), { passed: 12, failed: 1, skipped: 2 });
  const deno = "\n\x1b[32mok\x1b[0m | 7 passed | 0 failed | 3 ignored (1s)\n";
  assert.deepEqual(totals("deno", deno), { passed: 7, failed: 0, skipped: 3 });
  assert.deepEqual(totals("node", "SyntaxError"), { passed: 0, failed: 0, skipped: 0 });
});

test("withoutNoise() leaves the tests, their notes and their errors", () => {
  const output = "✔ a test (1ms)\nℹ a note\nℹ tests 1\nℹ duration_ms 3.5\nno line end";
  assert.equal(withoutNoise(output), "✔ a test (1ms)\nℹ a note\nno line end");
});

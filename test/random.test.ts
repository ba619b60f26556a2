/** Every run, corpus and fresh weight rests on these numbers: they are written down so that none of them ever moves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { random } from "../src/speech/corpora/random.ts";
import { draw } from "../src/nn/init.ts";
import { hash, normal, shuffled, uniform } from "../src/nn/random.ts";
import { seedOf, trainingStream, uniformStream } from "../src/train/seeds.ts";

test("hash() and uniform() give the numbers they always gave", () => {
  assert.equal(hash(""), 0x811c9dc5);
  assert.equal(hash("hubert"), 2084618813);
  assert.equal(uniform(7)(), 0.011704753153026104);
});

test("draw() begins parameters with the values it always gave", () => {
  assert.deepEqual(
    [...draw({ kind: "normal", std: 0.02 }, 3, 3, "x")],
    [0.02043699100613594, 0.008677233941853046, 0.01560176070779562],
  );
});

test("random() makes a corpus of the numbers it always gave", () => {
  assert.equal(random("a").uniform(), 0.8324706701096147);
  assert.equal(random(1, "b").normal(), 0.2350612669126712);
});

test("seedOf() and trainingStream() repeat a run that was begun before", () => {
  assert.equal(seedOf(7, "order", 1, 12), 481596259);
  const stream = trainingStream(3, "dropout", 1);
  const numbers = Array.from({ length: 101 }, () => stream.next());
  assert.equal(numbers[100], 2409757387);
});

test("trainingStream() is a function of what it is for, and even", () => {
  const draw = (...parts: (string | number)[]) => {
    const stream = trainingStream(...parts);
    return Array.from({ length: 4000 }, () => stream.next());
  };
  assert.deepEqual(draw(1, "step", 2, 3), draw(1, "step", 2, 3));
  assert.notDeepEqual(draw(1, "step", 2, 3), draw(1, "step", 3, 2));
  const numbers = draw(7);
  assert.ok(numbers.every((n) => Number.isInteger(n) && n >= 0 && n < 2 ** 32));
  assert.ok(new Set(numbers).size > 3990);
  const mean = numbers.reduce((a, b) => a + b, 0) / numbers.length / 2 ** 32;
  assert.ok(Math.abs(mean - 0.5) < 0.02, `${mean}`);
  assert.notEqual(seedOf(0, 1), seedOf(1, 0));
});

test("shuffled() gives one order for one stream, whoever asks", () => {
  assert.deepEqual(shuffled([1, 2, 3, 4, 5, 6, 7, 8], uniform(1)), [3, 2, 7, 8, 5, 4, 1, 6]);
  const items = Array.from({ length: 50 }, (_, i) => i);
  assert.deepEqual(random(2, "c").shuffled(items), shuffled(items, random(2, "c").uniform));
  assert.notDeepEqual(shuffled(items, uniformStream(1)), items);
  assert.deepEqual(
    shuffled(items, uniformStream(1)).sort((a, b) => a - b),
    items,
  );
});

test("normal() scales by its deviation", () => {
  assert.equal(normal(uniform(5), 4), 4 * normal(uniform(5)));
});

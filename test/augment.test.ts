/** Random changes to what is trained on: to samples, and masks over frames. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { augmented, misspelled, shiftPitchAndFormants } from "../src/speech/training/augment.ts";
import { maskSpans } from "../src/speech/training/spec_augment.ts";
import { uniformStream } from "../src/train/seeds.ts";

test("augmented() changes length by the speed and is the same for the same numbers", () => {
  const clip = Float32Array.from({ length: 16_000 }, (_, t) => Math.sin(t / 9));
  const change = { speed: 0.1, pitchFormantShift: 0.1, tilt: 0.2, noise: 0.05 };
  const once = augmented(clip, change, uniformStream(3));
  assert.deepEqual(augmented(clip, change, uniformStream(3)), once);
  assert.ok(Math.abs(once.length / clip.length - 1) <= 0.12 && once.length !== clip.length);
  assert.ok(once.every(Number.isFinite));
  assert.equal(
    augmented(clip, { speed: 0, pitchFormantShift: 0, tilt: 0, noise: 0 }, uniformStream(3)),
    clip,
  );
});

test("misspelled() changes letters of about that share of the words, and no others", () => {
  const words = Array.from({ length: 400 }, (_, i) => ["TERRIBLE", "SO", "WINDOW", "A"][i % 4]);
  const once = misspelled(words.join(" "), 0.25, uniformStream(3));
  assert.equal(misspelled(words.join(" "), 0.25, uniformStream(3)), once);
  assert.match(once, /^[A-Z]+( [A-Z]+)*$/);
  // A short word may lose its only letter.
  const kept = once.split(" ").filter((word) => words.includes(word)).length;
  assert.ok(kept > 270 && kept < 330, `${kept} of 400 as they were`);
  assert.equal(misspelled("SO IT IS", 0, uniformStream(3)), "SO IT IS");
  assert.equal(misspelled("", 1, uniformStream(3)), "");
  const changed = misspelled("TERRIBLE WINDOW", 1, uniformStream(4)).split(" ");
  assert.ok(changed.every((word, i) => word !== ["TERRIBLE", "WINDOW"][i]));
});

test("shiftPitchAndFormants() moves the pitch and keeps the tempo", () => {
  // A tone of 200 Hz that is loud in the second half.
  const clip = new Float32Array(16000).map(
    (_, i) => Math.sin((2 * Math.PI * 200 * i) / 16000) * (i < 8000 ? 0.1 : 1),
  );
  for (const factor of [0.75, 1.3]) {
    const moved = shiftPitchAndFormants(clip, factor);
    assert.equal(moved.length, clip.length);
    const rises = (from: number, to: number) =>
      moved.subarray(from, to).reduce((n, x, i, all) => n + (i > 0 && all[i - 1] < 0 && x >= 0 ? 1 : 0), 0);
    assert.ok(
      Math.abs(rises(1000, 15000) / (200 * factor * 0.875) - 1) < 0.03,
      `${rises(1000, 15000)} periods`,
    );
    const level = (from: number, to: number) => Math.max(...moved.subarray(from, to).map(Math.abs));
    assert.ok(level(1000, 7500) < 0.15 && level(8500, 15500) > 0.85);
  }
});

test("maskSpans() covers about the share asked for, in whole spans, inside each row", () => {
  const [rows, width, length] = [200, 120, 10];
  const lengths = Array.from({ length: rows }, (_, b) => (b % 2 ? 120 : 60));
  const mask = maskSpans(lengths, width, { probability: 0.4, length, minimum: 2 }, uniformStream(1));
  let [masked, all] = [0, 0];
  lengths.forEach((n, b) => {
    const row = Array.from(mask.subarray(b * width, (b + 1) * width));
    assert.ok(
      row.slice(n).every((m) => m === 0),
      "padding is masked",
    );
    for (const run of row.join("").split("0").filter(Boolean)) assert.ok(run.length >= length);
    masked += row.reduce((a, m) => a + m, 0);
    all += n;
  });
  // Spans may overlap: fewer frames than the probability says.
  assert.ok(masked / all > 0.25 && masked / all < 0.4, `${masked / all}`);
});

test("maskSpans() leaves a row alone that is shorter than a span", () => {
  const options = { probability: 0.9, length: 10, minimum: 2 };
  assert.ok(!maskSpans([9], 9, options, uniformStream(1)).includes(1));
  assert.equal(
    maskSpans([10], 10, options, uniformStream(1)).reduce((a, b) => a + b),
    10,
  );
});

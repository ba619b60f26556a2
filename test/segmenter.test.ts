import assert from "node:assert/strict";
import { test } from "node:test";
import { joined } from "../src/io/audio_stream.ts";
import { type Segment, Segmenter, type SegmentOptions } from "../src/io/segmenter.ts";
import { uniform } from "./reference.ts";

const RATE = 16_000;
const random = uniform(5);
/** Of variance 1. */
const noise = () => Math.sqrt(12) * (random() - 0.5);

/** Noise of an RMS in dB, which comes and goes 5 times a second as syllables do, where `speech` is true. */
function sound(seconds: number, level: number, speech = false): Float32Array {
  const size = 10 ** (level / 20);
  return Float32Array.from({ length: Math.round(seconds * RATE) }, (_, i) => {
    const envelope = speech ? Math.SQRT2 * Math.abs(Math.sin((Math.PI * 5 * i) / RATE)) : 1;
    return size * envelope * noise();
  });
}

function divide(samples: Float32Array, options: SegmentOptions = {}, piece = 5000): Segment[] {
  const segmenter = new Segmenter(options);
  const found: Segment[] = [];
  for (let at = 0; at < samples.length; at += piece)
    found.push(...segmenter.push(samples.subarray(at, at + piece)));
  found.push(...segmenter.end());
  for (const { start, samples: own } of found)
    assert.deepEqual(own, samples.slice(start, start + own.length), "a segment holds other samples");
  return found;
}

const times = (segments: readonly Segment[]) =>
  segments.map(({ start, samples }) => [start / RATE, (start + samples.length) / RATE]);

function near(got: readonly number[][], want: readonly number[][], tolerance = 0.1): void {
  assert.equal(got.length, want.length, JSON.stringify(got));
  for (const [i, pair] of want.entries())
    for (const k of [0, 1])
      assert.ok(
        Math.abs(got[i][k] - pair[k]) <= tolerance,
        `${JSON.stringify(got)}, expected ${JSON.stringify(want)}`,
      );
}

test("Segmenter finds speech above noise of any level, with its padding", () => {
  for (const floor of [-90, -60, -40]) {
    const parts = [
      sound(2, floor),
      sound(2, -20, true),
      sound(1.5, floor),
      sound(1, -20, true),
      sound(2, floor),
    ];
    near(times(divide(joined(parts))), [
      [1.8, 4.2],
      [5.3, 6.7],
    ]);
  }
});

test("Segmenter hears speech with which a recording begins and ends", () => {
  near(times(divide(sound(3, -25, true))), [[0, 3]]);
});

test("Segmenter keeps pauses shorter than minSilence, and leaves out clicks and what is silent", () => {
  const pause = joined([
    sound(1, -70),
    sound(1, -20, true),
    sound(0.3, -70),
    sound(1, -20, true),
    sound(1, -70),
  ]);
  near(times(divide(pause)), [[0.8, 3.5]]);
  assert.equal(divide(pause, { minSilence: 0.2, speechPad: 0.05 }).length, 2);
  const click = joined([sound(2, -70), sound(0.04, -20), sound(2, -70)]);
  assert.deepEqual(times(divide(click)), []);
  assert.deepEqual(times(divide(sound(3, -100))), []);
  assert.deepEqual(times(divide(new Float32Array(3 * RATE))), []);
  assert.deepEqual(times(divide(new Float32Array(0))), []);
});

test("Segmenter divides long speech into windows that overlap", () => {
  const found = divide(joined([sound(1, -70), sound(11, -20, true), sound(2, -70)]), {
    maxSpeech: 5,
    overlap: 1,
  });
  near(times(found), [
    [0.8, 5.8],
    [4.8, 9.8],
    [8.8, 12.2],
  ]);
  assert.deepEqual(
    found.map(({ continues }) => continues),
    [false, true, true],
  );
});

test("Segmenter leaves out a last window of which all is in the one before", () => {
  const found = divide(joined([sound(1, -70), sound(4.5, -20, true), sound(2, -70)]), {
    maxSpeech: 5,
    overlap: 1,
  });
  near(times(found), [[0.8, 5.7]], 0.15);
});

test("Segmenter finds the same in pieces of any length", () => {
  const samples = joined([sound(1, -60), sound(7, -20, true), sound(1, -60), sound(1.007, -25, true)]);
  const want = divide(samples, { maxSpeech: 3, overlap: 0.5 });
  for (const piece of [100, 3333, samples.length])
    assert.deepEqual(divide(samples, { maxSpeech: 3, overlap: 0.5 }, piece), want);
});

test("Segmenter leaves out a noise that begins and stays, and finds speech above it", () => {
  const parts = [sound(3, -70), sound(15, -40), sound(2, -15, true), sound(3, -40)];
  near(times(divide(joined(parts))), [[17.8, 20.2]]);
});

test("Segmenter refuses options that contradict each other", () => {
  for (const [options, wanted] of [
    [{ offset: 12 }, /offset 12 is above onset 9/],
    [{ maxSpeech: 0.5 }, /maxSpeech is 0.5 s, expected at least 1/],
    [{ maxSpeech: 3 }, /overlap 2 s is more than half of maxSpeech 3 s/],
    [{ minSilence: -1 }, /minSilence is -1, expected a number of at least 0/],
    [{ minSpeech: 40 }, /minSpeech 40 s is more than maxSpeech 30 s/],
  ] as [SegmentOptions, RegExp][])
    assert.throws(() => new Segmenter(options), wanted);
});

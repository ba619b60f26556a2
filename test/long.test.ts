import assert from "node:assert/strict";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { joined } from "../src/io/audio_stream.ts";
import type { DecodedWord } from "../src/io/decode.ts";
import { CtcVocabulary } from "../src/io/vocabulary.ts";
import { cutOf } from "../src/speech/predict/join_words.ts";
import { recognizeLong, recognizeSegments } from "../src/speech/predict/long.ts";
import { SpeechStream } from "../src/speech/predict/stream.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { testDevice } from "./device.ts";
import { uniform } from "./reference.ts";

const RATE = 16_000;
const clips = `${fileURLToPath(new URL("..", import.meta.url))}weights/demo/clips`;
const host = await currentHost();
const device = await testDevice();
const recognizer = await openRecognizer(host, device, `${clips}/..`);
after(() => recognizer.dispose());
const [furious, weary] = await Promise.all(
  ["furious", "weary"].map(async (name) => (await readWav(host, `${clips}/${name}.wav`)).samples),
);
const pause = new Float32Array(RATE);
/** Two recordings with pauses, 5.5 s. */
const dialogue = joined([pause, furious, pause, weary, pause]);

function* inPieces(samples: Float32Array, length: number) {
  for (let at = 0; at < samples.length; at += length) yield samples.subarray(at, at + length);
}

const word = (text: string, start: number, end: number): DecodedWord => ({
  ...{ text, start, end, confidence: 1 },
  characters: [...text].map((character) => ({ text: character, start, end, confidence: 1 })),
});

test("recognizeLong() recognises each segment of speech, at its place", async () => {
  const found = await recognizeLong(recognizer, inPieces(dialogue, 7000));
  assert.equal(found.segments.length, 2);
  assert.equal(found.seconds, dialogue.length / RATE);
  for (const segment of found.segments) {
    const own = dialogue.subarray(Math.round(segment.start * RATE), Math.round(segment.end * RATE));
    const [alone] = await recognizer.recognize([own]);
    assert.equal(segment.transcript?.text, alone.transcript?.text);
    for (const [i, { start, text }] of (alone.transcript?.words ?? []).entries()) {
      const placed = segment.transcript?.words[i];
      assert.equal(placed?.text, text);
      assert.ok(Math.abs((placed?.start ?? 0) - start - segment.start) < 1e-9);
    }
    for (const [label, p] of Object.entries(alone.probabilities ?? {}))
      assert.ok(Math.abs((segment.probabilities?.[label] ?? 0) - p) < 1e-5);
  }
  const pieces = await recognizer.recognize([furious, weary]);
  assert.deepEqual(
    found.segments.map(({ transcript }) => transcript?.text),
    pieces.map(({ transcript }) => transcript?.text),
    "the words of recordings joined with silence are those of the recordings",
  );
  const texts = found.segments.map(({ transcript }) => transcript?.text);
  assert.equal(found.transcript?.text, texts.filter(Boolean).join(" "));
  assert.equal(recognizer.vocabulary?.decode(found.transcript?.ids ?? []), found.transcript?.text);
  const [a, b] = found.segments.map(({ start, end }) => end - start);
  for (const [label, p] of Object.entries(found.probabilities ?? {})) {
    const [first, second] = found.segments.map(({ probabilities }) => probabilities?.[label] ?? 0);
    assert.ok(Math.abs(p - (a * first + b * second) / (a + b)) < 1e-9);
  }
});

test("recognizeLong() says of a recording without speech that it is silent", async () => {
  const { segments, ...rest } = await recognizeLong(recognizer, [pause, pause]);
  assert.deepEqual([segments, rest], [[], { seconds: 2, silent: true }]);
});

test("recognizeLong() gives embeddings of segments or of frames", async () => {
  const utterance = await recognizeLong(recognizer, [dialogue], { embeddings: "utterance" });
  const frame = await recognizeLong(recognizer, [dialogue], { embeddings: "frame" });
  for (const [i, { start, embedding }] of frame.segments.entries()) {
    const mean = utterance.segments[i].embedding;
    assert.ok(embedding && mean && mean.frames === 1);
    const { values, frames, size } = embedding;
    assert.equal(values.length, frames * size);
    assert.equal(embedding.start, start);
    for (let k = 0; k < size; k++) {
      let sum = 0;
      for (let t = 0; t < frames; t++) sum += values[t * size + k];
      assert.ok(Math.abs(mean.values[k] - sum / frames) < 1e-4);
    }
  }
});

test("recognizeSegments() joins the words of windows without loss or repetition", async () => {
  const vocabulary = new CtcVocabulary({ "<pad>": 0, "|": 1, a: 2, b: 3, c: 4, d: 5 });
  const random = uniform(6);
  // 100 s of speech without a pause: words of a letter or two, one after another.
  const truth: DecodedWord[] = [];
  for (let at = 0.1; at < 99; ) {
    const text = Array.from(
      { length: 1 + Math.floor(2 * random()) },
      () => "abcd"[Math.floor(4 * random())],
    ).join("");
    truth.push(word(text, at, at + 0.3));
    at += 0.4 + 0.3 * random();
  }
  const speech = Float32Array.from(
    { length: 100 * RATE },
    (_, i) => 0.1 * Math.sin((Math.PI * 5 * i) / RATE) * (random() - 0.5) * (1 + i / (200 * RATE)),
  );
  // Windows are told by their first samples; a word that a border cuts is heard wrong.
  const place = (samples: Float32Array) => {
    for (let at = 0; at < speech.length; at += 80)
      if (samples[0] === speech[at] && samples[1] === speech[at + 1] && samples[50] === speech[at + 50])
        return at;
    throw new Error("unknown window");
  };
  const lengths: number[] = [];
  const found = await recognizeSegments(
    inPieces(speech, 10_001),
    { maxSpeech: 10, overlap: 2 },
    vocabulary,
    async (audios) =>
      audios.map((samples) => {
        lengths.push(samples.length);
        const begin = place(samples) / RATE;
        const end = begin + samples.length / RATE;
        const words = truth
          .filter((each) => each.end > begin && each.start < end)
          .map((each) => {
            const text = each.start < begin || each.end > end ? "dd" : each.text;
            return word(text, Math.max(0, each.start - begin), Math.min(end, each.end) - begin);
          });
        return {
          seconds: end - begin,
          transcript: { text: "", words, ids: [] },
          probabilities: { x: 1 },
          emotion: "x",
        };
      }),
  );
  assert.ok(lengths.length > 10 && lengths.every((length) => length <= 10 * RATE));
  assert.deepEqual(
    found.transcript?.words.map(({ text }) => text),
    truth.map(({ text }) => text),
  );
  for (const [i, { start }] of found.segments.entries())
    assert.ok(i === 0 || Math.abs(start - found.segments[i - 1].end) < 1e-9, "segments overlap");
});

test("cutOf() cuts through a word of both windows, else through the middle", () => {
  const first = [word("one", 7, 7.4), word("two", 8, 8.4), word("thr", 9, 9.4)];
  const second = [word("wo", 8.1, 8.4), word("three", 9, 9.5), word("four", 10, 10.4)];
  assert.deepEqual(cutOf(first, second, [8, 10]), { before: 2, from: 1 });
  const again = [word("two", 8.05, 8.45), ...second.slice(1)];
  assert.equal(cutOf(first, again, [8, 10]).before, 2);
  assert.equal(cutOf(first, again, [8, 10]).from, 1);
  assert.deepEqual(cutOf([], second, [8, 10]), { before: 0, from: 1 });
});

test("SpeechStream gives partial words and emotions, and in the end what recognizeLong() gives", async () => {
  const stream = new SpeechStream(recognizer);
  const partial: number[] = [];
  const final: number[] = [];
  for (const piece of inPieces(dialogue, 1600)) {
    const update = await stream.push(piece);
    if (update.partial) {
      assert.ok(
        update.partial.emotion && update.partial.transcript,
        "a partial answer without words or emotion",
      );
      partial.push(update.partial.end);
    }
    final.push(...update.final.map(({ start }) => start));
  }
  const whole = await stream.end();
  const want = await recognizeLong(recognizer, [dialogue]);
  assert.deepEqual(
    whole.segments.map(({ start, end, transcript }) => [start, end, transcript?.text]),
    want.segments.map(({ start, end, transcript }) => [start, end, transcript?.text]),
  );
  assert.ok(partial.length >= 2, "no partial answers");
  assert.deepEqual(
    final,
    want.segments.map(({ start }) => start),
  );
});

test("SpeechStream and recognizeLong() hand on how words are decoded; a partial answer is not taken for the end", async (t) => {
  const asked = t.mock.method(recognizer, "recognize");
  const stream = new SpeechStream(recognizer, { languageModel: false, beam: 3 });
  for (const piece of inPieces(furious, 8000)) await stream.push(piece);
  const partial = asked.mock.callCount();
  await stream.end();
  const given = asked.mock.calls.map((call) => call.arguments[1]);
  assert.ok(partial > 0 && given.length > partial);
  assert.deepEqual(given[0], { beam: 3, languageModel: false, isEnd: false });
  assert.deepEqual(given.at(-1), { beam: 3, languageModel: false, isEnd: true });
  await recognizeLong(recognizer, [furious], { languageModel: false });
  assert.equal(asked.mock.calls.at(-1)?.arguments[1]?.languageModel, false);
});

test("SpeechStream hears any rate and answers calls that are not waited for in their order", async () => {
  const stream = new SpeechStream(recognizer, { sampleRate: 8000 });
  const updates = await Promise.all([...inPieces(furious, 4000)].map((piece) => stream.push(piece)));
  assert.deepEqual(
    updates.map(({ seconds }) => seconds),
    updates.map(({ seconds }) => seconds).sort((a, b) => a - b),
  );
  const { seconds, segments } = await stream.end();
  assert.ok(Math.abs(seconds - furious.length / 8000) < 0.01);
  assert.equal(segments.length, 1);
  assert.throws(() => new SpeechStream(recognizer, { sampleRate: 0 }), /Cannot hear at 0 Hz/);
});

test("recognizing long recordings leaves no bytes alive", async () => {
  await recognizeLong(recognizer, [dialogue]);
  const { live } = device.pool.statistics;
  for (let i = 0; i < 3; i++) await recognizeLong(recognizer, [dialogue], { embeddings: "frame" });
  assert.equal(device.pool.statistics.live, live);
});

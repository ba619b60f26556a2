import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { DecodedWord } from "../src/io/decode.ts";
import { toAudacity, toCsv, toRttm, toSrt, toVtt } from "../src/speech/predict/formats.ts";
import type { LongRecognition, RecognizedSegment } from "../src/speech/predict/long.ts";
import { recordingPage } from "../src/speech/predict/page.ts";
import { Waveform } from "../src/speech/predict/waveform.ts";
import { visit, withoutChromium } from "./chromium.ts";

const folder = mkdtempSync(join(tmpdir(), "wavegate-recording-formats-"));
after(() => rmSync(folder, { recursive: true }));

function segment(start: number, end: number, text: string, emotion: string, p: number): RecognizedSegment {
  const texts = text.split(" ").filter(Boolean);
  const step = (end - start) / Math.max(1, texts.length);
  const words = texts.map((each, i): DecodedWord => {
    const from = start + i * step;
    return { text: each, start: from, end: from + 0.8 * step, confidence: 0.9, characters: [] };
  });
  return {
    ...{ start, end, emotion, probabilities: { angry: p, "sad <x>": 1 - p } },
    transcript: { text, words, ids: [] },
    gates: { acoustic: 0.6, text: 0.4 },
  };
}

const segments = [
  segment(0.5, 2.5, "GO AWAY", "angry", 0.9),
  segment(3, 4, "", "sad <x>", 0.25),
  segment(
    3661,
    3671,
    "A LONG SENTENCE THAT CERTAINLY TAKES MORE THAN TWO LINES OF A SUBTITLE AND MORE & MORE",
    "angry",
    0.75,
  ),
];
const recognition: LongRecognition = {
  ...{ seconds: 3700, emotion: "angry", probabilities: { angry: 0.7, "sad <x>": 0.3 } },
  transcript: { text: segments.map(({ transcript }) => transcript?.text).join(" "), words: [], ids: [] },
  ...{ gates: { acoustic: 0.6, text: 0.4 }, segments },
};
const file = { file: "calls/one two.wav", recognition };

test("SRT and WebVTT hold words with the emotion in lines that fit, and a cue where there are no words", () => {
  const srt = toSrt(file).split("\n\n");
  assert.equal(srt[0], "1\n00:00:00,500 --> 00:00:02,300\n[angry] GO AWAY");
  assert.equal(srt[1], "2\n00:00:03,000 --> 00:00:04,000\n[sad <x>]");
  assert.match(srt[2], /^3\n01:01:01,000 --> 01:01:0[67],\d{3}\n\[angry\] A LONG/);
  assert.ok(srt.length >= 4);
  for (const cue of srt) {
    const lines = cue.trim().split("\n").slice(2);
    assert.ok(lines.length <= 2 && lines.every((line) => line.length <= 42 + "[angry] ".length), cue);
  }
  const vtt = toVtt(file);
  assert.ok(vtt.startsWith("WEBVTT\n\n00:00:00.500 --> 00:00:02.300\n<c.angry>[angry] GO AWAY</c>\n"));
  assert.match(vtt, /<c\.sad__x_>\[sad &lt;x&gt;\]<\/c>/);
  assert.match(vtt, /MORE &amp; MORE/);
});

test("cues do not overlap, and last at least half a second where there is room", () => {
  const quick = {
    ...recognition,
    segments: [segment(1, 1.1, "HM", "angry", 1), segment(1.3, 1.4, "NO", "angry", 1)],
  };
  const times = [...toSrt({ ...file, recognition: quick }).matchAll(/(\S+) --> (\S+)/g)].map(([, a, b]) => [
    a,
    b,
  ]);
  assert.deepEqual(times, [
    ["00:00:01,000", "00:00:01,300"],
    ["00:00:01,300", "00:00:01,800"],
  ]);
});

test("CSV has a row for each segment of each recording", () => {
  const plain = {
    file: 'a "b".wav',
    recognition: { seconds: 2, emotion: "angry", probabilities: { angry: 1 } },
  };
  const silent = { file: "c.wav", recognition: { seconds: 1, silent: true } as const };
  const [header, first, , third, fourth, ...rest] = toCsv([file, plain, silent]).split("\n");
  assert.equal(header, "file,segment,start,end,words,emotion,p_angry,p_sad <x>,acoustic_gate,text_gate");
  assert.equal(first, "calls/one two.wav,0,0.500,2.500,GO AWAY,angry,0.9000,0.1000,0.6000,0.4000");
  assert.match(third, /^calls\/one two.wav,2,3661\.000,3671\.000,A LONG/);
  assert.equal(fourth, '"a ""b"".wav",0,0.000,2.000,,angry,1.0000,,,');
  assert.deepEqual(rest, [""]);
});

test("RTTM and Audacity's labels have a line for each segment", () => {
  assert.deepEqual(toRttm([file]).split("\n").slice(0, 2), [
    "SPEAKER one_two 1 0.500 2.000 <NA> <NA> angry <NA> <NA>",
    "SPEAKER one_two 1 3.000 1.000 <NA> <NA> sad_<x> <NA> <NA>",
  ]);
  assert.deepEqual(toAudacity(file).split("\n").slice(0, 2), [
    "0.500000\t2.500000\tangry: GO AWAY",
    "3.000000\t4.000000\tsad <x>",
  ]);
});

test("Waveform keeps the least and the greatest sample of each step, whatever the length", () => {
  const waveform = new Waveform();
  const piece = Float32Array.from(
    { length: 16_000 },
    (_, i) => 0.5 * Math.sin((2 * Math.PI * 100 * i) / 16_000),
  );
  for (let i = 0; i < 100; i++) waveform.push(piece);
  const { step, least, most } = waveform.outline;
  assert.equal(step, 0.02);
  assert.equal(least.length, 5000);
  assert.ok(most.every((value) => value === 50) && least.every((value) => value === -50));
  assert.match(waveform.uri ?? "", /^data:audio\/wav;base64,UklGR/);
  for (let i = 0; i < 501; i++) waveform.push(piece);
  assert.equal(waveform.uri, undefined);
  assert.ok(waveform.outline.least.length <= 8192);
});

test("the page says everything without a script, and escapes what it is given", () => {
  const page = recordingPage(file, new Waveform(), "models/m");
  assert.match(page, /<h1>one two<\/h1>/);
  assert.match(page, /sad &#60;x&#62;/);
  assert.match(page, /choose the recording|<audio controls preload="metadata" src="data:/);
  assert.match(page, />AWAY<\/button>/);
  assert.doesNotMatch(page, /(src|href)="https?:/);
  assert.match(
    recordingPage({ file: "x", recognition: { seconds: 1, silent: true } }, new Waveform(), "m"),
    /No speech was found/,
  );
});

const visitor = `
const found = { overflow: document.documentElement.scrollWidth - innerWidth };
setTimeout(() => {
  found.canvases = document.querySelectorAll("canvas").length;
  const over = document.querySelector("[data-plot=emotion] .u-over");
  const { left, top, width, height } = over.getBoundingClientRect();
  over.dispatchEvent(new MouseEvent("mousemove", { clientX: left + 0.25 * width, clientY: top + height / 2, bubbles: true }));
  found.tip = document.querySelector("#tip").textContent;
  over.dispatchEvent(new MouseEvent("mouseleave"));
  document.querySelector("p [data-at]").click();
  setTimeout(() => {
    found.time = document.querySelector("audio").currentTime;
    document.documentElement.dataset.found = JSON.stringify({ ...found, errors: window.errors });
  }, 200);
}, 300);`;

test("the page's script draws waveform, emotion and gates, and plays from a word, in Chromium", {
  skip: withoutChromium,
}, () => {
  const waveform = new Waveform();
  for (let i = 0; i < 5; i++) waveform.push(new Float32Array(16_000).fill(0.1));
  const short = { ...recognition, seconds: 5, segments: segments.slice(0, 2) };
  const page = recordingPage({ file: "short.wav", recognition: short }, waveform, "m");
  const found = visit(folder, page, visitor, 1280);
  assert.deepEqual(found.errors, []);
  assert.ok(found.overflow <= 0, `${found.overflow} pixels too wide`);
  assert.equal(found.canvases, 3);
  assert.match(found.tip, /^1\.2\d s.*angry90\.0 %.*acoustic gate0\.600/);
  assert.ok(found.time >= 0.5, `plays from ${found.time} s`);
});

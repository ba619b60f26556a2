/** What verbs print: figures and tables, a bar of progress, errors on one line. */
import assert from "node:assert/strict";
import type process from "node:process";
import { test } from "node:test";
import { formatBytes, formatSeconds, formatTable } from "../tools/format.ts";
import { firstLine, onOneLine } from "../tools/output.ts";
import { progressLine, startProgress } from "../tools/progress.ts";

test("formatBytes() and formatSeconds() choose their unit", () => {
  assert.deepEqual([0, 1023, 1536, 2 ** 20, 3.5 * 2 ** 30].map(formatBytes), [
    ...["0 B", "1023 B", "1.5 KiB", "1.0 MiB", "3.5 GiB"],
  ]);
  assert.deepEqual([0.0042, 0.9999, 12.34, 59.99, 754, 3754].map(formatSeconds), [
    ...["4.2 ms", "1.0 s", "12.3 s", "1:00", "12:34", "1:02:34"],
  ]);
});

test("formatTable() aligns names left and figures right", () => {
  assert.deepEqual(
    formatTable(
      ["stage", "ms"],
      [
        ["hubert", 12],
        ["bert", 3.5],
      ],
    ),
    ["stage    ms", "hubert   12", "bert    3.5"],
  );
  const long = formatTable(
    ["key"],
    Array.from({ length: 200_000 }, (_, i) => [`k${i}`]),
  );
  assert.equal(long[1].length, 2, "more rows than a call takes arguments");
});

test("progressLine() shows share, rate, time left and the note", () => {
  const line = progressLine("train", 25, 100, 10, { unit: "clips", note: "loss 1.2" });
  assert.match(line, /^train {2}\[█{5} {15}\] {3}25 % {2}2\.5 clips\/s {2}30\.0 s left {2}loss 1\.2$/);
  const resumed = progressLine("train", 60, 100, 10, { unit: "clips", from: 50 });
  assert.match(resumed, /1 clips\/s {2}40\.0 s left$/, "what was done before counts in no rate");
});

test("startProgress() is silent without a terminal and in the first second", () => {
  const written: string[] = [];
  let time = 0;
  const stream = (isTTY: boolean) =>
    ({ isTTY, columns: 80, write: (text: string) => written.push(text) > 0 }) as typeof process.stderr;
  for (const isTTY of [false, true]) {
    const bar = startProgress("x", 10, { stream: stream(isTTY), now: () => time });
    time += 500;
    bar.update(1);
    bar.stop();
  }
  assert.deepEqual(written, []);
  const bar = startProgress("x", 10, { stream: stream(true), now: () => time });
  time += 2000;
  bar.update(5);
  bar.stop();
  assert.equal(written.length, 2);
});

test("firstLine() keeps a message about a name with line ends or terminal codes whole, and on one line", () => {
  const name = "a\nb\t\x1b[31m\u2028.wav";
  assert.equal(onOneLine(name), "a\\nb\\t\\x1b[31m\\x2028.wav");
  const message = `Cannot read ${name}: it is empty\nand more`;
  assert.equal(firstLine(message, ["c", name]), `Cannot read ${onOneLine(name)}: it is empty`);
  assert.equal(firstLine("Cannot read ä😀: no", []), "Cannot read ä😀: no");
});

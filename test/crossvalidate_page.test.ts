/** The files of a cross-validation's report: what its page says without a browser, and what its script does in one. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { LABELS } from "../src/speech/corpora/corpus.ts";
import { readCurves } from "../src/speech/crossvalidate/curves.ts";
import { chooseExamples, observeExamples } from "../src/speech/crossvalidate/examples.ts";
import { writeReport } from "../src/speech/crossvalidate/write_report.ts";
import type { Answer } from "../src/speech/evaluate/report.ts";
import { readClips } from "../src/speech/validate/recording.ts";
import { fixture } from "./crossvalidate_fixture.ts";
import { testDevice } from "./device.ts";
import { visit, withoutChromium } from "./chromium.ts";

const host = await currentHost();
const device = await testDevice();
const folder = mkdtempSync(join(tmpdir(), "wavegate-crossvalidate-page-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const demo = fileURLToPath(new URL("../weights/demo", import.meta.url));

const made = fixture({ names: ["acoustic", "both-cmgi"], sessions: 2, seeds: [1, 2], turns: 6 });
/** Two stages of two epochs; one file for all cells of a fold and a seed. */
const metrics = (fold: string, seed: number) => {
  const path = join(folder, `${fold}-${seed}.jsonl`);
  const lines = [1, 2].flatMap((stage) =>
    [0, 1].flatMap((epoch) => [
      ...[1, 2].map((k) => ({ stage, step: 2 * epoch + k, epoch, loss: 2 - epoch + k / 10, seconds: 1 })),
      { stage, step: 2 * epoch + 2, epoch, dev_loss: 2 + epoch, dev_ua: 0.5 + epoch / 4, dev_wa: 0.5 },
    ]),
  );
  writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return path;
};
const cells = made.cells.map((cell) => ({ ...cell, metrics: [metrics(cell.fold, cell.seed)] }));
/** The demo's recordings as utterances, answered right and wrong in turns; </script> stands in a transcript. */
const answers = await Promise.all(
  (await readClips(host, demo)).map(async ({ file }, i): Promise<Answer> => {
    const { seconds } = await readWav(host, `${demo}/clips/${file}`);
    const label = LABELS[i % 4];
    return {
      utterance: {
        ...{
          id: file.replace(".wav", ""),
          wav: `${demo}/clips/${file}`,
          text: "so",
          words: "SO </script> & ON",
        },
        ...{ label, speaker: "05F", session: "Session5", dialogue: "d", improvised: true, seconds },
      },
      probabilities: LABELS.map((_, k) => (k === (i % 2 ? (i + 1) % 4 : i % 4) ? 0.7 : 0.1)),
      hypothesis: "SO",
    };
  }),
);
const list = await observeExamples(host, device, demo, chooseExamples(answers));
const report = await writeReport(host, folder, cells, made.plan, {
  examples: { of: "CmGI <b>, Session5", list },
});
const page = readFileSync(join(folder, "report.html"), "utf8");

test("chooseExamples() takes of each emotion the first right and the first wrong answer by id, and none that is long", () => {
  const answer = (id: string, label: (typeof LABELS)[number], right: boolean, seconds = 2): Answer => ({
    ...answers[0],
    utterance: { ...answers[0].utterance, id, label, seconds },
    probabilities: LABELS.map((each) => ((each === label) === right ? 0.7 : 0.1)),
  });
  const chosen = chooseExamples([
    ...[answer("d", "sad", true), answer("c", "sad", true), answer("b", "sad", true, 9)],
    ...[answer("e", "sad", false), answer("a", "angry", false)],
  ]);
  assert.deepEqual(
    chosen.map(({ utterance }) => utterance.id),
    ["a", "c", "e"],
  );
});

test("observeExamples() gives a gate for every frame and every subword, the words with their times, and the sound", async () => {
  assert.ok(list.length > 0);
  for (const { id, gates, seconds, secondsPerFrame, wav, words } of list) {
    assert.ok(gates && words, id);
    assert.ok(Math.abs(gates.acoustic.length * secondsPerFrame - seconds) < 2 * secondsPerFrame, id);
    assert.equal(gates.text.length, gates.tokens.length);
    assert.deepEqual([gates.tokens[0], gates.tokens.at(-1)], ["[CLS]", "[SEP]"]);
    for (const value of [...gates.acoustic, ...gates.text]) assert.ok(Number.isFinite(value));
    const bytes = Buffer.from(wav.slice(wav.indexOf(",") + 1), "base64");
    assert.equal(bytes.toString("latin1", 0, 4), "RIFF");
    assert.equal(bytes.length, 44 + 2 * Math.round(16_000 * seconds));
  }
});

test("readCurves() has means of the updates of each epoch, and names a file that it cannot read", async () => {
  const { curves, notes } = await readCurves(host, cells, made.plan);
  assert.deepEqual(notes, []);
  assert.deepEqual(
    curves.map((row) => row.length),
    [8, 8],
  );
  assert.deepEqual(curves[0][0], {
    ...{ fold: "Session1", seed: 1, stage: 1, epochs: [1, 2], train: [2.15, 1.15] },
    ...{ dev: [2, 3], ua: [0.5, 0.75], wer: [null, null] },
  });
  const lost = await readCurves(host, [{ ...cells[0], metrics: [join(folder, "none.jsonl")] }], made.plan);
  assert.match(lost.notes.join(), /^Without the learning curves of .*none\.jsonl: Cannot read /);
});

test("writeReport() writes report.json, tables.md, answers.csv and a page that asks for nothing from elsewhere", async () => {
  const files = ["answers.csv", "report.html", "report.json", "tables.md"];
  assert.deepEqual(
    readdirSync(folder)
      .filter((name) => files.includes(name))
      .sort(),
    files,
  );
  assert.deepEqual(
    JSON.parse(readFileSync(join(folder, "report.json"), "utf8")),
    JSON.parse(JSON.stringify(report)),
  );
  const csv = readFileSync(join(folder, "answers.csv"), "utf8").trimEnd().split("\n");
  assert.equal(csv.length, 1 + cells.reduce((n, cell) => n + cell.answers.length, 0));
  assert.match(csv[0], /^system,words,fold,seed,id,.*,word_errors,reference_words,gate_acoustic,gate_text$/);
  for (const wish of [/<link/, /\shref=/, /url\(/, /@import/, /\bfetch\(/, /XMLHttpRequest/, /CmGI <b>/])
    assert.doesNotMatch(page, wish);
  for (const [, source] of page.matchAll(/\ssrc="([^"]*)"/g))
    assert.match(source, /^data:audio\/wav;base64,/);
  assert.equal(page.match(/<script/g)?.length, 3);
  assert.equal(page.match(/<\/script/g)?.length, 3);
  assert.match(page, /SO &#60;\/script&#62; &#38; ON/);
  const again = mkdtempSync(join(folder, "again-"));
  await writeReport(host, again, cells, made.plan, { examples: { of: "CmGI <b>, Session5", list } });
  for (const file of files)
    assert.ok(readFileSync(join(again, file)).equals(readFileSync(join(folder, file))), `${file} differs`);
});

const visitor = `
const found = { overflow: document.documentElement.scrollWidth - innerWidth };
const point = (selector, share) => {
  const over = document.querySelector(selector + " .u-over");
  const { left, top, width, height } = over.getBoundingClientRect();
  over.dispatchEvent(new MouseEvent("mousemove", { clientX: left + share * width, clientY: top + height / 2, bubbles: true }));
  return document.querySelector("#tip").textContent;
};
found.before = document.querySelectorAll("canvas").length;
for (const each of document.querySelectorAll("details")) each.open = true;
setTimeout(() => {
  found.after = document.querySelectorAll("canvas").length;
  found.curve = point("[data-of=ua]", 0.99);
  found.reliability = point("[data-reliability]", 0.65);
  found.gate = point("[data-gate]", 0.5);
  found.token = point("[data-tokens]", 0.01);
  found.wide = [...document.querySelectorAll(".scroll, figure, article")].filter((each) => each.scrollWidth > each.clientWidth + 1).length;
  document.documentElement.dataset.found = JSON.stringify({ ...found, errors: window.errors });
}, 300);`;

test("the page's script draws curves, reliability and gates, and nothing overflows, in Chromium", {
  skip: withoutChromium,
}, () => {
  const found = visit(folder, page, visitor, 1280);
  assert.deepEqual(found.errors, []);
  assert.ok(found.overflow <= 0, `${found.overflow} pixels too wide`);
  assert.equal(found.wide, 0, "a table or a plot is cut off");
  // Of each row reliability and two plots of each of two stages; of each utterance two gates.
  assert.equal(found.after, 2 * 5 + 2 * list.length);
  assert.ok(found.before < found.after, "a row that is closed is drawn when it opens");
  assert.match(found.curve, /^epoch 2Session1, seed 175/);
  assert.match(found.reliability, /%answers\d+right[\d.]+ %mean probability/);
  assert.match(found.gate, / sacoustic gate-?[\d.]+/);
  assert.match(found.token, /^\[CLS\]text gate/);
});

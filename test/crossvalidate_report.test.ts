/** The report of a cross-validation, of synthetic answers. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { readAnswers } from "../src/speech/crossvalidate/answers_csv.ts";
import { reportMarkdown } from "../src/speech/crossvalidate/markdown.ts";
import { makeReport } from "../src/speech/crossvalidate/report.ts";
import { cellName } from "../src/speech/crossvalidate/results.ts";
import { formatTables } from "../src/speech/crossvalidate/tables.ts";
import { answersCsv, scoreAnswers } from "../src/speech/evaluate/report.ts";
import { mcnemar } from "../src/speech/evaluate/significance.ts";
import { fixture } from "./crossvalidate_fixture.ts";

const folder = mkdtempSync(join(tmpdir(), "wavegate-crossvalidate-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const { cells, plan, utterances } = fixture();
const report = makeReport(cells, plan);
const rowOf = (table: number, row: number) => {
  const found = report.rows.find((each) => each.row.table === table && each.row.row === row);
  assert.ok(found);
  return found;
};
const close = (got: number | undefined, want: number, what: string) =>
  assert.ok(got !== undefined && Math.abs(got - want) < 1e-12, `${what} is ${got}, expected ${want}`);

test("makeReport() has the figures that scoreAnswers() has of one cell, and of all answers together", () => {
  const cmgi = rowOf(2, 5);
  const own = cells.filter(({ system }) => system === "both-cmgi");
  assert.deepEqual(
    cmgi.cells.map(({ fold, seed }) => [fold, seed]),
    plan.folds.flatMap((fold) => plan.seeds.map((seed) => [fold, seed])),
  );
  for (const [i, cell] of own.entries()) {
    const alone = scoreAnswers(cell.answers);
    close(cmgi.cells[i].ua, alone.ua.value, "UA");
    close(cmgi.cells[i].wa, alone.wa.value, "WA");
    close(cmgi.cells[i].wer, alone.wer?.value ?? Number.NaN, "WER");
  }
  const all = scoreAnswers(own.flatMap(({ answers }) => answers));
  const { pooled } = cmgi;
  assert.ok(pooled);
  assert.deepEqual(pooled.figures.ua?.interval, all.ua.interval);
  assert.deepEqual(pooled.figures.wer?.interval, all.wer?.interval);
  close(pooled.figures.ua?.value, all.ua.value, "pooled UA");
  close(pooled.figures.wa?.value, all.wa.value, "pooled WA");
  assert.deepEqual(pooled.confusion, all.confusion);
  assert.deepEqual(pooled.classes, all.classes);
  const { low, high } = pooled.figures.wa?.interval ?? { low: 1, high: 0 };
  assert.ok(low < all.wa.value && all.wa.value < high);
  const kinds = pooled.parts.filter(({ by }) => by === "kind");
  assert.equal(kinds[0].count + kinds[1].count, pooled.answers);
  assert.equal(pooled.parts.filter(({ by }) => by === "speaker").length, 6);
});

test("makeReport() takes means of folds over seeds, and deviations over folds, by hand", () => {
  const { overFolds, overSeeds, folds, cells: own } = rowOf(1, 2);
  const ua = (fold: number, seed: number) => own[2 * fold + seed].ua ?? Number.NaN;
  const perFold = [0, 1, 2].map((fold) => (ua(fold, 0) + ua(fold, 1)) / 2);
  const mean = perFold.reduce((a, b) => a + b) / 3;
  const variance = perFold.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 2;
  close(overFolds.ua?.mean, mean, "mean");
  close(overFolds.ua?.deviation, Math.sqrt(variance), "deviation over folds");
  const perSeed = [0, 1].map((seed) => (ua(0, seed) + ua(1, seed) + ua(2, seed)) / 3);
  close(overSeeds.ua?.deviation, Math.abs(perSeed[0] - perSeed[1]) / Math.SQRT2, "deviation over seeds");
  close(folds[1].ua?.deviation, Math.abs(ua(1, 0) - ua(1, 1)) / Math.SQRT2, "deviation of a fold");
  assert.equal(rowOf(1, 1).overFolds.wer, undefined);
});

test("makeReport() compares each row with the table's own, on the answers that both have", () => {
  const place = (table: number, row: number) => report.rows.indexOf(rowOf(table, row));
  const own = place(2, 5);
  assert.deepEqual(
    [
      ...new Set(
        report.beside.filter((each) => report.rows[each.row].row.table === 2).map((each) => each.own),
      ),
    ],
    [own],
  );
  const pair = report.comparisons.find(({ first, second }) => first === place(2, 1) && second === own);
  assert.ok(pair);
  assert.equal(pair.pairs, utterances.length * plan.seeds.length);
  const [a, b] = [rowOf(2, 1), rowOf(2, 5)].map(({ pooled }) => pooled?.figures);
  close(pair.differences.ua?.value, (a?.ua?.value ?? 0) - (b?.ua?.value ?? 0), "difference of UA");
  close(pair.differences.wer?.value, (a?.wer?.value ?? 0) - (b?.wer?.value ?? 0), "difference of WER");
  const only = [0, 0];
  const cellsOfSeed = (system: string) => cells.filter((each) => each.system === system && each.seed === 1);
  const right = ({ answers }: (typeof cells)[number]) =>
    answers.map(({ utterance, probabilities }) => {
      const best = probabilities.indexOf(Math.max(...probabilities));
      return ["angry", "happy", "sad", "neutral"][best] === utterance.label;
    });
  const [first, second] = ["both-self", "both-cmgi"].map((system) => cellsOfSeed(system).flatMap(right));
  for (const [i, yes] of first.entries()) {
    only[0] += Number(yes && !second[i]);
    only[1] += Number(!yes && second[i]);
  }
  assert.deepEqual(pair.mcnemar[0], { seed: 1, ...mcnemar(only[0], only[1]) });
});

test("makeReport() is pure, and a cell that is missing is said, not guessed", () => {
  assert.deepEqual(makeReport(cells, plan), report);
  const some = makeReport(
    cells.filter(({ system, fold }) => system !== "both-cmgi" || fold === "Session1"),
    plan,
  );
  const row = some.rows.find((each) => each.row.system === "both-cmgi");
  assert.equal(row?.missing.length, 4);
  assert.equal(row?.cells.length, 2);
  assert.ok(
    some.notes.some((note) =>
      /^Table 2, row 5 \(CmGI\): 4 of 6 cells are missing \(Session2 seed 1, /.test(note),
    ),
  );
  const none = makeReport([], plan);
  assert.deepEqual([none.comparisons, none.beside], [[], []]);
  assert.match(formatTables(none), /CmGI +– +–/);
});

test("makeReport() refuses a cell that is there twice or has no answers, and says what a model had heard", () => {
  assert.throws(
    () => makeReport([...cells, cells[0]], plan),
    /^RangeError: Cannot report: acoustic with no words, fold Session1, seed 1 is there twice$/,
  );
  assert.throws(
    () => makeReport([{ ...cells[0], answers: [] }], plan),
    /^RangeError: Cannot report: acoustic .* has no answers$/,
  );
  const overlap = { trainedOn: 3, selectedBy: 0, sameSamples: 0, otherSamples: 0 };
  const heard = { ...cells[0], training: { known: true, unknown: [], ...overlap } as const };
  const { notes, rows } = makeReport([heard, ...cells.slice(1)], plan);
  assert.ok(
    notes.includes(
      "acoustic, Session1, seed 1: the model was trained on, or chosen by, some of what it is tested on.",
    ),
  );
  assert.equal(rows[0].cells[0].trainedOn, 3);
});

test("formatTables() and reportMarkdown() print the paper's form, ours beside published", () => {
  const text = formatTables(report);
  for (const line of text.split("\n")) assert.ok(line.length <= 80, line);
  const { ua } = rowOf(2, 5).overFolds;
  const shown = `${(100 * (ua?.mean ?? 0)).toFixed(2)} ± ${(100 * (ua?.deviation ?? 0)).toFixed(2)}`;
  assert.ok(text.includes(shown));
  assert.match(text, / 5 CmGI +\d\d\.\d\d ± \d+\.\d\d.*\n +published, difference +79\.62 [+−]\d+\.\d\d/);
  const markdown = reportMarkdown(report);
  assert.ok(markdown.includes(shown));
  const las = /\| 3 \| LSTM shared with listen-attend-spell \| ([\d.± ]*) \| 64\.40 \|/;
  assert.match(las.exec(markdown)?.[1] ?? "", /^\d\d\.\d\d ± \d+\.\d\d$/);
  const without = makeReport(
    cells.filter(({ system }) => system !== "lstm-las"),
    plan,
  );
  assert.equal(las.exec(reportMarkdown(without))?.[1].trim(), "");
  const widths = markdown.split("\n\n").filter((part) => part.startsWith("|"));
  assert.ok(widths.length > 10);
  for (const table of widths) {
    const cells = table
      .trim()
      .split("\n")
      .map((line) => line.replaceAll("\\|", "").split("|").length);
    assert.equal(new Set(cells).size, 1, table);
  }
});

test("readAnswers() gives back what answersCsv() wrote, and refuses what does not fit the corpus", async () => {
  const host = await currentHost();
  const path = join(folder, `${cellName(cells[0])}.csv`);
  assert.match(path, /acoustic-none-Session1-1\.csv$/);
  for (const cell of [cells[0], cells.at(-1) ?? cells[0]]) {
    writeFileSync(path, answersCsv(cell.answers));
    const read = await readAnswers(host, path, utterances);
    assert.deepEqual(
      read.map(({ probabilities, ...rest }) => ({ ...rest, probabilities: probabilities.map(Math.fround) })),
      cell.answers,
    );
  }
  const gated = cells[0].answers.map((each) => ({ ...each, gates: { acoustic: 0.5, text: 0.25 } }));
  writeFileSync(path, answersCsv(gated));
  assert.deepEqual(
    (await readAnswers(host, path, utterances)).map(({ gates }) => gates),
    gated.map(({ gates }) => gates),
  );
  writeFileSync(path, answersCsv(gated).replace(",0.5,0.25", ",0.5,"));
  await assert.rejects(readAnswers(host, path, utterances), /row 1 has gates 0\.5, , expected two numbers$/);
  const text = answersCsv(cells[0].answers);
  const [, row] = text.split("\n");
  const refused = async (content: string, why: RegExp) => {
    writeFileSync(path, content);
    await assert.rejects(readAnswers(host, path, utterances), why);
  };
  const [id, label] = row.split(",");
  await refused(text.replace(id, "Ses99"), /row 1 names Ses99, which the corpus lacks$/);
  await refused(
    text.replace(`${id},${label}`, `${id},calm`),
    new RegExp(`says that ${id} is calm, the corpus says ${label}$`),
  );
  await refused(text.replace("p_sad", "sad"), /it lacks the column p_sad$/);
  await refused(`${text}one,two\n`, /has 2 fields, expected 8$/);
});

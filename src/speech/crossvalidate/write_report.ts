/** Writes the report of a cross-validation: report.json, tables.md, answers.csv and report.html. */
import type { Host } from "../../host/host.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { LABELS } from "../corpora/corpus.ts";
import { numberField, toCsv } from "../evaluate/report.ts";
import { wordEdits } from "../metrics/wer.ts";
import { argmax } from "../metrics/metrics.ts";
import { readCurves } from "./curves.ts";
import { reportMarkdown } from "./markdown.ts";
import { type PageExtras, reportPage } from "./page.ts";
import { type CrossReport, makeReport } from "./report.ts";
import type { Cell, CrossPlan } from "./results.ts";

/** Options of writeReport(). */
export interface WriteOptions {
  /** Utterances to look at, of observeExamples(). */
  readonly examples?: PageExtras["examples"];
  /** Lines about the figures. */
  readonly notes?: readonly string[];
  /** Of the resampling. Default 0. */
  readonly seed?: number;
}

/**
 * Makes the report of `cells` and writes it to the folder `out`, which is there: report.json, tables.md, answers.csv with every
 * answer of every cell, and report.html with the learning curves of the cells' metrics.jsonl.
 */
export async function writeReport(
  host: Host,
  out: string,
  cells: readonly Cell[],
  plan: CrossPlan,
  { examples, notes: given = [], seed }: WriteOptions = {},
): Promise<CrossReport> {
  const made = makeReport(cells, plan, seed);
  const { curves, notes } = await readCurves(host, cells, plan);
  const report = { ...made, notes: [...made.notes, ...given, ...notes] };
  await writeWhole(host, `${out}/report.json`, `${JSON.stringify(report, null, 1)}\n`);
  await writeWhole(host, `${out}/tables.md`, reportMarkdown(report));
  await writeWhole(host, `${out}/answers.csv`, everyAnswerCsv(cells));
  await writeWhole(host, `${out}/report.html`, reportPage(report, { curves, examples }));
  return report;
}

const HEADER = [
  ...["system", "words", "fold", "seed", "id", "dialogue", "speaker", "improvised", "seconds"],
  ...["label", "prediction", ...LABELS.map((label) => `p_${label}`)],
  ...["reference", "hypothesis", "word_errors", "reference_words"],
  ...["gate_acoustic", "gate_text"],
];

/** CSV with a row per answer of every cell; fields that a system does not have are empty. */
export function everyAnswerCsv(cells: readonly Cell[]): string {
  const rows = cells.flatMap(({ system, words = "", fold, seed, answers }) =>
    answers.map(({ utterance, probabilities, hypothesis, gates }) => {
      const { id, dialogue, speaker, improvised, seconds, label, words: reference } = utterance;
      const edits = hypothesis === undefined ? undefined : wordEdits({ reference, hypothesis });
      return [
        ...[system, words, fold, `${seed}`, id, dialogue, speaker, `${improvised}`, `${seconds ?? ""}`],
        ...[label, LABELS[argmax(probabilities)], ...probabilities.map(numberField)],
        ...[reference, hypothesis ?? ""],
        ...(edits
          ? [`${edits.substitutions + edits.deletions + edits.insertions}`, `${edits.length}`]
          : ["", ""]),
        ...[numberField(gates?.acoustic), numberField(gates?.text)],
      ];
    }),
  );
  return toCsv([HEADER, ...rows]);
}

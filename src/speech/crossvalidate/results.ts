/**
 * What a cross-validation hands to its report: what was asked, and the answers of every model. makeReport() of report.ts makes
 * figures of them, without reading or writing anything; writeReport() of write_report.ts writes them.
 */
import type { Words } from "../evaluate/evaluate.ts";
import type { Answer } from "../evaluate/report.ts";
import type { PaperRow } from "../recipes/tables.ts";
import type { TrainingOverlap } from "../training/overlap.ts";

/** What was asked. */
export interface CrossPlan {
  /** The rows in the order of the report: also those of cited figures, which have no system. */
  readonly rows: readonly PaperRow[];
  /** Names of the folds that are held out, in order. */
  readonly folds: readonly string[];
  /** Seeds of the trainings, in order. */
  readonly seeds: readonly number[];
  /** The corpus: its name, as "IEMOCAP" or "synthetic", and how many utterances of it can be used. */
  readonly corpus: { readonly name: string; readonly utterances: number };
  /** Name of the preset, and settings "key=value" beyond it. */
  readonly recipe: { readonly preset: string; readonly set: readonly string[] };
}

/** What identifies an evaluated cell: a system that read some words, on a fold, with a seed. Several rows may share a cell. */
export interface CellKey {
  /** Name of the system. */
  readonly system: string;
  /** The words that the system read in the test; absent where it reads none. */
  readonly words?: Words;
  /** Name of the fold that was held out. */
  readonly fold: string;
  /** Seed of the training. */
  readonly seed: number;
}

/** One evaluated cell. */
export interface Cell extends CellKey {
  /** The answers to the test set, as evaluateModel() or readAnswers() gives them. */
  readonly answers: readonly Answer[];
  /** How much of the test set the model was trained on; above 0 only where that was wished. */
  readonly training?: TrainingOverlap;
  /** Paths of the metrics.jsonl of the runs that made the model, the first stage first. */
  readonly metrics: readonly string[];
}

/** "both-cmgi-recognised-Session5-1", the name of a cell in files; "acoustic-none-Session5-1" where no words are read. */
export const cellName = ({ system, words, fold, seed }: CellKey): string =>
  `${system}-${words ?? "none"}-${fold}-${seed}`;

/** The cells of a row, in the order of folds and seeds; empty for a cited figure. */
export const cellsOf = (row: PaperRow, cells: readonly Cell[], { folds, seeds }: CrossPlan): Cell[] =>
  folds.flatMap((fold) =>
    seeds.flatMap((seed) =>
      cells.filter(
        (cell) =>
          cell.system === row.system && cell.words === row.words && cell.fold === fold && cell.seed === seed,
      ),
    ),
  );

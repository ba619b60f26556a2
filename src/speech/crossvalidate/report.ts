/** The report of a cross-validation as an object: the content of report.json. */
import { holm } from "../evaluate/significance.ts";
import type { PaperRow } from "../recipes/tables.ts";
import { type Comparison, compareRows } from "./compare_rows.ts";
import type { Cell, CrossPlan } from "./results.ts";
import { type RowReport, reportRow } from "./row_report.ts";

/** How a row differs from the row that its table is about. */
export interface OwnComparison {
  /** Place of the row in the plan, from 0. */
  readonly row: number;
  /** Place of the row that it is compared with. */
  readonly own: number;
  /** p of the difference in UA by the paired bootstrap, adjusted for the rows of the table (Holm). */
  readonly adjusted: number;
}

/** The report of a cross-validation. Shares are from 0 to 1; published figures are percent, as printed. */
export interface CrossReport {
  readonly format: 1;
  readonly plan: CrossPlan;
  /** In the order of the plan's rows. */
  readonly rows: readonly RowReport[];
  /** All pairs of rows. */
  readonly comparisons: readonly Comparison[];
  /** Of each table each row beside the table's own: CmGI where the table has it, else its last row that was evaluated. */
  readonly beside: readonly OwnComparison[];
  /** What has to be known to read the figures. */
  readonly notes: readonly string[];
}

/**
 * Figures of all rows, and of all pairs of them. Reads and writes nothing, and gives equal reports for equal arguments; `seed`
 * is of the resampling. Throws a RangeError where a cell is there twice, or has no answers.
 */
export function makeReport(cells: readonly Cell[], plan: CrossPlan, seed = 0): CrossReport {
  refuse(cells);
  const rows = plan.rows.map((row) => reportRow(row, cells, plan, seed));
  const comparisons = compareRows(cells, plan, seed);
  return {
    ...{ format: 1, plan, rows, comparisons },
    beside: besideOwn(rows, comparisons),
    notes: notesOf(rows, plan, cells),
  };
}

function refuse(cells: readonly Cell[]): void {
  const seen = new Set<string>();
  for (const { system, words = "no", fold, seed, answers } of cells) {
    const name = `${system} with ${words} words, fold ${fold}, seed ${seed}`;
    if (seen.has(name)) throw new RangeError(`Cannot report: ${name} is there twice`);
    seen.add(name);
    if (answers.length === 0) throw new RangeError(`Cannot report: ${name} has no answers`);
  }
}

/** Place of the row that a table is about; -1 where none of it was evaluated. */
function ownRow(rows: readonly RowReport[], table: PaperRow["table"]): number {
  const of = ({ row, pooled }: RowReport) => row.table === table && pooled !== undefined;
  const own = rows.findIndex((each) => of(each) && each.row.system === "both-cmgi");
  return own >= 0 ? own : rows.findLastIndex(of);
}

function besideOwn(rows: readonly RowReport[], comparisons: readonly Comparison[]): OwnComparison[] {
  const tables = [...new Set(rows.map(({ row }) => row.table))];
  return tables.flatMap((table) => {
    const own = ownRow(rows, table);
    const found = comparisons.flatMap(({ first, second, differences: { ua } }) => {
      const other = first === own ? second : second === own ? first : undefined;
      return other === undefined || rows[other].row.table !== table || !ua ? [] : [{ row: other, p: ua.p }];
    });
    const adjusted = holm(found.map(({ p }) => p));
    return found.map(({ row }, i) => ({ row, own, adjusted: adjusted[i] })).sort((a, b) => a.row - b.row);
  });
}

function notesOf(rows: readonly RowReport[], plan: CrossPlan, cells: readonly Cell[]): string[] {
  const { folds, seeds, corpus } = plan;
  const missing = rows.filter((each) => each.missing.length > 0);
  const heard = cells.filter(
    ({ training }) => training?.known && training.trainedOn + training.selectedBy > 0,
  );
  const unknown = cells.filter(({ training }) => training?.known === false);
  const synthetic = corpus.name.toLowerCase() !== "iemocap";
  return [
    ...(synthetic
      ? [
          `The published figures are of IEMOCAP, these are of the corpus ${corpus.name}: they cannot be compared.`,
        ]
      : []),
    ...missing.map(
      ({ row, missing, cells }) =>
        `${rowName(row)}: ${missing.length} of ${missing.length + cells.length} cells are missing (${missing
          .slice(0, 3)
          .map(({ fold, seed }) => `${fold} seed ${seed}`)
          .join(", ")}${missing.length > 3 ? ", …" : ""}); its figures are of the others.`,
    ),
    ...heard.map(
      ({ system, fold, seed }) =>
        `${system}, ${fold}, seed ${seed}: the model was trained on, or chosen by, some of what it is tested on.`,
    ),
    ...(unknown.length > 0
      ? [`Of ${unknown.length} cells it is not known what the models were trained on.`]
      : []),
    ...rows.flatMap(({ row }) => (row.note === undefined ? [] : [`${rowName(row)}: ${row.note}.`])),
    `Mean ± standard deviation over ${folds.length} ${folds.length === 1 ? "fold" : "folds"}, of each the mean of ${seeds.length} ${seeds.length === 1 ? "seed" : "seeds"}. Pooled: all answers together, with 95 % intervals from 2,000 resamples of whole dialogues; they tell of the choice of dialogues, not of the choice of seeds.`,
    ...(seeds.length < 3
      ? ["Fewer than three seeds: how much a training with another seed would differ is hardly known."]
      : []),
  ];
}

/** "Table 2, row 5 (CmGI)"; the title alone of a row that the paper has not. */
export const rowName = ({ table, row, title }: PaperRow): string =>
  table === 0 ? title : `Table ${table}, row ${row} (${title})`;

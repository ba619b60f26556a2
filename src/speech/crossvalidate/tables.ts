/** A cross-validation's figures as tables of text, of which Markdown and HTML are made, and the paper's form for a terminal. */
import { LABELS } from "../corpora/corpus.ts";
import type { Difference } from "../evaluate/significance.ts";
import type { PaperRow } from "../recipes/tables.ts";
import type { Comparison } from "./compare_rows.ts";
import type { CrossReport } from "./report.ts";
import type { Figures, Pooled, RowReport, Spread } from "./row_report.ts";
import { FIGURES, type Figure } from "../evaluate/summands.ts";

/** A column of a table. */
export interface Column {
  readonly name: string;
  /** What it shares with the columns beside it. */
  readonly group?: string;
  /** Whether it holds text, which is set to the left. */
  readonly text?: boolean;
}

/** A table. */
export interface Table {
  readonly title: string;
  /** Under the title: how to read it. */
  readonly note?: string;
  readonly columns: readonly Column[];
  /** Cells of text; "" where there is nothing. */
  readonly rows: readonly (readonly string[])[];
  /** Places of rows that stand out. */
  readonly own?: readonly number[];
}

const NAMES: Readonly<Record<Figure, string>> = { ua: "UA", wa: "WA", wer: "WER" };

/** 0.1234 → "12.34", as the paper prints percent. */
export const points = (share: number): string => (Number.isNaN(share) ? "–" : (100 * share).toFixed(2));
/** A difference with its sign: "+1.23", "−0.50". */
export const signed = (share: number): string => `${share < 0 ? "−" : "+"}${points(Math.abs(share))}`;
/** "0.034", "< 0.001". */
export const showP = (p: number): string => (p < 0.001 ? "< 0.001" : p.toFixed(3));

const spreadText = (spread: Spread | undefined): string =>
  spread === undefined
    ? ""
    : `${points(spread.mean)}${spread.deviation === undefined ? "" : ` ± ${points(spread.deviation)}`}`;
const published = ({ published }: PaperRow, figure: Figure): string => published[figure]?.toFixed(2) ?? "";
const difference = ({ row, overFolds }: RowReport, figure: Figure): string => {
  const [own, other] = [overFolds[figure], row.published[figure]];
  return own === undefined || other === undefined ? "" : signed(own.mean - other / 100);
};
const numberOf = ({ row }: PaperRow): string => (row === 0 ? "" : `${row}`);
const lead: readonly Column[] = [{ name: "#" }, { name: "System", text: true }];
const leadOf = ({ row }: RowReport): string[] => [numberOf(row), row.title];

/** The figures that any of the rows has, evaluated or published. */
const figuresOf = (rows: readonly RowReport[]): Figure[] =>
  FIGURES.filter((figure) =>
    rows.some(
      ({ row, pooled }) => pooled?.figures[figure] !== undefined || row.published[figure] !== undefined,
    ),
  );

/** The rows of each table of the paper, in the order of the plan; those that the paper has not under number 0, at the end. */
function byTable(report: CrossReport): { table: number; title: string; rows: readonly RowReport[] }[] {
  const numbers = [...new Set(report.rows.map(({ row }) => row.table))].sort((a, b) => (a || 9) - (b || 9));
  return numbers.map((table) => ({
    table,
    title: table === 0 ? "Other systems" : `Table ${table}`,
    rows: report.rows.filter(({ row }) => row.table === table),
  }));
}

const ownPlaces = (report: CrossReport, rows: readonly RowReport[]): number[] =>
  rows.flatMap((each, i) => (report.beside.some(({ own }) => report.rows[own] === each) ? [i] : []));

/** The paper's tables: ours, published and the difference, in percent. */
export function paperTables(report: CrossReport): Table[] {
  const { folds, seeds } = report.plan;
  return byTable(report).map(({ title, rows }) => {
    const known = figuresOf(rows);
    return {
      title,
      note: `Percent. Ours: mean ± standard deviation over ${count(folds.length, "fold")}, of each the mean of ${count(seeds.length, "seed")}.`,
      columns: [
        ...lead,
        ...known.flatMap((figure) =>
          ["ours", "published", "difference"].map((name) => ({ name, group: NAMES[figure] })),
        ),
      ],
      rows: rows.map((each) => [
        ...leadOf(each),
        ...known.flatMap((figure) => [
          spreadText(each.overFolds[figure]),
          published(each.row, figure),
          difference(each, figure),
        ]),
      ]),
      own: ownPlaces(report, rows),
    };
  });
}

/** All answers together: with intervals, then by class and with calibration. */
export function pooledTables(report: CrossReport): Table[] {
  return evaluated(report).flatMap(({ title, rows }) => {
    const known = figuresOf(rows);
    const own = ownPlaces(report, rows);
    return [
      {
        ...{ title: `${title}, pooled`, own },
        note: "Percent, all answers together, with 95 % intervals from resampled dialogues. Over seeds: standard deviation of the means of the folds.",
        columns: [
          ...lead,
          ...known.flatMap((figure) =>
            ["value", "95 %", "over seeds"].map((name) => ({ name, group: NAMES[figure] })),
          ),
        ],
        rows: rows.map((each) => [
          ...leadOf(each),
          ...known.flatMap((figure) => {
            const one = each.pooled.figures[figure];
            const { deviation } = each.overSeeds[figure] ?? {};
            return [
              one ? points(one.value) : "",
              one ? range(one.interval) : "",
              deviation === undefined ? "" : `± ${points(deviation)}`,
            ];
          }),
        ]),
      },
      {
        ...{ title: `${title}, classes and calibration`, own },
        note: "Percent, all answers together; the Brier score is from 0 to 2.",
        columns: [
          ...lead,
          ...LABELS.map((name) => ({ name, group: "recall" })),
          ...LABELS.map((name) => ({ name, group: "F1" })),
          { name: "mean", group: "F1" },
          ...["ECE", "Brier"].map((name) => ({ name, group: "calibration" })),
        ],
        rows: rows.map((each) => {
          const { classes, macroF1, calibration } = each.pooled;
          return [
            ...leadOf(each),
            ...LABELS.map((label) => points(classes[label].recall)),
            ...LABELS.map((label) => points(classes[label].f1)),
            points(macroF1),
            points(calibration.ece),
            calibration.brier.toFixed(3),
          ];
        }),
      },
    ];
  });
}

/** Each row beside the row that its table is about. */
export function besideTables(report: CrossReport): Table[] {
  return byTable(report).flatMap(({ table, title, rows }): Table[] => {
    const beside = report.beside.filter(({ own }) => report.rows[own].row.table === table);
    if (beside.length === 0) return [];
    const own = report.rows[beside[0].own].row;
    const known = figuresOf(rows);
    return [
      {
        title: `${title}, each row less ${own.row ? `row ${own.row}, ` : ""}${own.title}`,
        note: "Differences in points on the same utterances, with 95 % intervals and p from resampled dialogues; Holm: p adjusted for the rows of the table. McNemar's test takes utterances for independent: the median of the seeds' p, and the utterances that only this and only the other row has right, over all seeds.",
        columns: [
          ...lead,
          ...known.flatMap((figure) =>
            ["difference", "p", ...(figure === "ua" ? ["Holm"] : [])].map((name) => ({
              name,
              group: NAMES[figure],
            })),
          ),
          ...["p", "this : other"].map((name) => ({ name, group: "McNemar" })),
        ],
        rows: beside.map(({ row, own, adjusted }) => {
          const pair = ordered(report.comparisons, row, own);
          return [
            ...leadOf(report.rows[row]),
            ...known.flatMap((figure) => [
              ...differenceCells(pair.differences[figure]),
              ...(figure === "ua" ? [showP(adjusted)] : []),
            ]),
            showP(median(pair.mcnemar.map(({ p }) => p))),
            `${pair.only[0]} : ${pair.only[1]}`,
          ];
        }),
      },
    ];
  });
}

const differenceCells = (one: Difference | undefined): string[] =>
  one === undefined
    ? ["", ""]
    : [`${signed(one.value)} (${signed(one.interval.low)} to ${signed(one.interval.high)})`, showP(one.p)];

/** A comparison as `row` less `own`. */
function ordered(comparisons: readonly Comparison[], row: number, own: number) {
  const found = comparisons.find(
    ({ first, second }) => Math.min(row, own) === first && Math.max(row, own) === second,
  );
  if (!found) throw new RangeError(`Cannot compare rows ${row} and ${own}: the report lacks them`);
  const turned = found.first !== row;
  const turn = ({ value, interval: { low, high }, p }: Difference): Difference =>
    turned
      ? { value: -value, interval: { low: -high, high: -low }, p }
      : { value, interval: { low, high }, p };
  const sum = (key: "onlyFirst" | "onlySecond") => found.mcnemar.reduce((n, one) => n + one[key], 0);
  const only = [sum("onlyFirst"), sum("onlySecond")];
  return {
    mcnemar: found.mcnemar,
    only: turned ? only.reverse() : only,
    differences: Object.fromEntries(
      Object.entries(found.differences).map(([figure, one]) => [figure, one && turn(one)]),
    ) as Figures<Difference>,
  };
}

/** Every fold of every row. */
export function foldTables(report: CrossReport): Table[] {
  const { folds, seeds } = report.plan;
  return evaluated(report).flatMap(({ title, rows }) =>
    figuresOf(rows)
      .filter((figure) => rows.some(({ pooled }) => pooled.figures[figure]))
      .map((figure) => ({
        title: `${title}, ${NAMES[figure]} of each fold`,
        note: `Percent, mean${seeds.length > 1 ? " ± standard deviation" : ""} over ${count(seeds.length, "seed")}.`,
        columns: [...lead, ...folds.map((name) => ({ name }))],
        rows: rows.map((each) => [
          ...leadOf(each),
          ...folds.map((name) => spreadText(each.folds.find(({ fold }) => fold === name)?.[figure])),
        ]),
        own: ownPlaces(report, rows),
      })),
  );
}

/** The confusion matrix of a row. */
export const confusionTable = ({ confusion, classes }: Pooled): Table => ({
  title: "Confusion",
  columns: [
    { name: "truth", text: true },
    ...LABELS.map((name) => ({ name, group: "answer" })),
    ...["recall", "precision", "F1"].map((name) => ({ name })),
  ],
  rows: LABELS.map((label, k) => [
    label,
    ...confusion[k].map(String),
    ...[classes[label].recall, classes[label].precision, classes[label].f1].map(points),
  ]),
});

/** Speakers, kinds of dialogue, durations and word errors of a row, with the means of its gates. */
export const partsTable = ({ parts }: Pooled): Table => {
  const recognises = parts.some(({ wer }) => wer !== undefined);
  const gated = parts.some(({ gates }) => gates !== undefined);
  return {
    title: "Parts",
    columns: [
      { name: "part", text: true },
      ...["answers", "UA", "WA", ...(recognises ? ["WER"] : [])].map((name) => ({ name })),
      ...(gated ? ["speech", "text"].map((name) => ({ name, group: "gate" })) : []),
    ],
    rows: parts.map(({ name, count, ua, wa, wer, gates }) => [
      name,
      String(count),
      ...[ua, wa].map(points),
      ...(recognises ? [wer === undefined ? "" : points(wer)] : []),
      ...(gated ? [gates?.acoustic, gates?.text].map((mean) => mean?.toFixed(3) ?? "") : []),
    ]),
  };
};

/** The tables with those rows only that were evaluated. */
const evaluated = (report: CrossReport) =>
  byTable(report)
    .map(({ rows, ...table }) => ({
      ...table,
      rows: rows.filter((row): row is RowReport & { pooled: Pooled } => row.pooled !== undefined),
    }))
    .filter(({ rows }) => rows.length > 0);

/** The paper's tables for a terminal of 80 columns: ours, and below it the published figure and the difference. */
export function formatTables(report: CrossReport): string {
  const line = (name: string, cells: readonly string[]) =>
    `${name.padEnd(35)}${cells.map((text) => text.padStart(15)).join("")}`.trimEnd();
  const tables = byTable(report).map(({ title, rows }) => {
    const known = figuresOf(rows);
    const lines = rows.flatMap((each) => {
      const { row } = each;
      const name = shorten(`${numberOf(row).padStart(2)} ${row.title}`, 34);
      const ours = known.map((figure) => spreadText(each.overFolds[figure]) || "–");
      const theirs = known.map((figure) => `${published(row, figure)} ${difference(each, figure)}`.trim());
      return [
        line(name, ours),
        ...(theirs.some((text) => text !== "") ? [line("      published, difference", theirs)] : []),
      ];
    });
    return [
      line(
        title,
        known.map((figure) => `${NAMES[figure]} %`),
      ),
      ...lines,
    ].join("\n");
  });
  return [...tables, report.notes.map(wrap).join("\n")].join("\n\n");
}

/** Lines of at most 80 characters. */
function wrap(text: string): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines.length - 1;
    if (lines[last] === "") lines[last] = word;
    else if (lines[last].length + 1 + word.length <= 80) lines[last] += ` ${word}`;
    else lines.push(`  ${word}`);
  }
  return lines.join("\n");
}

const shorten = (text: string, length: number): string =>
  text.length <= length ? text : `${text.slice(0, length - 1)}…`;

const range = ({ low, high }: { low: number; high: number }): string => `${points(low)} to ${points(high)}`;

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
}

/** A cross-validation's tables as GitHub's Markdown. */
import { type CrossReport, rowName } from "./report.ts";
import {
  besideTables,
  confusionTable,
  foldTables,
  paperTables,
  partsTable,
  pooledTables,
  type Table,
} from "./tables.ts";

/** The content of tables.md. */
export function reportMarkdown(report: CrossReport): string {
  const { corpus, folds, seeds, recipe } = report.plan;
  const facts = [
    `corpus ${corpus.name}, ${corpus.utterances} utterances`,
    `folds ${folds.join(", ")}`,
    `seeds ${seeds.join(", ")}`,
    `preset ${recipe.preset}`,
    ...recipe.set.map((setting) => `\`${setting}\``),
  ];
  const details = report.rows.flatMap(({ row, pooled }) =>
    pooled === undefined
      ? []
      : [
          `<details><summary>${text(rowName(row))}</summary>\n\n${markdown(confusionTable(pooled))}\n\n${markdown(partsTable(pooled))}\n\n</details>`,
        ],
  );
  const titled = (table: Table) =>
    `## ${text(table.title)}\n\n${table.note === undefined ? "" : `${table.note}\n\n`}${markdown(table)}`;
  return `${[
    "# Cross-validation",
    `${facts.map((fact) => (fact.startsWith("`") ? fact : text(fact))).join("; ")}.`,
    report.notes.map((note) => `- ${text(note)}`).join("\n"),
    ...paperTables(report).map(titled),
    ...pooledTables(report).map(titled),
    ...besideTables(report).map(titled),
    ...foldTables(report).map(titled),
    ...(details.length > 0 ? ["## Confusion and parts", ...details] : []),
  ].join("\n\n")}\n`;
}

/** A table; a column's group stands before its name. */
function markdown({ columns, rows, own = [] }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    line(columns.map(({ name, group }) => text(group === undefined ? name : `${group} ${name}`))),
    line(columns.map((column) => (column.text ? "---" : "---:"))),
    ...rows.map((row, i) =>
      line(row.map((cell) => (own.includes(i) && cell !== "" ? `**${text(cell)}**` : text(cell)))),
    ),
  ].join("\n");
}

/** Text without the signs that Markdown reads. */
const text = (raw: string): string =>
  raw.replace(/[\\`*_|<>[\]]/g, (sign) => `\\${sign}`).replace(/\s+/g, " ");

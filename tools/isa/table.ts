/** The figures of all kernels as they are committed: table.json for the test, table.md for people. */
import { readFileSync, writeFileSync } from "node:fs";
import type { IsaKernel, IsaReport } from "./isa.ts";
import { totalOf } from "./listing.ts";
import type { Use } from "./workload.ts";

/** What is kept of a pipeline. */
export interface Figures {
  readonly use: Use;
  readonly registers: number;
  readonly spills: number;
  /** Bytes of private memory. */
  readonly scratch: number;
  /** Bytes of workgroup memory. */
  readonly shared: number;
  readonly waves?: number;
  readonly instructions: number;
  /** Instructions of the inner loop. */
  readonly loop?: number;
  /** Percent of the inner loop that are multiply-adds. */
  readonly fma: number;
}

/** Of one target: by what it was compiled, and each pipeline by its line. */
export interface TargetTable {
  readonly compiler: string;
  readonly kernels: Readonly<Record<string, Figures>>;
}

export type Table = Readonly<Record<string, TargetTable>>;

const PATH = new URL("./table.json", import.meta.url);

export const readTable = (): Table => JSON.parse(readFileSync(PATH, "utf8")) as Table;

/** A line for each pipeline, so that a change is a changed line. */
export function writeTable(table: Table): void {
  const targets = Object.entries(table).map(([name, { compiler, kernels }]) => {
    const rows = Object.entries(kernels).map(
      ([line, figures]) => `${JSON.stringify(line)}:${JSON.stringify(figures)}`,
    );
    return `${JSON.stringify(name)}:{"compiler":${JSON.stringify(compiler)},"kernels":{\n${rows.join(",\n")}\n}}`;
  });
  writeFileSync(PATH, `{\n${targets.join(",\n")}\n}\n`);
}

/** What is kept of a kernel. */
export const figuresOf = (kernel: IsaKernel): Figures => ({
  use: kernel.use,
  registers: kernel.registers,
  spills: kernel.spills,
  scratch: kernel.scratch,
  shared: kernel.shared,
  waves: kernel.waves,
  instructions: totalOf(kernel.mix),
  loop: kernel.loop && totalOf(kernel.loop),
  fma: Number((100 * kernel.fma).toFixed(1)),
});

/** What is kept of a report. */
export const tableOf = ({ compiler, kernels }: IsaReport): TargetTable => ({
  compiler,
  kernels: Object.fromEntries(kernels.map((kernel) => [kernel.line, figuresOf(kernel)])),
});

/** A pipeline's line in its parts. */
export function partsOf(line: string): { kernel: string; values: Record<string, unknown> } {
  const [kernel, ...rest] = line.split(" ");
  const values = rest.join(" ").replaceAll("} {", ",").replace("{,", "{");
  return { kernel, values: values === "" ? {} : JSON.parse(values) };
}

/** By line the values in which a pipeline differs from the others of its entry point: "WG=64 vec". */
export function shortVariants(lines: readonly string[]): Map<string, string> {
  const all = lines.map((line) => ({ line, ...partsOf(line) }));
  const show = ([name, value]: [string, unknown]) =>
    value === true ? name : value === false ? `no ${name}` : `${name}=${value}`;
  return new Map(
    all.map(({ line, kernel, values }) => {
      const others = all.filter((each) => each.kernel === kernel);
      const differs = ([name, value]: [string, unknown]) =>
        name !== "enables" && others.some((each) => each.values[name] !== value);
      return [line, Object.entries(values).filter(differs).map(show).join(", ")];
    }),
  );
}

/** The table as a page. */
export const tablePage = (table: Table): string =>
  [
    "# All kernels on GPUs that are not here",
    "",
    "Registers · waves · FMA, and what is spilled; [docs/isa.md](../../docs/isa.md) tells what they are. Made by `tsx tools/isa.ts --write`.",
    "",
    ...markdown(table),
    "",
  ].join("\n");

function markdown(table: Table): string[] {
  const targets = Object.keys(table);
  const lines = [...new Set(targets.flatMap((name) => Object.keys(table[name].kernels)))].sort();
  const short = shortVariants(lines);
  const cell = (figures: Figures | undefined) => {
    if (!figures) return "";
    const { registers, spills, waves, fma } = figures;
    const parts = [`${registers}`, ...(waves === undefined ? [] : [`${waves} w`]), `${Math.round(fma)} %`];
    return [...parts, ...(spills > 0 ? [`**${spills} spilled**`] : [])].join(" · ");
  };
  return [
    ...targets.map((name) => `- ${name}: ${table[name].compiler}`),
    "",
    `| kernel | variant | ${targets.join(" | ")} |`,
    `| --- | --- |${targets.map(() => " --- |").join("")}`,
    ...lines.map((line) => {
      const cells = targets.map((name) => cell(table[name].kernels[line]));
      return `| ${partsOf(line).kernel} | ${short.get(line)} | ${cells.join(" | ")} |`;
    }),
  ];
}

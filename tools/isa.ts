/** `wavegate isa`: what kernels become on GPUs that are not here. docs/isa.md tells how. */
import { existsSync, writeFileSync } from "node:fs";
import { currentHost } from "../src/host/current.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { formatTable } from "./format.ts";
import type { Values } from "./isa/child.ts";
import { MissingError } from "./isa/environment.ts";
import { type IsaKernel, type IsaReport, isa } from "./isa/isa.ts";
import { hottestLoop, type Kind, type Mix, totalOf } from "./isa/listing.ts";
import {
  partsOf,
  readTable,
  shortVariants,
  type TargetTable,
  tableOf,
  tablePage,
  writeTable,
} from "./isa/table.ts";
import { LISTED, TARGETS, targetOf } from "./isa/targets.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "isa",
  summary: SUMMARIES.isa,
  usage: "[KERNEL[.ENTRY]…] [options]   (of the package; by default all)",
  example: "wavegate isa matmul attention.forward --target navi31,sm_90",
  options: {
    target: {
      type: "string",
      value: "NAMES",
      help: `some of ${TARGETS.map(({ name }) => name).join(" ")}, with commas between (navi31)`,
    },
    variant: {
      type: "string",
      value: "JSON",
      help: 'flags and constants: {"transB":true}; those that no variant has take the place of its own',
    },
    wgsl: { type: "string", value: "FILE", help: "a kernel of yours instead" },
    entry: { type: "string", value: "NAME", multiple: true, help: "its entry points (all)" },
    asm: { type: "boolean", help: "also the instructions of the inner loop" },
    write: { type: "boolean", help: "in a checkout: the figures into tools/isa/table.md" },
  },
  operands: { max: 100 },
  async main({ values, operands, print, printJson, note }) {
    if (values.write) {
      const { target, variant, wgsl, entry, asm } = values;
      for (const [name, set] of Object.entries({ target, variant, wgsl, entry: entry.length > 0, asm }))
        if (set !== undefined && set !== false)
          throw new UsageError(
            `Cannot take --${name} with --write: it writes all variants on all listed targets`,
          );
      return await write(operands, note);
    }
    const own = values.wgsl === undefined ? undefined : { file: values.wgsl, entries: values.entry };
    if (own && operands.length > 0)
      throw new UsageError("Cannot take kernels of the package and --wgsl at once");
    if (!own && values.entry.length > 0)
      throw new UsageError("Cannot take --entry without --wgsl: name KERNEL.ENTRY instead");
    if (own && !existsSync(own.file)) throw new UsageError(`Cannot read ${own.file}: there is no such file`);
    const host = await currentHost();
    const names = [...new Set((values.target ?? "navi31").split(","))];
    for (const name of names) targetOf(name);
    const chosen = { names: operands, own, values: readValues(values.variant) };
    const reports: IsaReport[] = [];
    for (const target of names) {
      const report = await isa(host, { target, ...chosen });
      for (const line of showReport(report)) print(line);
      if (values.asm) for (const line of report.kernels.flatMap(showCode)) print(line);
      reports.push(report);
    }
    printJson(
      reports.map(({ kernels, ...rest }) => ({
        ...rest,
        kernels: kernels.map(({ code, ...kernel }) => ({
          ...kernel,
          ...(values.asm && { asm: loopOf({ code }).map(({ text }) => text) }),
        })),
      })),
    );
    return 0;
  },
});

/** Flags and constants as JSON. Throws a UsageError. */
function readValues(text: string | undefined): Values | undefined {
  if (text === undefined) return undefined;
  try {
    const values = JSON.parse(text);
    if (typeof values === "object" && values !== null && !Array.isArray(values)) return values;
  } catch {
    // What it should be is said below.
  }
  throw new UsageError(`Cannot read --variant ${text}: an object as {"vec":true} expected`);
}

const MEMORY: readonly Kind[] = ["load", "store", "constantLoad", "spill"];
const SHARED: readonly Kind[] = ["sharedLoad", "sharedStore"];

/** The lines of a table of a target's kernels. Shares are those of the inner loop; of a kernel without one, of all of it. */
export function showReport({ target, compiler, kernels }: IsaReport): string[] {
  const short = shortVariants(kernels.map(({ line }) => line));
  const percent = (mix: Mix, kinds: readonly Kind[]) =>
    `${Math.round((100 * kinds.reduce((sum, kind) => sum + (mix[kind] ?? 0), 0)) / Math.max(1, totalOf(mix)))} %`;
  const rows = kernels.map((kernel) => {
    const { line, threads, subgroup, registers, spills, shared, waves, mix, loop, fma } = kernel;
    const inner = loop ?? mix;
    return [
      ...[partsOf(line).kernel, short.get(line) ?? "", threads, subgroup, registers, spills, shared],
      ...[waves ?? "-", totalOf(mix), loop ? totalOf(loop) : "-", `${(100 * fma).toFixed(1)} %`],
      ...[
        percent(inner, ["float"]),
        percent(inner, ["integer"]),
        percent(inner, MEMORY),
        percent(inner, SHARED),
      ],
      percent(inner, ["wait", "barrier", "branch"]),
    ];
  });
  const header = ["kernel", "variant", "threads", "subgroup", "registers", "spills", "shared B", "waves"];
  const shares = ["instructions", "loop", "FMA", "float", "integer", "memory", "shared", "wait, branch"];
  const { product } = targetOf(target);
  return [`${target} (${product}), by ${compiler}`, ...formatTable([...header, ...shares], rows), ""];
}

/** The instructions of the inner loop, or all where there is none. */
function loopOf({ code }: Pick<IsaKernel, "code">): IsaKernel["code"] {
  const loop = hottestLoop(code);
  return loop ? code.slice(loop.first, loop.last + 1) : code;
}

const showCode = (kernel: IsaKernel): string[] => [
  `${kernel.line}, ${kernel.loop ? "inner loop" : "all of it"}:`,
  ...loopOf(kernel).map(({ text }) => `  ${text}`),
  "",
];

/** Puts the figures of the kernels on all listed targets into the table; those that cannot be had here stay as they were. */
async function write(names: readonly string[], note: (line: string) => void): Promise<number> {
  const page = new URL("isa/table.md", import.meta.url);
  if (!import.meta.url.endsWith(".ts") || !existsSync(page))
    throw new UsageError("Cannot --write: the table stands in a checkout of the project alone");
  const host = await currentHost();
  const table = { ...readTable() };
  for (const target of LISTED) {
    try {
      const now = tableOf(await isa(host, { target, names }));
      table[target] = names.length > 0 ? renewed(table[target], now, names) : now;
      note(`isa: ${target}: ${Object.keys(now.kernels).length} pipelines`);
    } catch (error) {
      if (!(error instanceof MissingError)) throw error;
      note(`isa: ${target} stays as it was: ${error.message}`);
    }
  }
  writeTable(table);
  writeFileSync(page, tablePage(table));
  return 0;
}

/** A target's table with `now` in place of the kernels called `names`. Throws a MissingError where another compiler made the rest. */
export function renewed(table: TargetTable, now: TargetTable, names: readonly string[]): TargetTable {
  if (now.compiler !== table.compiler)
    throw new MissingError(`the table is by ${table.compiler}, this is ${now.compiler}: write all kernels`);
  const of = (line: string) => {
    const { kernel } = partsOf(line);
    return names.some((name) => kernel === name || kernel.startsWith(`${name}.`));
  };
  const others = Object.entries(table.kernels).filter(([line]) => !of(line));
  const kernels = Object.entries(now.kernels);
  return {
    ...table,
    kernels: Object.fromEntries([...others, ...kernels].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}

if (isMain(import.meta)) await runVerb(verb);

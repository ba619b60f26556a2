/**
 * The process that compiles for a target: WebGPU on the driver that the layer stands before. The parent (compile.ts) sets the
 * environment and gives an order as JSON; the layer writes what comes out beside OUT/INDEX, this process OUT/pipelines.json.
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { type Device, openDevice } from "../../src/gpu/device.ts";
import { twin, type Variant } from "../../src/gpu/kernel.ts";
import { nearest } from "../../src/io/nearest.ts";
import { currentHost } from "../../src/host/current.ts";
import { packagePipelines, showPipeline, type Used } from "./workload.ts";

/** Flags and constants by name, as on the command line. */
export type Values = Readonly<Record<string, string | number | boolean>>;

/** What the process is to compile. */
export interface Order {
  readonly out: string;
  /** A file with a kernel that is not the package's, and its entry points: all where there is none. */
  readonly own?: { readonly file: string; readonly entries: readonly string[] };
  /** The package's kernels, `matmul` or `matmul.forward`; all where there is none. */
  readonly names?: readonly string[];
  /** Only pipelines with these; where none has them, one with these instead of its own. Of an own kernel all that it needs. */
  readonly values?: Values;
}

/** What it says of the device, and of each pipeline in their order. */
export interface Compiled {
  readonly device: string;
  readonly pipelines: readonly (Used & { readonly line: string })[];
}

/** Splits values into flags and constants by what the text declares. */
function variantOf(source: string, values: Values): Variant {
  const declared = new Set([...source.matchAll(/\boverride\s+(\w+)/g)].map((match) => match[1]));
  const part = (constant: boolean) =>
    Object.fromEntries(Object.entries(values).filter(([name]) => declared.has(name) === constant));
  return { flags: part(false), overrides: part(true) as Record<string, number> };
}

function ownPipelines({ file, entries }: NonNullable<Order["own"]>, values: Values): Used[] {
  const source = readFileSync(file, "utf8");
  const name = /([\w-]+)(?:\.\w+)?$/.exec(file)?.[1] ?? "own";
  twin(`own/${name}`, source);
  const all = [...source.matchAll(/@compute\b[^{;]*?\bfn\s+(\w+)/g)].map((match) => match[1]);
  if (all.length === 0) throw new Error(`Cannot compile ${file}: it has no @compute entry point`);
  const variant = variantOf(source, values);
  return (entries.length > 0 ? entries : all).map((entry) => ({
    ...{ name: `own/${name}`, entry, variant, use: "own" as const },
  }));
}

/** The pipelines of one of the names, or of all kernels where there is none. */
function named(found: readonly Used[], names: readonly string[]): Used[] {
  const known = found.flatMap(({ name, entry }) => [name, `${name}.${entry}`]);
  for (const name of names)
    if (!known.includes(name)) {
      const near = nearest(name, known);
      throw new Error(
        `Cannot find kernel ${name}: ${near === undefined ? `kernels are ${[...new Set(found.map((each) => each.name))].join(", ")}` : `did you mean ${near}?`}`,
      );
    }
  return found.filter(
    ({ name, entry }) => names.length === 0 || names.includes(name) || names.includes(`${name}.${entry}`),
  );
}

/** Of each entry point the pipelines that have all of `values`; where none has, they themselves with these values put in. */
function withValues(found: readonly Used[], values: Values): Used[] {
  const wanted = Object.entries(values);
  const entryOf = ({ name, entry }: Used) => `${name}.${entry}`;
  const has = ({ variant }: Used) => {
    const all: Values = { ...variant.flags, ...variant.overrides };
    return wanted.every(([name, value]) => all[name] === value);
  };
  const change = (each: Used): Used => {
    const { flags = {}, overrides = {} } = each.variant;
    const part = (constant: boolean) => wanted.filter(([name]) => name in overrides === constant);
    const variant: Variant = {
      flags: { ...flags, ...Object.fromEntries(part(false)) },
      overrides: { ...overrides, ...(Object.fromEntries(part(true)) as Record<string, number>) },
    };
    return { ...each, variant, use: "own" };
  };
  const chosen = [...new Set(found.map(entryOf))].flatMap((entry) => {
    const own = found.filter((each) => entryOf(each) === entry);
    const matching = own.filter(has);
    return matching.length > 0 ? matching : own.map(change);
  });
  return [...new Map(chosen.map((each) => [showPipeline(each), each])).values()];
}

async function compile(device: Device, { out, own, names = [], values = {} }: Order): Promise<void> {
  const found = own
    ? ownPipelines(own, values)
    : withValues(named(await packagePipelines(device), names), values);
  for (const [i, { name, entry, variant }] of found.entries()) {
    process.env.WAVEGATE_ISA_OUT = `${out}/${i}`;
    device.kernels.pipeline(name, entry, variant);
    delete process.env.WAVEGATE_ISA_OUT;
    await device.idle(); // throws what the compiler said
  }
  const pipelines = found.map((each) => ({ ...each, line: showPipeline(each) }));
  const compiled: Compiled = { device: device.info.name, pipelines };
  writeFileSync(`${out}/pipelines.json`, JSON.stringify(compiled));
}

try {
  const device = await openDevice(await currentHost(), { implementation: "dawn" });
  await compile(device, JSON.parse(process.argv[2]) as Order);
  process.exit(0);
} catch (error) {
  process.stderr.write(`wavegate-isa: ${(error as Error).message}\n`);
  process.exit(1);
}

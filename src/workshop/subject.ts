/** From a command line to what is tried: a file of one's own, or a kernel or operator of the package. */
import { resolve } from "node:path";
import { type Device, type DeviceOptions, openDevice } from "../gpu/device.ts";
import { type Path, PATHS } from "../gpu/launch.ts";
import { stripComments } from "../gpu/wgsl.ts";
import type { Host } from "../host/host.ts";
import { ArgumentError } from "../io/argument_error.ts";
import { nearest } from "../io/nearest.ts";
import type { Shape } from "../tensor/shape.ts";
import type { Subject } from "./candidate.ts";
import { ownMakers } from "./own.ts";
import type { OwnKernel } from "./own_call.ts";
import { packagedBouts, recordsOf } from "./packaged.ts";
import {
  beside,
  combinations,
  type KernelSpec,
  readSource,
  readSpec,
  type Source,
  split,
  type Variant,
} from "./spec.ts";

/** What is asked for. */
export interface Order {
  /** A name, or FILE.wgsl. */
  readonly operand: string;
  readonly against?: string;
  /** "N=512,C=768" of a file; "x=512x768,w=768" of an operator. */
  readonly shapes: readonly string[];
  readonly dtype?: "f32" | "f16";
  /** "WG=64,vec" of a file; a path of the package. */
  readonly variants: readonly string[];
  readonly backward: boolean;
  readonly runs: number;
  readonly device: DeviceOptions;
}

/** Whether an operand is a file. */
export const isFile = (operand: string): boolean => operand.endsWith(".wgsl");

/** The JSON of a file. */
export const specPath = (file: string): string => file.replace(/\.wgsl$/, ".json");

/** Reads all that an order names. `cache` may be kept from run to run. */
export async function readSubject(host: Host, order: Order, cache: Map<string, unknown>): Promise<Subject> {
  return isFile(order.operand)
    ? await ownSubject(host, order, cache)
    : await packagedSubject(host, order, cache);
}

/** The files by whose change the outcome would change, as far as they can be read; those of the command line in any case. */
export async function filesOf(host: Host, { operand, against }: Order): Promise<string[]> {
  const sources = [...(isFile(operand) ? [operand] : []), ...(against === undefined ? [] : [against])];
  const files = new Set(sources);
  for (const source of sources)
    for (const file of (await readSource(host, source).catch(() => undefined))?.files ?? []) files.add(file);
  if (!isFile(operand)) return [...files];
  const json = specPath(operand);
  files.add(json);
  if (against !== undefined && (await host.kind(specPath(against))) === "file") files.add(specPath(against));
  const spec = await readSpec(host, json).catch(() => undefined);
  if (typeof spec?.reference === "string") files.add(beside(json, spec.reference));
  for (const { init } of Object.values(spec?.buffers ?? {}))
    if (typeof init === "object") files.add(beside(json, init.file));
  return [...files];
}

/** A file and the variants to try, as they are compiled. */
export interface OwnVariants {
  readonly source: Source;
  /** Undefined where the text has only one. */
  readonly entry: string | undefined;
  /** Flags and overrides together. */
  readonly variants: readonly Variant[];
}

/** What an order about a file compiles: its own variants, and those of the file that stands against it. */
export async function ownVariants(host: Host, order: Order): Promise<OwnVariants[]> {
  const { source, other, called, spec, variants, others } = await readOwn(host, order);
  const compiled = (file: Source, entry: string | undefined, of: readonly Variant[]) => ({
    ...{ source: file, entry },
    variants: of.map((variant) => {
      const { flags, overrides } = split(file, variant);
      return { ...flags, ...overrides };
    }),
  });
  return [
    compiled(source, spec.entry, variants),
    ...(other ? [compiled(other, called?.spec.entry, others)] : []),
  ];
}

/** Reads a file, its JSON and the file against it. */
async function readOwn(host: Host, order: Order) {
  const { operand, against, dtype } = order;
  const json = specPath(operand);
  const source = await readSource(host, operand);
  if ((await host.kind(json)) === undefined)
    throw new Error(
      `Cannot find ${json}: it says how ${operand} is called, docs/kernel_workshop.md shows one`,
    );
  const spec = await readSpec(host, json);
  const other = against === undefined ? undefined : await readSource(host, against);
  const chosen = chosenVariants(order);
  if (dtype !== undefined) {
    if (!flagsOf(source).has("X"))
      throw new ArgumentError(
        `Cannot use --dtype ${dtype}: ${operand} has no flag \${X}, its types are fixed`,
      );
    chosen.set("X", [dtype]);
  }
  const all = combinations(json, spec.variants, chosen);
  const variants = all.map((variant) => withType(source, variant));
  const called = other && (await calledBy(host, json, spec, other));
  const suited =
    called && other
      ? combinations(
          called.json,
          called.spec.variants,
          called.json === json ? chosen : suitingAll(other, chosen),
        ).map((variant) => withType(other, suiting(other, variant)))
      : [];
  const others = suited.filter((variant, i) => suited.findIndex((each) => same(each, variant)) === i);
  return { json, spec, source, other, called, variants, others };
}

/**
 * How the file against another is called: as that, or where it has a JSON of its own by the entry, grid, dims and variants of
 * this. Buffers that both have are filled, and results held to the reference, as those of the first.
 */
async function calledBy(
  host: Host,
  json: string,
  spec: KernelSpec,
  { path }: Source,
): Promise<{ json: string; spec: KernelSpec }> {
  const own = specPath(path);
  if (own === json || own === path || (await host.kind(own)) === undefined) return { json, spec };
  const { entry, grid, dims, variants, buffers } = await readSpec(host, own);
  const from = (file: string) => resolve(beside(json, file));
  const shared = Object.entries(buffers).map(([name, buffer]) => {
    const first = spec.buffers[name] ?? buffer;
    const { init } = first;
    const moved = typeof init === "object" && first !== buffer ? { ...init, file: from(init.file) } : init;
    return [name, { ...first, init: moved }];
  });
  const { reference } = spec;
  return {
    json: own,
    spec: {
      ...{ ...spec, entry, grid, dims, variants, buffers: Object.fromEntries(shared) },
      reference: typeof reference === "string" ? from(reference) : reference,
    },
  };
}

/** Of what was chosen what a file has. */
const suitingAll = <T>(source: Source, chosen: ReadonlyMap<string, T>): Map<string, T> => {
  const known = suiting(source, Object.fromEntries([...chosen.keys()].map((name) => [name, true])));
  return new Map([...chosen].filter(([name]) => name in known));
};

async function ownSubject(host: Host, order: Order, cache: Map<string, unknown>): Promise<Subject> {
  const { operand } = order;
  if (order.backward)
    throw new ArgumentError(`Cannot use --backward: ${operand} is a file, its entry says what is run`);
  const { json, spec, source, other, called, variants, others } = await readOwn(host, order);
  const open = () => openDevice(host, order.device);
  const bouts = sizesOf(json, spec, order.shapes).map((sizes) => {
    const theirs: OwnKernel | undefined = called && { host, ...called, sizes, cache };
    const instead = theirs && other && { own: theirs, source: other, variants: others };
    const makers = [
      ...ownMakers({ host, json, spec, sizes, cache, instead }, source, variants, open),
      ...(theirs && other ? ownMakers({ ...theirs, instead }, other, others, open) : []),
    ];
    return { shape: showSizes(sizes), makers };
  });
  const notes: string[] = [];
  if (spec.reference === undefined && other)
    notes.push(`${json} has no reference: ${other.path} is taken as right, in f32`);
  return { kernel: operand, files: await filesOf(host, order), notes, bouts };
}

const same = (a: Variant, b: Variant): boolean => JSON.stringify(a) === JSON.stringify(b);

const showSizes = (sizes: Readonly<Record<string, number>>): string =>
  Object.entries(sizes)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");

const flagsOf = ({ text }: Source): Set<string> => {
  const code = stripComments(text);
  return new Set(
    [...code.matchAll(/\$\{(\w+)\}/g), ...code.matchAll(/^[ \t]*#unroll \w+ ([A-Za-z_]\w*)/gm)].map(
      (m) => m[1],
    ),
  );
};

/** The element type is f32 where nothing else is said. */
const withType = (source: Source, variant: Variant): Variant =>
  flagsOf(source).has("X") && !("X" in variant) ? { ...variant, X: "f32" } : variant;

/** Of a variant what another file has too: it may have no need of the rest. */
function suiting(source: Source, variant: Variant): Variant {
  const known = flagsOf(source);
  for (const [, name] of stripComments(source.text).matchAll(/\boverride\s+(\w+)/g)) known.add(name);
  return Object.fromEntries(Object.entries(variant).filter(([name]) => known.has(name)));
}

/** "WG=64,vec" as values by name. */
function readPairs(option: string, text: string): [name: string, value: string | undefined][] {
  return text.split(",").map((part) => {
    const [, name, value] = /^\s*(\w+)\s*(?:=\s*(\S+)\s*)?$/.exec(part) ?? [];
    if (name === undefined)
      throw new ArgumentError(`Cannot read ${option} ${text}: it is like NAME=VALUE, several with a comma`);
    return [name, value];
  });
}

function chosenVariants({ variants }: Order): Map<string, (string | number | boolean)[]> {
  const chosen = new Map<string, (string | number | boolean)[]>();
  for (const text of variants)
    for (const [name, value] of readPairs("--variant", text)) {
      const number = Number(value);
      const read =
        value === undefined || value === "true"
          ? true
          : value === "false"
            ? false
            : Number.isNaN(number)
              ? value
              : number;
      const values = chosen.get(name) ?? [];
      if (!values.includes(read)) chosen.set(name, [...values, read]);
    }
  return chosen;
}

/** The shapes of the JSON, or those of the command line, whose other sizes are those of the first. */
function sizesOf(
  json: string,
  { shapes }: KernelSpec,
  given: readonly string[],
): Readonly<Record<string, number>>[] {
  const [first] = shapes;
  const names = Object.keys(first);
  for (const [i, shape] of shapes.entries()) {
    const missing = names.find((name) => !Object.hasOwn(shape, name));
    const extra = Object.keys(shape).find((name) => !names.includes(name));
    if (missing !== undefined)
      throw new Error(`Cannot use ${json}: shapes.${i} lacks ${missing}, which shapes.0 has`);
    if (extra !== undefined)
      throw new Error(`Cannot use ${json}: shapes.${i} has ${extra}, which shapes.0 lacks`);
  }
  if (given.length === 0) return [...shapes];
  return given.map((text) => {
    const sizes: Record<string, number> = { ...first };
    for (const [name, value] of readPairs("--shape", text)) {
      if (!names.includes(name)) {
        const near = nearest(name, names, 1);
        const hint = near === undefined ? `there are ${names.join(", ")}` : `did you mean ${near}?`;
        throw new ArgumentError(`Cannot read --shape ${text}: ${json} has no size ${name}; ${hint}`);
      }
      sizes[name] = value === undefined ? Number.NaN : Number(value);
      if (Number.isNaN(sizes[name]))
        throw new ArgumentError(
          `Cannot read --shape ${text}: ${name} is ${value ?? "nothing"}, a number expected`,
        );
    }
    return sizes;
  });
}

async function packagedSubject(host: Host, order: Order, cache: Map<string, unknown>): Promise<Subject> {
  const { operand, against, dtype, backward } = order;
  const open = (path?: Path): Promise<Device> => openDevice(host, { ...order.device, ...(path && { path }) });
  const other = against === undefined ? undefined : await readSource(host, against);
  const paths = order.variants.map((text) => {
    if ((PATHS as readonly string[]).includes(text)) return text as Path;
    throw new ArgumentError(`Cannot read --variant ${text}: of the package it is one of ${PATHS.join(", ")}`);
  });
  const records = await recordsOf(operand, open);
  const shapes = inputShapes(order.shapes);
  const bouts = await packagedBouts(records, {
    ...{ name: operand, shapes, dtype, paths, against: other, backward, cache },
    ...{ checked: new Map(), open },
  });
  return { kernel: operand, files: await filesOf(host, order), notes: [], bouts };
}

/** "x=512x768,w=768" as shapes by input. */
function inputShapes(given: readonly string[]): Record<string, Shape> {
  if (given.length > 1)
    throw new ArgumentError(
      "Cannot read --shape twice: of an operator one names all inputs, as x=512x768,w=768",
    );
  const shapes: Record<string, Shape> = {};
  for (const [name, value] of given.flatMap((text) => readPairs("--shape", text))) {
    const lengths = (value ?? "").split("x");
    if (!lengths.every((length) => /^\d+$/.test(length)))
      throw new ArgumentError(
        `Cannot read --shape ${given[0]}: ${name} is ${value ?? "nothing"}, a shape as 512x768 expected`,
      );
    shapes[name] = lengths.map(Number);
  }
  return shapes;
}

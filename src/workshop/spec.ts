/** A kernel of one's own: FILE.wgsl, and FILE.json beside it, which says how to call it. docs/kernel_workshop.md describes it. */
import * as v from "valibot";
import type { Host } from "../host/host.ts";
import type { Flags, Interface } from "../gpu/wgsl.ts";
import { INCLUDE, stripComments } from "../gpu/wgsl.ts";
import { readUtf8 } from "../io/encoding.ts";
import { nearest } from "../io/nearest.ts";
import { isObject, readJsonValue } from "../io/config.ts";
import { finite, keysOf, mismatch, number, parse, record, strictObject } from "../io/schema.ts";
import { Expression, type Numbers } from "./expression.ts";

const expression = v.union([finite, v.string()], "a number or an expression");
const list = <S extends v.GenericSchema>(item: S, should: string) =>
  v.pipe(v.array(item, should), v.minLength(1, should));
const scalar = v.union([finite, v.boolean(), v.string()], "a number, true, false or a text");

const buffer = strictObject({
  shape: v.array(expression, "a list of sizes"),
  dtype: v.optional(v.picklist(["f32", "f16", "u32", "i32"])),
  init: v.optional(
    v.union(
      [finite, v.string(), strictObject({ file: v.string(), tensor: v.optional(v.string()) })],
      'a number, an expression of i, z and u, or {"file": …}',
    ),
  ),
});

const schema = strictObject({
  entry: v.optional(v.string()),
  shapes: list(record(finite), "a list of one or more objects of sizes"),
  buffers: record(buffer),
  dims: v.optional(record(expression), {}),
  grid: v.pipe(
    list(expression, "a list of one to three expressions"),
    v.maxLength(3, "a list of one to three expressions"),
  ),
  variants: v.optional(record(list(scalar, "a list of values to try")), {}),
  cost: v.optional(strictObject({ flops: v.optional(expression), bytes: v.optional(expression) }), {}),
  tolerance: v.optional(number("a number above 0", (x) => x > 0)),
  reference: v.optional(
    v.union(
      [v.string(), record(expression)],
      'a file, or an object of definitions as {"y[n, c]": "2 * x[n, c]"}',
    ),
  ),
});

/** FILE.json as it was read. */
export type KernelSpec = v.InferOutput<typeof schema>;

/** A source of WGSL. */
export interface Source {
  /** As it was given on the command line. */
  readonly path: string;
  /** With its own includes put in. */
  readonly text: string;
  /** It, and the files that it includes. */
  readonly files: readonly string[];
}

/** A flag or an override, or both. */
export type Variant = Readonly<Record<string, string | number | boolean>>;

/** The path of a file that stands beside another. */
export const beside = (path: string, name: string): string =>
  /^\/|^\w:/.test(name) ? name : path.replace(/[^/]*$/, "") + name;

/** Reads FILE.json. A key that there is not is told before one that is missing: it may be what that was meant to be. */
export async function readSpec(host: Host, path: string): Promise<KernelSpec> {
  const value = await readJsonValue(host, path);
  const keys = keysOf(schema);
  const odd = isObject(value) ? Object.keys(value).find((key) => !keys.includes(key)) : undefined;
  if (odd === undefined) return parse(schema, value, path);
  const near = nearest(odd, keys);
  const hint = near === undefined ? `there are ${keys.join(", ")}` : `did you mean ${near}?`;
  throw new SyntaxError(`Cannot use ${path}: there is no key ${odd}; ${hint}`);
}

/** Reads WGSL. What it includes is looked for beside it; what is not there is left, for the package has it or nobody. */
export async function readSource(host: Host, path: string): Promise<Source> {
  const files: string[] = [];
  const read = async (file: string, depth: number): Promise<string> => {
    if (depth > 8) throw new Error(`Cannot read ${path}: its #include nest more than 8 deep`);
    files.push(file);
    const text = await readUtf8(host, file);
    const parts = new Map<string, string>();
    for (const [line, name] of stripComments(text).matchAll(INCLUDE)) {
      const own = beside(file, name);
      if ((await host.kind(own)) === "file") parts.set(line.trim(), await read(own, depth + 1));
    }
    return parts.size === 0 ? text : text.replace(INCLUDE, (line) => parts.get(line.trim()) ?? line);
  };
  return { path, text: await read(path, 0), files };
}

/** The value of an expression of a key. Throws one line that names the file and the key. */
export function evaluate(path: string, key: string, text: string | number, numbers: Numbers): number {
  try {
    return new Expression(text).value(numbers);
  } catch (error) {
    throw new SyntaxError(`Cannot use ${path}: ${key}: ${(error as Error).message}`);
  }
}

/** A whole number from `least`. */
export function evaluateCount(
  path: string,
  key: string,
  text: string | number,
  numbers: Numbers,
  least = 0,
): number {
  const value = evaluate(path, key, text, numbers);
  if (Number.isInteger(value) && value >= least) return value;
  const sizes = Object.entries(numbers)
    .map(([name, each]) => `${name}=${each}`)
    .join(" ");
  const hint = value >= least ? `; ceil(${text})?` : "";
  throw new RangeError(
    `Cannot use ${path}: ${key} is ${text} = ${value} at ${sizes}, a whole number from ${least} expected${hint}`,
  );
}

/** All combinations of the values to try, in order; of `chosen` names only what is chosen. */
export function combinations(
  path: string,
  variants: KernelSpec["variants"],
  chosen: ReadonlyMap<string, readonly (string | number | boolean)[]>,
): Variant[] {
  const all = { ...variants, ...Object.fromEntries(chosen) };
  let found: Variant[] = [{}];
  for (const [name, values] of Object.entries(all))
    found = found.flatMap((each) => values.map((value) => ({ ...each, [name]: value })));
  const MOST = 256;
  if (found.length > MOST)
    throw new RangeError(
      `Cannot use ${path}: its variants are ${found.length} combinations, at most ${MOST} are tried`,
    );
  return found;
}

/** Flags and overrides of a variant, by what the text has. */
export function split(
  { path, text }: Source,
  variant: Variant,
): { flags: Flags; overrides: Record<string, number> } {
  const code = stripComments(text);
  const overrides = new Set([...code.matchAll(/\boverride\s+(\w+)/g)].map((match) => match[1]));
  const flags = new Set([
    ...[...code.matchAll(/\$\{(\w+)\}/g)].map((match) => match[1]),
    ...[...code.matchAll(/^[ \t]*#unroll \w+ ([A-Za-z_]\w*)/gm)].map((match) => match[1]),
  ]);
  const found = {
    flags: {} as Record<string, string | number | boolean>,
    overrides: {} as Record<string, number>,
  };
  for (const [name, value] of Object.entries(variant)) {
    if (!flags.has(name) && !overrides.has(name)) {
      const names = [...flags, ...overrides].filter((each) => each !== "enables");
      const near = nearest(name, names);
      const has = names.length > 0 ? `it has ${names.join(", ")}` : "it has none";
      throw new Error(
        `Cannot use ${path}: it has no flag and no override ${name}; ${near === undefined ? has : `did you mean ${near}?`}`,
      );
    }
    if (flags.has(name)) found.flags[name] = value;
    if (!overrides.has(name)) continue;
    if (typeof value === "string")
      throw new TypeError(`Cannot use ${path}: override ${name} is "${value}", a number expected`);
    found.overrides[name] = Number(value);
  }
  if (flags.has("enables") && !("enables" in found.flags))
    found.flags.enables = Object.values(found.flags).includes("f16") ? "enable f16;" : "";
  return found;
}

/** The entry point to run. Throws where the text has none, several and none is named, or none of the name. */
export function entryOf(source: Source, json: string, wanted: string | undefined, face: Interface): string {
  const { entries } = face;
  if (entries.length === 0) throw new Error(`Cannot use ${source.path}: it has no @compute entry point`);
  if (wanted === undefined) {
    if (entries.length === 1) return entries[0];
    throw new Error(`Cannot use ${json}: it lacks the key entry, one of ${entries.join(", ")}`);
  }
  if (entries.includes(wanted)) return wanted;
  throw mismatch(json, "entry", wanted, `one of ${entries.join(", ")}`);
}

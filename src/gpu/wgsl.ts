/**
 * From a kernel's source to the text that the device compiles, and what TypeScript must know about it.
 *
 * Four steps, in this order: comments go; `#include "lib/x.wgsl"` is replaced by that file; `#unroll r 16 … #endunroll`
 * repeats its lines with `$r` = 0…15 (register tiles need constant indices); `${name}` and `#if ${name}` are filled in by
 * wgsl-preprocessor. That package never checks its values: flags that are missing, and those that the source does not
 * name, throw here.
 */
import { wgsl } from "wgsl-preprocessor/wgsl-preprocessor.js";

/** What a `${name}` may stand for. */
export type Flags = Readonly<Record<string, string | number | boolean>>;

export interface BindingInfo {
  readonly name: string;
  readonly binding: number;
  readonly access: "read" | "read_write" | "uniform";
  /** The number that its type is made of; undefined for structs and for Bits, which hold any. */
  readonly element: Scalar | undefined;
}

/** What numbers a buffer is read as. */
export type Scalar = "f32" | "f16" | "i32" | "u32";

export interface DimsField {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
}

export interface Override {
  /** By what a pipeline is given its value. */
  readonly id: string;
  /** As it was declared; undefined where the WGSL leaves that to its default. */
  readonly type: string | undefined;
}

/** Whether a number, or a boolean, is one of this type of WGSL; undefined stands for any number. */
export function fits(value: unknown, type: string | undefined): boolean {
  if (type === "bool") return typeof value === "boolean" || value === 0 || value === 1;
  if (type === "u32") return (value as number) >>> 0 === value;
  if (type === "i32") return ((value as number) | 0) === value;
  return typeof value === "number" && Number.isFinite(value);
}

/** What a kernel is run with, as its expanded WGSL declares it. */
export interface Interface {
  readonly bindings: readonly BindingInfo[];
  /** The fields of `struct Dims`, in order. */
  readonly dims: readonly DimsField[];
  readonly entries: readonly string[];
  /** By the name of each `override` constant. */
  readonly overrides: ReadonlyMap<string, Override>;
}

/** Fields of Dims that its place in the buffer holds; see Recorder. */
const MOST_DIMS = 64;

/** Text without comments, which may contain what looks like code. */
export const stripComments = (text: string) =>
  text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/[^\n]*/g, "");

/** The `#include` lines of a text; the first group is the file's name. */
export const INCLUDE = /^[ \t]*#include "([^"]+)"[ \t]*$/gm;

function include(text: string, library: ReadonlyMap<string, string>, depth = 0): string {
  if (depth > 8) throw new Error("#include nests more than 8 deep");
  const included = text.replace(INCLUDE, (_, name: string) => {
    const body = library.get(name);
    if (body === undefined) throw new Error(`#include "${name}" names no file in the package's kernels/`);
    return include(stripComments(body), library, depth + 1);
  });
  const odd = /^[ \t]*#include\b.*$/m.exec(included)?.[0].trim();
  if (odd !== undefined) throw new Error(`${odd} should be #include "lib/NAME.wgsl" on a line of its own`);
  return included;
}

/** A source with all that it includes, without comments. */
export const included = (source: string, library: ReadonlyMap<string, string>): string =>
  include(stripComments(source), library);

function unroll(text: string, flags: Flags): string {
  const block =
    /^[ \t]*#unroll (\w+) (\w+)[ \t]*\n((?:(?!^[ \t]*#(?:unroll|endunroll))[^\n]*\n)*)^[ \t]*#endunroll[ \t]*$/gm;
  let before: string;
  let expanded = text;
  // Innermost blocks first, until none is left.
  do {
    before = expanded;
    expanded = before.replace(block, (_, name: string, count: string, body: string) => {
      const times = Number(flags[count] ?? count);
      if (!Number.isInteger(times)) throw new Error(`#unroll ${name} ${count} is no whole number`);
      const pattern = new RegExp(`\\$${name}(?![a-tv-z0-9_])`, "g");
      return Array.from({ length: times }, (_, i) => body.replace(pattern, String(i))).join("");
    });
  } while (expanded !== before);
  return expanded;
}

/** Expands one kernel. `library` maps file names inside kernels/ to their text; errors name `kernel`. */
export function expand(
  source: string,
  flags: Flags,
  library: ReadonlyMap<string, string>,
  kernel: string,
): string {
  try {
    const text = included(source, library);
    checkFlags(text, flags);
    return fill(unroll(text, flags), flags);
  } catch (error) {
    throw new Error(`Cannot expand kernel ${kernel}: ${(error as Error).message}`);
  }
}

const PLACEHOLDER = /\$\{(\w+)\}/;

function checkFlags(text: string, flags: Flags): void {
  const names = (all: Iterable<string>) => [...all].join(", ") || "none";
  const filled = [...text.matchAll(new RegExp(PLACEHOLDER, "g"))].map((m) => m[1]);
  const counts = [...text.matchAll(/^[ \t]*#unroll \w+ ([A-Za-z_]\w*)/gm)].map((m) => m[1]);
  const missing = filled.find((name) => !Object.hasOwn(flags, name));
  if (missing !== undefined)
    throw new Error(`\${${missing}} has no value (given: ${names(Object.keys(flags))})`);
  const known = new Set([...filled, ...counts]);
  const unknown = Object.keys(flags).find((name) => !known.has(name));
  if (unknown !== undefined) throw new Error(`it has no flag ${unknown} (it has: ${names(known)})`);
}

function fill(text: string, flags: Flags): string {
  const pieces = text.split(PLACEHOLDER);
  const strings = pieces.filter((_, i) => i % 2 === 0);
  const values = pieces.filter((_, i) => i % 2 === 1).map((name) => flags[name]);
  const filled = wgsl(Object.assign(strings, { raw: strings }) as TemplateStringsArray, ...values);
  return filled.replace(/\n\s*\n+/g, "\n");
}

const BINDING = /((?:@\w+\s*\([^)]*\)\s*)+)var\s*(?:<\s*(\w+)\s*(?:,\s*(\w+)\s*)?>)?\s*(\w+)\s*:\s*([^;]+)/g;

/** The alias by which a kernel says that a buffer of u32 holds the bits of any type. */
const ANY = "Bits";
const SUFFIXES: Readonly<Record<string, Scalar>> = { f: "f32", h: "f16", i: "i32", u: "u32" };

/** The number that `type` is made of, as f32 of array<vec4f>; undefined for a struct and for Bits. */
function scalarOf(type: string, aliases: ReadonlyMap<string, string>): Scalar | undefined {
  let name = type.trim();
  for (let depth = 0; depth < 8 && name !== ANY; depth++) {
    if (/^(f32|f16|i32|u32)$/.test(name)) return name as Scalar;
    const suffix = /^(?:vec[234]|mat[234]x[234])([fhiu])$/.exec(name)?.[1];
    if (suffix) return SUFFIXES[suffix];
    const inner = /^(?:array|atomic|vec[234]|mat[234]x[234])\s*<(.*)>$/s.exec(name)?.[1];
    const next = inner?.replace(/(?:,[^<>,]*)+$/, "") ?? aliases.get(name);
    if (next === undefined) return undefined;
    name = next.trim();
  }
  return undefined;
}

/** Names of the storage buffers that some entry point may write, in a source that need not be expanded. */
export function outputsOf(source: string): Set<string> {
  const outputs = new Set<string>();
  for (const [, , space, access, name] of stripComments(source).matchAll(BINDING))
    if (space === "storage" && access === "read_write") outputs.add(name);
  return outputs;
}

/** Reads bindings, Dims, entry points and overrides from expanded WGSL. Throws, naming `kernel`, what the engine cannot bind. */
export function reflect(text: string, kernel: string): Interface {
  const refuse = (why: string): never => {
    throw new Error(`Cannot use kernel ${kernel}: ${why}`);
  };
  const aliases = new Map<string, string>();
  for (const [, alias, type] of text.matchAll(/\balias\s+(\w+)\s*=\s*([^;]+);/g)) aliases.set(alias, type);
  const bindings: BindingInfo[] = [];
  for (const [, attributes, space, access, name, type] of text.matchAll(BINDING)) {
    const [group, binding] = ["group", "binding"].map(
      (attribute) => new RegExp(`@${attribute}\\s*\\(\\s*(\\d+)[ui]?\\s*,?\\s*\\)`).exec(attributes)?.[1],
    );
    if (group !== "0" || binding === undefined)
      refuse(`${name} is bound by ${attributes.trim()}, @group(0) @binding(NUMBER) expected`);
    if (space !== "storage" && space !== "uniform")
      refuse(`${name} is neither a storage buffer nor the uniform of Dims`);
    if (space === "uniform" && type.trim() !== "Dims")
      refuse(`uniform ${name} is ${type.trim()}, Dims expected`);
    bindings.push({
      binding: Number(binding),
      access: space === "uniform" ? "uniform" : access === "read_write" ? "read_write" : "read",
      name,
      element: space === "uniform" ? undefined : scalarOf(type, aliases),
    });
  }
  if (bindings.filter((b) => b.access === "uniform").length > 1)
    refuse("it has two uniforms, one of Dims expected");
  const body = /struct\s+Dims\s*\{([^}]*)\}/.exec(text)?.[1] ?? "";
  const fields = body.split(",").map((field) => field.trim());
  const dims = fields.filter(Boolean).map((field) => {
    const [, name, type] = /^(\w+)\s*:\s*(u32|i32|f32)$/.exec(field) ?? [];
    if (name === undefined) refuse(`Dims holds ${field}, only u32, i32 and f32 may stand there`);
    return { name, type } as DimsField;
  });
  if (dims.length > MOST_DIMS) refuse(`Dims has ${dims.length} fields, at most ${MOST_DIMS} are possible`);
  const entries = [...text.matchAll(/@compute\b[^{;]*?\bfn\s+(\w+)/g)].map((m) => m[1]);
  const overrides = new Map<string, Override>();
  const override = /(?:@id\s*\(\s*(\d+)[ui]?\s*\)\s*)?\boverride\s+(\w+)(?:\s*:\s*(\w+))?/g;
  for (const [, id, name, type] of text.matchAll(override)) overrides.set(name, { id: id ?? name, type });
  return { bindings, dims, entries, overrides };
}

/** The lines around `line` (1-based) with numbers, for error messages. */
export function excerpt(text: string, line: number, around = 3): string {
  const lines = text.split("\n");
  const from = Math.max(0, line - 1 - around);
  return lines
    .slice(from, line + around)
    .map((l, i) => `${from + i + 1 === line ? ">" : " "} ${String(from + i + 1).padStart(4)} ${l}`)
    .join("\n");
}

/** From a function's `(` in `text` to the end of its body. */
function bodyFrom(text: string, from: number): string {
  const brace = /[{}]/g;
  brace.lastIndex = from;
  let depth = 0;
  for (let m = brace.exec(text); m; m = brace.exec(text)) {
    depth += m[0] === "{" ? 1 : -1;
    if (depth === 0) return text.slice(from, m.index + 1);
  }
  return text.slice(from);
}

/**
 * Identifiers that `entry` reaches through the functions it calls. A local named as a binding counts as that binding. `text`
 * is read once for all entry points.
 */
export function reachableIn(text: string): (entry: string) => Set<string> {
  const starts = new Map<string, number>();
  for (const m of text.matchAll(/\bfn\s+(\w+)\s*\(/g)) starts.set(m[1], m.index + m[0].length - 1);
  const known = new Map<string, ReadonlySet<string>>();
  const namesIn = (name: string): ReadonlySet<string> => {
    const start = starts.get(name);
    if (start === undefined) return NONE;
    let names = known.get(name);
    if (!names) {
      // Not members, nor the ends of numbers: `wg.y` is no binding y. One call and no lookbehind: bodies are unrolled.
      const all = new Set(bodyFrom(text, start).match(/[.\d]?[A-Za-z_]\w*/g));
      names = new Set([...all].filter((id) => /^[A-Za-z_]/.test(id)));
      known.set(name, names);
    }
    return names;
  };
  return (entry) => {
    const seen = new Set<string>([entry]);
    for (const name of seen) for (const id of namesIn(name)) seen.add(id);
    return seen;
  };
}

const NONE: ReadonlySet<string> = new Set();

/**
 * From a kernel file to the text that the device compiles, and what TypeScript must know about it.
 *
 * Four steps, in this order: comments go; `#include "lib/x.wgsl"` is replaced by that file; `#unroll r 16 … #endunroll`
 * repeats its lines with `$r` = 0…15 (register tiles need constant indices); `${name}` and `#if ${name}` are filled in by
 * wgsl-preprocessor. That package never checks its values, so unknown and missing names throw here.
 */
import { wgsl } from "wgsl-preprocessor/wgsl-preprocessor.js";

/** What a `${name}` may stand for. */
export type Flags = Readonly<Record<string, string | number | boolean>>;

export interface BindingInfo {
  readonly name: string;
  readonly binding: number;
  readonly access: "read" | "read_write" | "uniform";
}

export interface DimsField {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
}

/** Bindings and the fields of `struct Dims`, read off expanded WGSL. */
export interface Interface {
  readonly bindings: readonly BindingInfo[];
  readonly dims: readonly DimsField[];
}

/** Text without comments: they may hold what looks like code. */
export const stripComments = (text: string) =>
  text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/[^\n]*/g, "");

function include(text: string, library: ReadonlyMap<string, string>, depth = 0): string {
  if (depth > 8) throw new Error("Cannot expand WGSL: #include nests more than 8 deep");
  return text.replace(/^[ \t]*#include "([^"]+)"[ \t]*$/gm, (_, name: string) => {
    const body = library.get(name);
    if (body === undefined)
      throw new Error(`Cannot expand WGSL: #include "${name}" names no file in kernels/`);
    return include(stripComments(body), library, depth + 1);
  });
}

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
      if (!Number.isInteger(times))
        throw new Error(`Cannot expand WGSL: #unroll ${name} ${count} is no whole number`);
      const pattern = new RegExp(`\\$${name}(?![a-tv-z0-9_])`, "g");
      return Array.from({ length: times }, (_, i) => body.replace(pattern, String(i))).join("");
    });
  } while (expanded !== before);
  return expanded;
}

/** Expands one kernel. `library` maps file names inside kernels/ to their text. */
export function expand(source: string, flags: Flags, library: ReadonlyMap<string, string>): string {
  const text = unroll(include(stripComments(source), library), flags);
  const pieces = text.split(/\$\{(\w+)\}/);
  const strings = pieces.filter((_, i) => i % 2 === 0);
  const names = pieces.filter((_, i) => i % 2 === 1);
  const values = names.map((name) => {
    if (!(name in flags))
      throw new Error(
        `Cannot expand WGSL: \${${name}} has no value (given: ${Object.keys(flags).join(", ") || "none"})`,
      );
    return flags[name];
  });
  return wgsl(Object.assign(strings, { raw: strings }) as TemplateStringsArray, ...values).replace(
    /\n\s*\n+/g,
    "\n",
  );
}

/** Reads bindings and `struct Dims { … }` (scalars only) off expanded WGSL. Group 0 is the only group. */
export function reflect(text: string): Interface {
  const bindings: BindingInfo[] = [];
  for (const m of text.matchAll(
    /@group\(0\)\s*@binding\((\d+)\)\s*var<\s*(\w+)\s*(?:,\s*(\w+)\s*)?>\s*(\w+)/g,
  )) {
    bindings.push({
      binding: Number(m[1]),
      access: m[2] === "uniform" ? "uniform" : m[3] === "read_write" ? "read_write" : "read",
      name: m[4],
    });
  }
  const body = /struct\s+Dims\s*\{([^}]*)\}/.exec(text)?.[1] ?? "";
  const dims = [...body.matchAll(/(\w+)\s*:\s*(\w+)/g)].map((m) => {
    if (m[2] !== "u32" && m[2] !== "i32" && m[2] !== "f32")
      throw new Error(`Cannot lay out Dims: ${m[1]} is ${m[2]}, only scalars may stand there`);
    return { name: m[1], type: m[2] } as DimsField;
  });
  return { bindings, dims };
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

/** Identifiers that `entry` reaches through the functions it calls. A local named as a binding counts as that binding. */
export function reachable(text: string, entry: string): Set<string> {
  const bodies = new Map<string, string>();
  for (const m of text.matchAll(/\bfn\s+(\w+)\s*\(/g)) {
    const open = text.indexOf("{", m.index);
    let depth = 0;
    let end = open;
    for (; end < text.length; end++) {
      if (text[end] === "{") depth++;
      else if (text[end] === "}" && --depth === 0) break;
    }
    bodies.set(m[1], text.slice(m.index, end + 1));
  }
  const seen = new Set<string>();
  const queue = [entry];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const body = bodies.get(name);
    if (body === undefined) continue;
    // Not what stands behind a dot: `wg.y` names no binding y.
    for (const id of body.matchAll(/(?<![.\w])[A-Za-z_]\w*/g)) {
      if (seen.has(id[0])) continue;
      seen.add(id[0]);
      queue.push(id[0]);
    }
  }
  return seen;
}

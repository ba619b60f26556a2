/**
 * The rules of operators. A kernel of the package has a twin, an entry in the table of launch choices and a record. An
 * exported function that runs a kernel on a tensor records a backward, of which notDifferentiable() is one, or says "no
 * gradient" in its comment or in that of its file; somebody can call it, and a record or a test holds it to its reference.
 */
import { posix } from "node:path";
import { blankComments, blankStrings, type Fault, type Files, lineAt } from "./text.ts";

/** A function or constant at the top level of a module. */
interface Declaration {
  readonly path: string;
  readonly name: string;
  readonly exported: boolean;
  readonly line: number;
  readonly comment: string;
  /** Without comments and strings, up to the next declaration. */
  readonly code: string;
}

const RECORDS = ["src/tensor/tape.ts record", "src/tensor/tape.ts recordAll"];
const keyOf = (path: string, name: string): string => `${path} ${name}`;

function declarations(path: string, text: string): Declaration[] {
  const code = blankStrings(blankComments(text));
  const head = /^(export\s+)?(?:async\s+)?(?:function|const|let|class|interface|type|enum)\s+(\w+)/gm;
  const heads = [...code.matchAll(head)];
  return heads.map((match, i) => ({
    path,
    name: match[2],
    exported: match[1] !== undefined,
    line: lineAt(text, match.index),
    comment: /\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*$/.exec(text.slice(0, match.index))?.[0] ?? "",
    code: code.slice(match.index, heads[i + 1]?.index),
  }));
}

/** What a module's imported names stand for. */
function importsOf(path: string, text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, names, from] of blankComments(text).matchAll(
    /import\s*\{([^}]*)\}\s*from\s*["'](\.[^"']+)["']/g,
  )) {
    for (const part of names.split(",")) {
      const [name, local = name] = part.trim().split(/\s+as\s+/);
      found.set(local, keyOf(posix.join(posix.dirname(path), from), name));
    }
  }
  return found;
}

/** The text between the first pair of parentheses: parameters. */
function parametersOf(code: string): string {
  const start = code.indexOf("(");
  let depth = 0;
  for (let i = start; i >= 0 && i < code.length; i++) {
    if (code[i] === "(") depth++;
    else if (code[i] === ")" && --depth === 0) return code.slice(start, i);
  }
  return "";
}

interface Graph {
  /** Does it run a kernel on a tensor of its caller's, itself or through others? */
  readonly runs: (declaration: Declaration) => boolean;
  /** Does it, and no record stands on the way? */
  readonly bare: (declaration: Declaration) => boolean;
}

function callGraph(files: Files): Graph {
  const all = [...files].flatMap(([path, text]) => declarations(path, text));
  const byKey = new Map(all.map((d) => [keyOf(d.path, d.name), d]));
  const imports = new Map([...files].map(([path, text]) => [path, importsOf(path, text)]));
  const callees = ({ path, name, code }: Declaration): string[] =>
    [...code.slice(code.indexOf(name) + name.length).matchAll(/(?<![.\w])(\w+)\s*\(/g)].map(
      ([, called]) => imports.get(path)?.get(called) ?? keyOf(path, called),
    );
  const runsItself = ({ path, code }: Declaration): boolean => {
    const twins = all.filter((d) => d.path === path && /\btwin\s*\(/.test(d.code)).map((d) => d.name);
    return new RegExp(`\\b(?:${["twin\\s*\\([^)]*\\)", ...twins].join("|")})\\s*\\.\\s*run\\s*\\(`).test(
      code,
    );
  };
  const search = (ends: (calls: readonly string[]) => boolean) => {
    const known = new Map<Declaration, boolean>();
    const visit = (d: Declaration): boolean => {
      const before = known.get(d);
      if (before !== undefined) return before;
      known.set(d, false); // a function that calls itself
      const calls = callees(d);
      // What is given no tensor makes one from nothing: full().
      if (ends(calls) || (d.exported && !/\bTensor\b/.test(parametersOf(d.code)))) return false;
      const next = calls.map((key) => byKey.get(key)).filter((each) => each !== undefined);
      const result = runsItself(d) || next.some(visit);
      known.set(d, result);
      return result;
    };
    return visit;
  };
  return { runs: search(() => false), bare: search((calls) => calls.some((call) => RECORDS.includes(call))) };
}

/** What a file or a declaration says of itself before its first line of code. */
const excuses = (comment: string): boolean => /\bno\s+(?:\*\s+)?gradient\b/i.test(comment);

const OPERATORS = "src/ops/mod.ts";
const LAUNCH = "src/gpu/launch.ts";

/** Kernels that have an entry in the table of launch.ts, by line. */
function launched(text: string): Map<string, number> {
  const code = blankComments(text);
  const table = /^const TABLE\b[^{]*\{$([\s\S]*?)^\}/m.exec(code);
  if (!table) return new Map();
  const start = table.index + table[0].indexOf(table[1]);
  // One level deep: what an entry holds is indented further, and "x.y" is that of one entry point.
  return new Map(
    [...table[1].matchAll(/^ {2}(\w+)(?=[:,(])/gm)].map((m) => [m[1], lineAt(text, start + m.index)]),
  );
}

/** Entry points of a kernel: those of the files that it includes among them. */
function entriesOf(files: Files, path: string): string[] {
  const text = blankComments(files.get(path) ?? "");
  const included = [...text.matchAll(/^\s*#include "([^"]+)"/gm)].flatMap((m) =>
    entriesOf(files, `kernels/${m[1]}`),
  );
  return [
    ...[...text.matchAll(/@compute\b(?:[^{;$]|\$\{\w+\})*?\bfn\s+(\w+)/g)].map((m) => m[1]),
    ...included,
  ];
}

/** Keys of the object that twin() is given beside the name: the entry points whose cost it declares. */
function costsOf(code: string, at: number): string[] {
  const open = code.indexOf("(", at);
  let depth = 0;
  let end = open;
  for (; end < code.length; end++) {
    if (code[end] === "(") depth++;
    else if (code[end] === ")" && --depth === 0) break;
  }
  // One level deep: what a cost itself holds is nested further.
  const given = code.slice(code.indexOf("{", open) + 1, end);
  let level = 0;
  let top = "";
  for (const sign of given) {
    if (/[({[]/.test(sign)) level++;
    else if (/[)}\]]/.test(sign)) level--;
    else if (level === 0) top += sign;
  }
  return [...top.matchAll(/(?:^|,)\s*(\w+)\s*(?=:|,|$)/g)].map((m) => m[1]);
}

/**
 * kernels/x.wgsl, twin("x", costs) in src/ops/x.ts or src/tensor/x.ts, an entry for x and src/records/x.ts come together, and
 * the costs are those of all entry points. A twin of another name, `a/x`, has its source beside it.
 */
export function wanted(files: Files): Fault[] {
  const faults: Fault[] = [];
  const entries = launched(files.get(LAUNCH) ?? "");
  const declared = new Map<string, { path: string; line: number }>();
  for (const [path, text] of files) {
    if (!/^src\/.*\.ts$/.test(path)) continue;
    for (const match of blankComments(text).matchAll(/\btwin\(\s*["'`]([^"'`/]*)["'`]/g)) {
      const [name, line] = [match[1], lineAt(text, match.index)];
      declared.set(name, { path, line });
      if (path !== `src/ops/${name}.ts` && path !== `src/tensor/${name}.ts`)
        faults.push({ path, line, rule: `twin("${name}") belongs in src/ops/${name}.ts` });
      if (!files.has(`kernels/${name}.wgsl`))
        faults.push({ path, line, rule: `twin("${name}") has no kernels/${name}.wgsl` });
      const costs = costsOf(blankStrings(blankComments(text)), match.index);
      const entries = [...new Set(entriesOf(files, `kernels/${name}.wgsl`))];
      for (const entry of entries.filter((each) => !costs.includes(each)))
        faults.push({ path, line, rule: `twin("${name}") declares no cost of its entry point ${entry}` });
      for (const cost of entries.length > 0 ? costs.filter((each) => !entries.includes(each)) : [])
        faults.push({
          path,
          line,
          rule: `twin("${name}") declares the cost of ${cost}, which its kernel has not`,
        });
    }
  }
  // Folders under kernels/ hold what kernels share.
  const kernels = [...files.keys()].flatMap((path) => /^kernels\/([^/]+)\.wgsl$/.exec(path)?.[1] ?? []);
  for (const name of new Set([...kernels, ...declared.keys()])) {
    const { path, line } = declared.get(name) ?? { path: `kernels/${name}.wgsl`, line: 1 };
    const fault = (rule: string) => faults.push({ path, line, rule });
    if (!declared.has(name)) fault(`has no twin("${name}") in src/ops/${name}.ts`);
    if (!entries.has(name)) fault(`has no entry ${name} in the table of ${LAUNCH}`);
    if (!files.has(`src/records/${name}.ts`)) fault(`has no record in src/records/${name}.ts`);
  }
  for (const [name, line] of entries)
    if (!files.has(`kernels/${name}.wgsl`))
      faults.push({ path: LAUNCH, line, rule: `the entry ${name} has no kernels/${name}.wgsl` });
  return faults;
}

/** What src/ops/mod.ts hands on, and what other files of src/ and tools/ import: the ways to call an operator. */
function reachable(files: Files): { exported: Set<string>; used: Set<string> } {
  const exported = new Set<string>();
  for (const [, names, from] of blankComments(files.get(OPERATORS) ?? "").matchAll(
    /export\s*\{([^}]*)\}\s*from\s*["'](\.[^"']+)["']/g,
  ))
    for (const name of names.split(",").map((part) => part.trim()))
      exported.add(keyOf(posix.join(posix.dirname(OPERATORS), from), name));
  const used = new Set<string>();
  for (const [path, text] of files)
    if (/^(?:src|tools)\/.*\.ts$/.test(path) && !path.startsWith("src/records/"))
      for (const key of importsOf(path, text).values()) used.add(key);
  return { exported, used };
}

export function operators(files: Files): Fault[] {
  const runsKernels = (path: string, text: string): boolean =>
    /^src\/ops\/[^/]+\.ts$/.test(path) ||
    (/^src\/tensor\/[^/]+\.ts$/.test(path) && /\btwin\s*\(/.test(blankStrings(blankComments(text))));
  const ops: Files = new Map([...files].filter(([path, text]) => runsKernels(path, text)));
  const { runs, bare } = callGraph(ops);
  const { exported, used } = reachable(files);
  const tests = [...files].filter(([path]) => /^test\/.*\.ts$/.test(path));
  const tested = new Set(tests.flatMap(([, text]) => blankStrings(blankComments(text)).match(/\w+/g) ?? []));
  return [...ops].flatMap(([path, text]) => {
    const own = declarations(path, text).filter((d) => d.exported && runs(d));
    const faults: Fault[] = [];
    const record = `src/records/${posix.basename(path)}`;
    const recorded = blankComments(files.get(record) ?? "");
    const header = /^\s*\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*\nimport\b/.exec(text)?.[0] ?? "";
    for (const d of own) {
      const fault = (rule: string) => faults.push({ path, line: d.line, rule: `${d.name}() ${rule}` });
      const key = keyOf(path, d.name);
      if (bare(d) && !excuses(header) && !excuses(d.comment))
        fault("runs a kernel and records no backward: record() one, or notDifferentiable()");
      if (!exported.has(key) && !used.has(key)) fault(`runs a kernel, and ${OPERATORS} does not export it`);
      if (recorded.includes(`"${d.name}"`)) continue;
      if (exported.has(key)) fault(`has no record in ${record}`);
      else if (!tested.has(d.name)) fault(`runs a kernel, and no record in ${record} and no test names it`);
    }
    return faults;
  });
}

/**
 * The rule of src/ops/, and of what runs a kernel in src/tensor/: an exported function that runs a kernel on a tensor records a backward, of which notDifferentiable() is
 * one, or says "no gradient" in its comment or in that of its file. And every twin has a test.
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

const RECORD = "src/tensor/tape.ts record";
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
  return { runs: search(() => false), bare: search((calls) => calls.includes(RECORD)) };
}

/** What a file or a declaration says of itself before its first line of code. */
const excuses = (comment: string): boolean => /\bno\s+(?:\*\s+)?gradient\b/i.test(comment);

export function operators(files: Files): Fault[] {
  const runsKernels = (path: string, text: string): boolean =>
    /^src\/ops\/[^/]+\.ts$/.test(path) ||
    (/^src\/tensor\/[^/]+\.ts$/.test(path) && /\btwin\s*\(/.test(blankStrings(blankComments(text))));
  const ops: Files = new Map([...files].filter(([path, text]) => runsKernels(path, text)));
  const { runs, bare } = callGraph(ops);
  const tests = [...files].filter(([path]) => /^test\/.*\.ts$/.test(path));
  const tested = new Set(tests.flatMap(([, text]) => blankStrings(blankComments(text)).match(/\w+/g) ?? []));
  return [...ops].flatMap(([path, text]) => {
    const own = declarations(path, text).filter((d) => d.exported && runs(d));
    if (own.length === 0) return [];
    const faults: Fault[] = [];
    const name = posix.basename(path, ".ts");
    if (!files.get(`test/${name}.test.ts`)?.includes(`${path.slice("src".length)}"`))
      faults.push({ path, line: 1, rule: `has no test/${name}.test.ts that imports it` });
    const header = /^\s*\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*\nimport\b/.exec(text)?.[0] ?? "";
    for (const d of own) {
      const fault = (rule: string) => faults.push({ path, line: d.line, rule: `${d.name}() ${rule}` });
      if (bare(d) && !excuses(header) && !excuses(d.comment))
        fault("runs a kernel and records no backward: record() one, or notDifferentiable()");
      if (!tested.has(d.name)) fault("runs a kernel and no test names it");
    }
    return faults;
  });
}

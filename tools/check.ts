/**
 * Checks the order of the house: floors, GPU types, the host, what belongs to an operator, cycles, forbidden words, the
 * lock file. Prints file:line and the rule that is broken, with status 1, or else the floors.
 *
 *   npm run check
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { object, parse, record } from "../src/io/schema.ts";
import { operators, wanted } from "./check/operators.ts";
import { blankComments, blankStrings, type Fault, type Files, lineAt } from "./check/text.ts";
import { isMain } from "./cli.ts";

/** The folders of src/ by floor: the engine, and on it the application, speech. Import only downward, or beside. */
export const FLOORS: Record<string, number> = {
  ...{
    host: 0,
    io: 0,
    gpu: 1,
    page: 1,
    tensor: 2,
    ops: 3,
    nn: 4,
    records: 4,
    profile: 4,
    tune: 4,
    workshop: 4,
    validate: 4,
    train: 5,
    models: 5,
  },
  ...{
    "speech/system": 6,
    "speech/corpora": 7,
    "speech/synthetic": 7,
    "speech/predict": 7,
    "speech/validate": 7,
    "speech/metrics": 8,
  },
  ...{ "speech/baselines": 9, "speech/recipes": 8, "speech/training": 9, "speech/evaluate": 9 },
  "speech/crossvalidate": 10,
};
/** Files that stand in src/ itself, mod.ts above all. */
const ROOF = 11;

interface Import {
  from: string;
  /** Path from the root, or the bare name of a package. */
  to: string;
  line: number;
  typeOnly: boolean;
}

/** Every fault in these files, ordered by path and line. */
export function check(files: Files): Fault[] {
  const code = new Map([...files].filter(([path]) => /\.(ts|mjs)$/.test(path)));
  const imports = [...code].flatMap(([path, text]) => importsOf(path, text));
  const faults = [
    ...floors(imports),
    ...hostUse(imports),
    ...gpuTypes(code),
    ...wanted(files),
    ...operators(files),
    ...workgroupVectors(files),
    ...cycles(imports),
    ...words(files),
    ...lock(files.get(LOCK)),
  ];
  return faults.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.line - b.line));
}

const IMPORT =
  /^[ \t]*(?:import|export)\s+(type\s)?[^;"'`=]*?\bfrom\s*["']([^"']+)["']|^[ \t]*import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm;

function importsOf(path: string, text: string): Import[] {
  return [...blankComments(text).matchAll(IMPORT)].map((match) => {
    const target = match[2] ?? match[3] ?? match[4];
    const to = target.startsWith(".") ? posix.join(posix.dirname(path), target) : target;
    return { from: path, to, line: lineAt(text, match.index), typeOnly: match[1] !== undefined };
  });
}

/** The floor of a file in src/, undefined elsewhere. */
function floorOf(path: string): number | undefined {
  const folder = /^src\/(?:(.*)\/)?[^/]*$/.exec(path);
  return folder ? (FLOORS[folder[1]] ?? ROOF) : undefined;
}

function floors(imports: Import[]): Fault[] {
  return imports.flatMap(({ from, to, line }) => {
    const here = floorOf(from);
    if (here === undefined) return [];
    if (/^(test|tools|bench)\//.test(to))
      return [{ path: from, line, rule: `src imports ${to}: nothing imports test, tools or bench` }];
    const there = floorOf(to);
    if (there === undefined || there <= here) return [];
    return [
      { path: from, line, rule: `floor ${here} imports ${to} on floor ${there}: import only downward` },
    ];
  });
}

function hostUse(imports: Import[]): Fault[] {
  const rule =
    "only src/host/mod.ts, test, bench and tools import host/current.ts: take a Device or a Host instead";
  return imports
    .filter(
      ({ from, to }) => to === "src/host/current.ts" && from.startsWith("src/") && from !== "src/host/mod.ts",
    )
    .map(({ from, line }) => ({ path: from, line, rule }));
}

function gpuTypes(code: Files): Fault[] {
  return [...code]
    .filter(([path]) => path.startsWith("src/") && !/^src\/(host|gpu)\//.test(path))
    .flatMap(([path, text]) =>
      [...blankStrings(blankComments(text)).matchAll(/\bGPU(?:[A-Z]\w*)?\b/g)].map((match) => ({
        path,
        line: lineAt(text, match.index),
        rule: `${match[0]}: only host/ and gpu/ name WebGPU types`,
      })),
    );
}

/** Metal and D3D write a whole vector where WGSL names a component: threads that share one would undo each other's. */
function workgroupVectors(files: Files): Fault[] {
  return [...files].flatMap(([path, text]) => {
    if (!/^kernels\/.*\.wgsl$/.test(path)) return [];
    const code = blankComments(text);
    const names = [...code.matchAll(/var<workgroup>\s+(\w+)\s*:[^;]*\bvec\d/g)].map((match) => match[1]);
    return names.flatMap((name) => {
      const store = new RegExp(`\\b${name}\\s*\\[.*\\](?:\\s*\\[.*\\]|\\.[xyzw])\\s*[-+*/]?=(?!=)`, "g");
      return [...code.matchAll(store)].map((match) => ({
        path,
        line: lineAt(text, match.index),
        rule: `writes one component of ${name}: store vectors of workgroup memory whole`,
      }));
    });
  });
}

/** One fault for each import that closes a circle. Types are erased, so they close none. */
function cycles(imports: Import[]): Fault[] {
  const edges = new Map<string, Import[]>();
  for (const each of imports) {
    if (each.typeOnly) continue;
    edges.set(each.from, [...(edges.get(each.from) ?? []), each]);
  }
  const faults: Fault[] = [];
  const done = new Set<string>();
  const trail: string[] = [];
  const visit = (path: string) => {
    trail.push(path);
    for (const { to, line } of edges.get(path) ?? []) {
      const begin = trail.indexOf(to);
      if (begin >= 0)
        faults.push({ path, line, rule: `import cycle: ${[...trail.slice(begin), to].join(" → ")}` });
      else if (!done.has(to)) visit(to);
    }
    trail.pop();
    done.add(path);
  };
  for (const path of edges.keys()) if (!done.has(path)) visit(path);
  return faults;
}

const WORDS: [pattern: RegExp, rule: string][] = [
  [
    /\b(?:registry|deb|archive|security|mirrors?|ports|packages|files|index)\.[a-z0-9-]+\.(?:org|com|io|dev|net)\b|\b(?:pypi|jsr|crates|npmjs)\.(?:org|io|com)\b/,
    "names the host of a package registry",
  ],
  [/(?<![\w.:~/-])\/(?:root|home|work|tmp|mnt|Users)\/[\w.-]+/, "names an absolute path of one machine"],
];

function words(files: Files): Fault[] {
  return [...files].flatMap(([path, text]) =>
    text.split("\n").flatMap((content, index) =>
      WORDS.flatMap(([pattern, rule]) => {
        const found = pattern.exec(content)?.[0];
        return found === undefined ? [] : [{ path, line: index + 1, rule: `"${found}" ${rule}` }];
      }),
    ),
  );
}

const LOCK = "package-lock.json";

const lockSchema = object({
  packages: record(
    object({ optionalDependencies: v.optional(record(v.string())), resolved: v.optional(v.string()) }),
  ),
});

/**
 * The lock file holds for every platform and every mirror. `npm ci` refuses one that leaves out an optional package,
 * and npm leaves out those of other platforms where it writes the lock from an existing node_modules.
 */
function lock(text: string | undefined): Fault[] {
  if (text === undefined) return [];
  const { packages } = parse(lockSchema, JSON.parse(text), LOCK);
  return Object.entries(packages).flatMap(([path, { optionalDependencies = {}, resolved = "" }]) => {
    const line = lineAt(text, text.indexOf(`${JSON.stringify(path)}: {`));
    const missing = Object.keys(optionalDependencies).filter((name) => !entryFor(name, path, packages));
    const rules = missing.map(
      (name) =>
        `lacks ${name}: delete node_modules and the lock, then run npm install --package-lock-only --ignore-scripts`,
    );
    if (resolved.startsWith("http")) rules.push(`names the mirror that ${path} came from`);
    return rules.map((rule) => ({ path: LOCK, line, rule }));
  });
}

/** Looks for a package where Node does: in the node_modules of the one that wants it, then in those around it. */
function entryFor(name: string, wantedBy: string, packages: Readonly<Record<string, unknown>>): boolean {
  for (let folder = wantedBy; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf("/node_modules/")))) {
    if (`${folder}/node_modules/${name}`.replace(/^\//, "") in packages) return true;
    if (folder === "") return false;
  }
}

/** A line for each floor, the roof first. */
export function showFloors(): string[] {
  const lines: string[] = [`${ROOF}  src/mod.ts`];
  for (let floor = ROOF - 1; floor >= 0; floor--) {
    const folders = Object.keys(FLOORS).filter((folder) => FLOORS[folder] === floor);
    lines.push(`${String(floor).padStart(String(ROOF).length)}  ${folders.join(", ")}`);
  }
  return lines;
}

/** The text files that git tracks or would track. */
function projectFiles(root: string): Files {
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const paths = execFileSync("git", args, { cwd: root, encoding: "utf8" }).split("\0").filter(Boolean);
  const files: Files = new Map();
  for (const path of new Set(paths)) {
    if (!existsSync(`${root}/${path}`)) continue; // deleted, and not yet committed
    const bytes = readFileSync(`${root}/${path}`);
    if (bytes.length < 2 ** 20 && !bytes.includes(0)) files.set(path, bytes.toString("utf8"));
  }
  return files;
}

if (isMain(import.meta)) {
  const files = projectFiles(fileURLToPath(new URL("..", import.meta.url)));
  const faults = check(files);
  for (const { path, line, rule } of faults) console.log(`${path}:${line}: ${rule}`);
  if (faults.length === 0) console.log(showFloors().join("\n"));
  console.log(faults.length === 0 ? `check: ${files.size} files in order` : `check: ${faults.length} faults`);
  process.exit(faults.length === 0 ? 0 : 1);
}

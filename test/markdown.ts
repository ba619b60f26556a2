/** What the tests hold a page of Markdown to: its commands, options, files, scripts and Python are real. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse, type Verb } from "../tools/cli.ts";
import { availableVerbs } from "../tools/verbs.ts";
import { root } from "./package.ts";

export interface Block {
  readonly language: string;
  readonly text: string;
}

export interface Page {
  /** From the root. */
  readonly path: string;
  readonly text: string;
  /** Code blocks of a language alone; those that quote a file name it beside that. */
  readonly blocks: readonly Block[];
  /** Command lines in blocks and in the text, without comments, continued lines joined. */
  readonly commands: readonly string[];
}

export function readPage(path: string): Page {
  const text = readFileSync(join(root, path), "utf8");
  const blocks = [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({
    ...{ language, text: code },
  }));
  const lines = [
    ...blocksOf({ blocks }, "sh").flatMap((code) => code.replaceAll("\\\n", " ").split("\n")),
    ...[...text.replace(/^```[\s\S]*?^```$/gm, "").matchAll(/`([^`]+)`/g)].map((match) => match[1]),
  ];
  const commands = lines
    .map((line) => line.replace(/\s#.*/, "").replace(/\s+/g, " ").trim())
    .filter((line) => /^(npx|npm|node|deno|python|wavegate|tools|test|\.ci)\b/.test(line.replace("./", "")));
  return { path, text, blocks, commands };
}

/** The code of all blocks of a language. */
export const blocksOf = ({ blocks }: Pick<Page, "blocks">, language: string): string[] =>
  blocks.filter((block) => block.language === language).map(({ text }) => text);

/** The arguments of every command that begins with one of these. */
export const argumentsOf = ({ commands }: Page, ...beginnings: string[]): string[][] =>
  commands.flatMap((line) => {
    const begin = beginnings.find((words) => line.startsWith(`${words} `));
    return begin === undefined ? [] : [line.slice(begin.length + 1).split(" ")];
  });

/** Every verb, by its name. */
export async function verbs(): Promise<Map<string, Verb>> {
  const found = new Map<string, Verb>();
  for (const [name] of availableVerbs())
    found.set(name, ((await import(`../tools/${name}.ts`)) as { verb: Verb }).verb);
  return found;
}

/** The verbs that a page names, each with options and a number of operands that it takes, and files that there are. */
export function checkVerbs(page: Page, known: ReadonlyMap<string, Verb>): string[] {
  const given = argumentsOf(page, "npx wavegate", "wavegate").filter(
    ([name]) => !/^(VERB|--help)$/.test(name),
  );
  for (const [name, ...args] of given) {
    const verb = known.get(name);
    assert.ok(verb, `${page.path}: there is no wavegate ${name}`);
    if (args.length > 0 && !args.includes("--help")) assert.notEqual(parse(verb, args), "help", name);
    const written = args.filter((arg) => /^(weights|test)\//.test(arg));
    for (const path of written) assert.ok(existsSync(join(root, path)), `${page.path}: ${path}`);
  }
  return [...new Set(given.map(([name]) => name))];
}

/** The scripts of npm and the files of the project that a page names; the files also as targets of its links. */
export function checkNames(page: Page): { scripts: string[]; files: string[] } {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const named = [
    ...argumentsOf(page, "npm run").map(([name]) => name),
    ...page.commands.filter((line) => /^npm test\b/.test(line)).map(() => "test"),
  ];
  for (const name of named) assert.ok(name in scripts, `${page.path}: npm run ${name}`);
  const files = page.commands.flatMap(
    (line) => line.match(/(?:^|(?<= ))(?:tools|test|weights)\/[\w./-]+/g) ?? [],
  );
  for (const path of files) assert.ok(existsSync(join(root, path)), `${page.path}: ${path}`);
  const links = [...page.text.matchAll(/\]\((?!\w+:|#)([^)#]+)[^)]*\)/g)].map(([, target]) => target);
  for (const target of links)
    assert.ok(existsSync(join(root, dirname(page.path), target)), `${page.path}: ${target}`);
  return { scripts: named, files };
}

/** The options that a page gives tools/reference.py. */
export function checkReference(page: Page): string[] {
  const source = readFileSync(join(root, "tools/reference.py"), "utf8");
  const given = argumentsOf(page, "python tools/reference.py").flat();
  for (const option of given.filter((arg) => arg.startsWith("--")))
    assert.ok(source.includes(`"${option}"`), `${page.path}: ${option}`);
  return given;
}

/** Blocks of Python parse, and import the classes that they name. */
export function checkPython(page: Page): void {
  for (const text of blocksOf(page, "python")) {
    for (const name of text.match(/\b[A-Z]\w+(?=\.)/g) ?? [])
      assert.match(text, new RegExp(`^from \\w+ import .*\\b${name}\\b`, "m"));
    const done = spawnSync("python3", ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], {
      input: text,
    });
    // A machine without Python has checked the names alone.
    if (done.error === undefined) assert.equal(done.status, 0, String(done.stderr));
  }
}

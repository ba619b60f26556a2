/** Every snippet and command of README.md, from a checkout and from an installed package. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { parse } from "../tools/cli.ts";
import { CORPUS_PRESETS } from "../src/speech/synthetic/plan.ts";
import { PRESETS } from "../src/speech/recipes/presets.ts";
import { FLOORS } from "../tools/check.ts";
import { SUMMARIES } from "../tools/summaries.ts";
import { availableVerbs } from "../tools/verbs.ts";
import {
  argumentsOf,
  blocksOf,
  checkNames,
  checkPython,
  checkReference,
  checkVerbs,
  readPage,
  verbs as verbsByName,
} from "./markdown.ts";
import { installed, root, run, runScript } from "./package.ts";

const underDeno = "Deno" in globalThis;
const page = readPage("README.md");
const readme = page.text;

const app = installed();

const known = await verbsByName();
const verbs = [...known.values()];

test("README names every verb, and gives none an option or a number of operands that it does not take", () => {
  assert.deepEqual(
    checkVerbs(page, known).sort(),
    availableVerbs()
      .map(([name]) => name)
      .sort(),
  );
});

test("README's table of verbs is word for word what wavegate --help and the verbs' own say", () => {
  const rows = [...readme.matchAll(/^\| (`\w+` \| .*) \|$/gm)].map(([, row]) => row);
  const defined = verbs.map(({ name, summary, example }) => `\`${name}\` | ${summary} | \`npx ${example}\``);
  assert.deepEqual(rows, defined);
  assert.deepEqual(
    availableVerbs(),
    verbs.map(({ name, summary }) => [name, summary]),
  );
  assert.deepEqual(
    Object.keys(SUMMARIES),
    verbs.map(({ name }) => name),
  );
  for (const { name, example, ...verb } of verbs) {
    // Quoted for a shell, which takes the quotes away.
    const [, ...args] = example.replaceAll("'", "").split(" ");
    assert.equal(args.shift(), name);
    assert.notEqual(parse({ name, example, ...verb }, args), "help");
  }
});

test("README tells of options in the words of --help, and of none that there is not", () => {
  const given = verbs.flatMap((verb) => Object.entries(verb.options));
  const names = new Set([...given.map(([name]) => name), "json", "help", "node", "deno", "jobs"]);
  const mentions = readme.matchAll(/`--([\w-]+)(?:\s([^`\s]+))?[^`]*`(?:: ([^.]+?)\.)?/g);
  let repeated = 0;
  for (const [, name, value, told] of mentions) {
    assert.ok(names.has(name), `--${name}`);
    if (told === undefined) continue;
    // Verbs may have options of one name.
    const helps = given
      .filter(([other, option]) => other === name && option.value === value)
      .map(([, { help, default: preset }]) => (preset === undefined ? help : `${help} (${preset})`));
    assert.ok(
      helps.includes(told.replace(/\s+/g, " ")),
      `--${name}: "${told}" is none of ${helps.join("; ")}`,
    );
    repeated++;
  }
  assert.equal(repeated, 3);
});

test("README's figures are those of the presets, and its floors those that are checked", () => {
  assert.ok(
    readme.includes(
      `--out corpus/mini\` speaks a stand-in (${CORPUS_PRESETS.mini.clips.toLocaleString("en")} clips;`,
    ),
  );
  for (const { checkpoints } of Object.values(PRESETS)) assert.equal(checkpoints.minutes, 10);
  assert.ok(readme.includes("every 10 minutes (`--set checkpoints.minutes="));
  const house = [...readme.matchAll(/^( {2,4})(\w+)\/ +(\d+) {2}\w/gm)].map(
    ([, indent, name, floor]) => [`${indent.length === 4 ? "speech/" : ""}${name}`, Number(floor)] as const,
  );
  assert.deepEqual(Object.fromEntries(house), FLOORS);
});

test("README names scripts and files that there are", () => {
  const { scripts, files } = checkNames(page);
  assert.ok(scripts.length > 5);
  assert.ok(files.length > 5);
});

test("README gives tools/reference.py the options that it has", () => {
  assert.ok(checkReference(page).includes("--model"));
});

test("README's Python is Python, and imports what it names", () => {
  checkPython(page);
});

/** Runs each snippet of the language `ts` as `a.EXTENSION` in a folder. */
function runSnippets(folder: string, extension: string, ...loader: string[]): string[] {
  return blocksOf(page, "ts").map((text) => {
    const file = join(folder, `a.${extension}`);
    writeFileSync(file, text);
    return underDeno
      ? runScript(folder, file)
      : run(loader.length === 0 ? folder : root, process.execPath, ...loader, file);
  });
}

/** What the two snippets print: a loss and a gradient, then words and an emotion. */
function assertOutputs(outputs: string[]): void {
  assert.equal(outputs.length, 2);
  assert.match(outputs[0], /Float32Array\(1\) \[\s*1\.386/);
  assert.match(outputs[0], /Float32Array\(12\)/);
  assert.match(outputs[1], /^I KNOW THAT HE \w+ YOU happy \{/);
}

test("README's snippets run in a checkout", () => {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const folder = mkdtempSync(join(root, ".cache", "readme-"));
  try {
    assertOutputs(runSnippets(folder, "ts", "--import", "tsx"));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("README's snippets run where the package is installed", () => {
  assertOutputs(runSnippets(app, "mjs"));
});

// The command is a program of Node's.
if (!underDeno) {
  const cheap = argumentsOf(page, "npx wavegate").filter((args) =>
    args.some((arg) => arg.startsWith("weights/")),
  );
  const bin = (folder: string) => join(folder, "tools/wavegate.mjs");

  test("README's commands on weights/ run in a checkout", () => {
    assert.deepEqual(cheap.map(([name]) => name).sort(), ["inspect", "predict", "validate"]);
    for (const args of cheap) assert.notEqual(run(root, process.execPath, bin(root), ...args), "");
  });

  test("README's commands on weights/ run where the package is installed", () => {
    const home = join(app, "node_modules/wavegate");
    for (const args of cheap) {
      const moved = args.map((arg) => arg.replace(/^weights\//, "node_modules/wavegate/weights/"));
      assert.notEqual(run(app, process.execPath, bin(home), ...moved), "");
    }
  });

  test("corpus make in an installed package names the synthesiser to install", () => {
    const [args] = argumentsOf(page, "npx wavegate").filter(([name]) => name === "corpus");
    const home = join(app, "node_modules/wavegate");
    const done = spawnSync(process.execPath, [bin(home), ...args], { cwd: app, encoding: "utf8" });
    assert.equal(done.status, 1);
    assert.equal(
      done.stderr,
      "wavegate corpus: Cannot speak: the synthesiser is not installed; run npm install --no-save @echogarden/espeak-ng-emscripten\n",
    );
    assert.ok(!existsSync(join(app, args[args.indexOf("--out") + 1])));
  });

  test("wavegate in a checkout without packages says in one line what to run", () => {
    const bare = join(app, "bare");
    mkdirSync(join(bare, "tools"), { recursive: true });
    for (const name of ["tools/verbs.ts", "tools/wavegate.mjs"])
      writeFileSync(join(bare, name), readFileSync(join(root, name)));
    const done = spawnSync(process.execPath, [bin(bare)], { cwd: bare, encoding: "utf8" });
    assert.equal(done.status, 1);
    assert.equal(
      done.stderr,
      "wavegate: Cannot run a checkout without its npm packages: run node tools/setup.mjs first\n",
    );
  });
}

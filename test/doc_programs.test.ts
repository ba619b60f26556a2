/**
 * The pages in docs/: every program in them runs in a checkout and prints what the page says, every command is one that there
 * is, and the training run of docs/training.md goes on to the bit however it is stopped.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import {
  blocksOf,
  checkNames,
  checkPython,
  checkReference,
  checkVerbs,
  type Page,
  readPage,
  verbs,
} from "./markdown.ts";
import { root, run } from "./package.ts";

const underDeno = "Deno" in globalThis;
const pages = readdirSync(join(root, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => readPage(`docs/${name}`));
const known = await verbs();

mkdirSync(join(root, ".cache"), { recursive: true });
const folder = mkdtempSync(join(root, ".cache", "docs-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
// The pages show what is printed where nothing is remembered: no ceilings, no tuning.
process.env.MESA_SHADER_CACHE_DIR ??= process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
process.env.XDG_CACHE_HOME = join(folder, "cache");

/** How this runtime runs a program of a checkout, from its root. */
function command(text: string, ...args: string[]): string[] {
  const file = join(mkdtempSync(join(folder, "program-")), "a.ts");
  writeFileSync(file, text);
  const runtime = underDeno ? ["run", "-A", "--no-check", "--config", "deno.json"] : ["--import", "tsx"];
  return [...runtime, file, ...args];
}

/** The programs and commands of a page whose output it shows in the block behind them. */
const shownOutputs = ({ blocks }: Page) =>
  blocks.flatMap(({ language, text }, i) => {
    const next = blocks[i + 1];
    return language !== "text" && next?.language === "text" ? [{ language, text, output: next.text }] : [];
  });

/** Lines as the page shows them, in which … stands for what differs from run to run. */
function assertPrinted(printed: string, expected: string): void {
  const pattern = expected
    .trimEnd()
    .split("…")
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  assert.match(printed.trimEnd(), new RegExp(`^${pattern.join("[\\s\\S]*?")}$`));
}

/** That every line of the page is printed, whatever its numbers, their columns and the size of their units. */
function assertLines(printed: string, expected: string): void {
  const lines = (text: string) =>
    text
      .trimEnd()
      .split("\n")
      .map((line) =>
        line
          .replace(/\d+(?:\.\d+)?(?:e[-+]\d+)?/g, "#")
          .replace(/# (?:µs|ms|s)\b/g, "# s")
          .replace(/# [kMGT](B|FLOP)\/s/g, "# $1/s")
          .replace(/\s+/g, " ")
          .trim(),
      );
  const there = lines(printed);
  for (const line of lines(expected)) {
    const parts = line.split("…");
    const holds = (other: string) => parts.every((part) => other.includes(part.trim()));
    assert.ok(there.some(holds), `no line like "${line}" in:\n${printed}`);
  }
}

for (const page of pages) {
  test(`${page.path} names commands, options, scripts and files that there are, in under 150 lines`, () => {
    assert.ok(page.text.split("\n").length <= 150);
    checkVerbs(page, known);
    checkNames(page);
    checkReference(page);
    checkPython(page);
    // Of esbuild and of Slurm, and of all verbs and scripts.
    const others = ["bundle", "requeue"];
    const common = ["json", "help", "node", "deno", "jobs", "rounds", ...others];
    const options = new Set([...common, ...[...known.values()].flatMap((verb) => Object.keys(verb.options))]);
    const source = readFileSync(join(root, "tools/reference.py"), "utf8");
    for (const [, name] of page.text.matchAll(/`--([\w-]+)[^`]*`/g))
      assert.ok(options.has(name) || source.includes(`"--${name}"`), `${page.path}: --${name}`);
  });

  const programs = blocksOf(page, "ts");
  // The last one of training.md is a run of its own, below.
  for (const [n, text] of programs.entries())
    if (page.path !== "docs/training.md" || n < programs.length - 1)
      test(`program ${n + 1} of ${page.path} prints what the page says`, () => {
        const printed = run(root, process.execPath, ...command(text));
        const output = shownOutputs(page).find((shown) => shown.text === text)?.output;
        assert.ok(output !== undefined, "the page does not say what it prints");
        assertPrinted(printed, output);
      });

  // The command is a program of Node's.
  if (!underDeno)
    for (const { text, output } of shownOutputs(page).filter(({ language }) => language === "sh"))
      test(`${text.trim()} prints the lines of ${page.path}`, () => {
        const [, , ...args] = text.trim().split(/\s+/);
        assert.match(text, /^npx wavegate [^\n]*\n$/);
        assertLines(run(root, process.execPath, join(root, "tools/wavegate.mjs"), ...args), output);
      });
}

/** Runs the training program; `stop` may kill it after any line that it prints. */
async function train(text: string, out: string, stop?: { after: string; signal: NodeJS.Signals }) {
  const child = spawn(process.execPath, command(text, out), { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let [printed, errors] = ["", ""];
  child.stderr.setEncoding("utf8").on("data", (piece: string) => {
    errors += piece;
  });
  child.stdout.setEncoding("utf8").on("data", (piece: string) => {
    printed += piece;
    // Once: a second Ctrl-C ends the process at once.
    if (stop && !child.killed && printed.includes(stop.after)) child.kill(stop.signal);
  });
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, printed, errors };
}

const training = pages.find(({ path }) => path === "docs/training.md");
const program = training && blocksOf(training, "ts").at(-1);

/** What a run came to: its tensors, and its figures without those of time and memory. */
function results(out: string) {
  const metrics = readFileSync(`${out}/metrics.jsonl`, "utf8").trimEnd().split("\n");
  return {
    model: readFileSync(`${out}/model/model.safetensors`, "base64"),
    metrics: metrics.map((line) => {
      const { seconds, bytes, buffers, bind_groups, ...figures } = JSON.parse(line);
      return figures;
    }),
  };
}

test("the run of docs/training.md learns, and goes on to the bit after a kill and after Ctrl-C", async () => {
  assert.ok(training && program);
  const unbroken = join(folder, "unbroken");
  const whole = await train(program, unbroken);
  assert.equal(whole.status, 0, whole.errors);
  const output = shownOutputs(training).find(({ text }) => text === program)?.output;
  assertPrinted(whole.printed, output ?? "");

  const broken = join(folder, "broken");
  const killed = await train(program, broken, { after: "epoch 2:", signal: "SIGKILL" });
  assert.notEqual(killed.status, 0);
  const stopped = await train(program, broken, { after: "epoch 4:", signal: "SIGINT" });
  // Deno says of a child that a signal ended it where it was only sent one: not the status tells.
  assert.match(
    stopped.printed,
    /^goes on from epoch \d\n[\s\S]*\nstopped: the same command goes on\n$/,
    stopped.errors,
  );
  const rest = await train(program, broken);
  assert.equal(rest.status, 0, rest.errors);
  assert.match(rest.printed, /^goes on from epoch \d\n/);
  assert.deepEqual(results(broken), results(unbroken));
});

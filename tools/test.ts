/**
 * Runs test/*.test.ts under Node, then under Deno with its own WebGPU.
 *
 *   npm test                   both
 *   npm test -- --node         one of them (--deno)
 *   npm test -- matmul shape   files whose name contains one of the words
 */
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { formatSeconds } from "./format.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Under Node a process a file: half the cores, since a CPU adapter uses the rest. Deno runs all in one process. */
const concurrency = Math.max(1, Math.min(4, Math.floor(availableParallelism() / 2)));
const RUNTIMES = {
  node: [
    "--enable-source-maps",
    "--import",
    "tsx",
    "--test",
    "--test-reporter=spec",
    `--test-concurrency=${concurrency}`,
  ],
  // bin.cjs finds the executable even where npm was told to run no install scripts.
  deno: ["node_modules/deno/bin.cjs", "test", "--allow-all", "--no-check"],
};
type Runtime = keyof typeof RUNTIMES;

interface Outcome {
  runtime: Runtime;
  passed: number;
  failed: number;
  skipped: number;
  seconds: number;
  ok: boolean;
}

function testFiles(words: string[]): string[] {
  return readdirSync(`${root}test`)
    .filter((name) => name.endsWith(".test.ts"))
    .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
    .sort()
    .map((name) => `test/${name}`);
}

/** Runs the files, showing the output as it comes, and reads the totals at its end. */
async function run(runtime: Runtime, files: string[]): Promise<Outcome> {
  const start = performance.now();
  const env = { ...process.env, ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }) };
  const args = [...RUNTIMES[runtime], ...files];
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
  let tail = "";
  child.stdout.on("data", (chunk: Buffer) => {
    process.stdout.write(chunk);
    tail = (tail + chunk.toString()).slice(-20_000);
  });
  const status = await new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? 1)));
  const seconds = (performance.now() - start) / 1000;
  const counts = totals(runtime, tail);
  return { runtime, ...counts, seconds, ok: status === 0 && counts.failed === 0 && counts.passed > 0 };
}

function totals(runtime: Runtime, tail: string) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
  const plain = tail.replace(/\x1b\[[\d;]*m/g, "");
  const last = (pattern: RegExp) => Number([...plain.matchAll(pattern)].at(-1)?.[1] ?? 0);
  return runtime === "node"
    ? {
        passed: last(/^. pass (\d+)$/gm),
        failed: last(/^. fail (\d+)$/gm),
        skipped: last(/^. skipped (\d+)$/gm),
      }
    : {
        passed: last(/\| (\d+) passed/g),
        failed: last(/\| (\d+) failed/g),
        skipped: last(/\| (\d+) ignored/g),
      };
}

function summary({ runtime, passed, failed, skipped, seconds, ok }: Outcome): string {
  const verdict = ok ? "ok    " : "FAILED";
  const rest = [`${failed} failed`, skipped ? `${skipped} skipped` : ""].filter(Boolean).join(", ");
  return `${verdict} ${runtime}: ${passed} passed, ${rest}, ${formatSeconds(seconds)}`;
}

const { values, positionals } = parseArgs({
  options: { node: { type: "boolean" }, deno: { type: "boolean" } },
  allowPositionals: true,
});
const both = !values.node && !values.deno;
const files = testFiles(positionals);
if (files.length === 0) {
  console.error(`test: Cannot find a test for ${positionals.join(" ")}`);
  process.exit(2);
}
const outcomes: Outcome[] = [];
if (both || values.node) outcomes.push(await run("node", files));
if (both || values.deno) outcomes.push(await run("deno", files));
console.log(`\n${outcomes.map(summary).join("\n")}`);
process.exit(outcomes.every(({ ok }) => ok) ? 0 : 1);

/**
 * Runs the files of bench/, one after the other, each in a process of its own, and compares what two runs measured.
 *
 *   npm run bench                      all
 *   npm run bench -- matmul step       those whose name contains one of the words, and the operators whose name does
 *   npm run bench -- matmul --rounds 4 each in four processes, in turns: what differs between processes counts as noise
 *   npm run bench -- compare A B       two results: files, or commits with results in bench/results/
 *
 * WAVEGATE_ADAPTER=NAME chooses the adapter of all of them. docs/benchmarks.md tells the rest.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { currentHost } from "../src/host/current.ts";
import { loadRecords, selectRecords } from "../src/records/mod.ts";
import { compareResults, showCompared } from "./bench/compare.ts";
import {
  collect,
  findResults,
  LINES,
  RESULTS_FOLDER,
  RESULTS_VERSION,
  type Results,
} from "./bench/results.ts";
import { commitOf } from "./commit.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
// A word that names operators is for the one file that measures them all.
const OPERATORS = "operators.bench.ts";

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: "string", default: "1" }, out: { type: "string" } },
  });
  if (positionals[0] === "compare") return compare(positionals.slice(1));
  const rounds = Number(values.rounds);
  if (!(Number.isInteger(rounds) && rounds >= 1))
    throw new Error(`Cannot read --rounds ${values.rounds}: it is a whole number from 1`);
  return await run(positionals, rounds, values.out);
}

function compare(names: readonly string[]): number {
  if (names.length !== 2) throw new Error(`Cannot compare ${names.length} results: compare A B takes two`);
  const [before, after] = names.map((name) => findResults(name));
  for (const line of showCompared(before, after, compareResults(before, after))) console.log(line);
  return 0;
}

async function run(words: readonly string[], rounds: number, out: string | undefined): Promise<number> {
  const files = readdirSync(`${root}bench`)
    .filter((name) => name.endsWith(".bench.ts"))
    .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
    .sort();
  const records = await loadRecords();
  const named = words.filter((word) => selectRecords(records, [word]).length > 0);
  if (named.length > 0 && !files.includes(OPERATORS)) files.push(OPERATORS);
  if (files.length === 0) throw new Error(`Cannot find a bench for ${words.join(" ")}`);
  const folder = mkdtempSync(join(tmpdir(), "wavegate-bench-"));
  const lines = join(folder, "lines");
  const date = new Date().toISOString();
  const failed = new Set<string>();
  for (let round = 0; round < rounds; round++)
    for (const name of files) {
      console.log(`\n${name}${rounds > 1 ? `, ${round + 1} of ${rounds}` : ""}`);
      const args = ["--import", "tsx", `bench/${name}`, ...(name === OPERATORS ? named : [])];
      const env = { ...process.env, [LINES]: lines };
      if (spawnSync(process.execPath, args, { cwd: root, stdio: "inherit", env }).status !== 0)
        failed.add(name);
    }
  const benches = collect(lines);
  rmSync(folder, { recursive: true });
  if (benches.length > 0) {
    const commit = commitOf();
    const results: Results = {
      version: RESULTS_VERSION,
      ...(commit && { commit }),
      ...{ date, host: (await currentHost()).describe() },
      benches,
    };
    const name = `${date.slice(0, 19).replaceAll(":", "-")}-${commit ?? "no-commit"}.json`;
    const path = out ?? join(RESULTS_FOLDER, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify(results)}\n`);
    console.log(`\nwrote ${path}`);
  }
  if (failed.size > 0) console.error(`bench: failed: ${[...failed].join(", ")}`);
  return failed.size > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`bench: ${(error as Error).message}`);
  process.exitCode = 2;
}

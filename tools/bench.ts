/**
 * Runs the files of bench/, one after the other, each in a process of its own.
 *
 *   npm run bench                  all
 *   npm run bench -- matmul step   those whose name contains one of the words, and the operators whose name does
 */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { loadRecords, selectRecords } from "../src/records/mod.ts";

const records = await loadRecords();
const root = fileURLToPath(new URL("..", import.meta.url));
const words = process.argv.slice(2);
const files = readdirSync(`${root}bench`)
  .filter((name) => name.endsWith(".bench.ts"))
  .filter((name) => words.length === 0 || words.some((word) => name.includes(word)))
  .sort();
// A word that names operators is for the one file that measures them all.
const OPERATORS = "operators.bench.ts";
const named = words.filter((word) => selectRecords(records, [word]).length > 0);
if (named.length > 0 && !files.includes(OPERATORS)) files.push(OPERATORS);
if (files.length === 0) {
  console.error(`bench: Cannot find a bench for ${words.join(" ") || "anything"}`);
  process.exit(2);
}
const failed = files.filter((name) => {
  console.log(`\n${name}`);
  const args = ["--import", "tsx", `bench/${name}`, ...(name === OPERATORS ? named : [])];
  return spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" }).status !== 0;
});
if (failed.length > 0) console.error(`bench: failed: ${failed.join(", ")}`);
process.exit(failed.length > 0 ? 1 : 0);

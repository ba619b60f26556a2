#!/usr/bin/env node
/** The command: TypeScript through tsx in a checkout, the built dist/ in an installed package. */
import { existsSync, writeSync } from "node:fs";

let told = false;
/** @param {unknown} error */
const tell = (error) => {
  if (told) return;
  told = true;
  const [line] = String(error instanceof Error ? error.message : error).split("\n");
  try {
    writeSync(2, `wavegate: ${/^Cannot /.test(line) ? line : `Cannot start: ${line}`}\n`);
  } catch {
    // stderr is closed: there is no way to report it.
  }
};
/** @param {unknown} error */
const fail = (error) => {
  tell(error);
  process.exit(1);
};
/** @param {number} code */
const ended = (code) => void (code !== 0 && tell("a thread of Node's ended, as where memory is short"));
// Threads of tsx may fail where ulimit -v leaves no memory for them. Once a verb runs, it handles errors itself.
process.once("uncaughtException", fail);
process.once("exit", ended);

const source = new URL("./verbs.ts", import.meta.url);
const built = new URL("../dist/tools/verbs.js", import.meta.url);
try {
  if (Number(process.versions.node.split(".")[0]) < 20)
    throw new Error(`Cannot run on Node ${process.versions.node}: 20 or newer is needed`);
  if (existsSync(source)) {
    const { register } = await import("tsx/esm/api").catch(() => {
      throw new Error("Cannot run a checkout without its npm packages: run node tools/setup.mjs first");
    });
    register();
  }
  const { main } = await import((existsSync(source) ? source : built).href);
  process.off("uncaughtException", fail);
  process.off("exit", ended);
  await main(process.argv.slice(2));
} catch (error) {
  fail(error);
}

/** `wavegate VERB …`: finds the verb's file and runs it. */
import { existsSync, readFileSync } from "node:fs";
import { nearest } from "../src/io/nearest.ts";
import { exit, runVerb, type Verb } from "./cli.ts";
import { watchOutput, writeError, writeOutput } from "./output.ts";
import { SUMMARIES } from "./summaries.ts";

// The same folder holds .ts in a checkout and .js in an installed package.
const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
const fileOf = (verb: string) => new URL(`./${verb}.${extension}`, import.meta.url);

export function availableVerbs(): [name: string, summary: string][] {
  return Object.entries(SUMMARIES).filter(([name]) => existsSync(fileOf(name)));
}

/** Runs `wavegate` with these arguments and ends the process. */
export async function main(args: string[]): Promise<never> {
  const [name, ...rest] = args;
  const known = availableVerbs().some(([verb]) => verb === name);
  if (!known) watchOutput("wavegate");
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    writeOutput(overview());
    return await exit(name === undefined ? 2 : 0);
  }
  if (name === "--version" || name === "-v") {
    writeOutput(`${version()}\n`);
    return await exit(0);
  }
  if (!known) {
    writeError(`wavegate: ${unknownVerb(name)}\n`);
    return await exit(2);
  }
  const { verb } = (await import(fileOf(name).href)) as { verb: Verb };
  return await runVerb(verb, rest);
}

function overview(): string {
  const verbs = availableVerbs();
  const width = Math.max(...verbs.map(([name]) => name.length));
  const lines = verbs.map(([name, summary]) => `  ${name.padEnd(width)} ${summary}`);
  return `Usage: wavegate VERB [options]\n\n${lines.join("\n")}\n\nwavegate VERB --help tells more.\n`;
}

/** package.json is one folder up in a checkout, two from dist/tools/. */
function version(): string {
  const manifest = ["../package.json", "../../package.json"]
    .map((path) => new URL(path, import.meta.url))
    .find((url) => existsSync(url));
  return JSON.parse(readFileSync(manifest!, "utf8")).version;
}

/** The error for an unknown verb, with a suggestion where one is similar. */
export function unknownVerb(name: string): string {
  const verbs = availableVerbs().map(([verb]) => verb);
  const near = nearest(name, verbs);
  const advice = near === undefined ? `verbs are ${verbs.join(", ")}` : `did you mean ${near}?`;
  return `Cannot run "${name}": ${advice}`;
}

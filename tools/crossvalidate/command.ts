/** The command that does one job of a cross-validation in a process of its own. */
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { DeviceChoice } from "../device.ts";

/** Options of a verb that every job takes as they are. */
export type JobOptions = DeviceChoice & { readonly "no-tune": boolean };

const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";

/** What starts this verb under the runtime of this process, from any folder. */
function launcher(): string[] {
  if ("Deno" in globalThis) {
    const verb = new URL(`../crossvalidate.${extension}`, import.meta.url);
    return [process.execPath, "run", "--allow-all", "--no-check", fileURLToPath(verb)];
  }
  // In tools/ of a checkout or, three folders up, of an installed package.
  const scripts = ["../wavegate.mjs", "../../../tools/wavegate.mjs"].map(
    (path) => new URL(path, import.meta.url),
  );
  const script = scripts.find((url) => existsSync(url)) as URL;
  return [process.execPath, fileURLToPath(script), "crossvalidate"];
}

/** The command that does the job whose id follows it. */
export const jobCommand = (out: string, options: JobOptions): string[] => [
  ...[...launcher(), "--out", out],
  ...optionArguments(options),
  "--job",
];

/** The options as arguments. */
export function optionArguments({ adapter, implementation, memory, ...rest }: JobOptions): string[] {
  return [
    ...(adapter === undefined ? [] : ["--adapter", adapter]),
    ...(implementation === undefined ? [] : ["--implementation", implementation]),
    ...(memory === undefined ? [] : ["--memory", String(memory)]),
    ...(rest["no-tune"] ? ["--no-tune"] : []),
  ];
}

/** Modules that are found by their folder. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Imports every module in the folder of the one at `url`, in the order of their names. */
export function modulesBeside(url: string): Promise<Record<string, unknown>[]> {
  // The same folder holds .ts in a checkout and .js beside .d.ts in an installed package.
  const extension = url.endsWith(".ts") ? ".ts" : ".js";
  const names = readdirSync(fileURLToPath(new URL(".", url)))
    .filter((name) => name.endsWith(extension) && !name.endsWith(".d.ts"))
    .sort();
  return Promise.all(names.map((name) => import(new URL(name, url).href)));
}

#!/usr/bin/env node
/** The command: TypeScript through tsx in a checkout, the built dist/ in an installed package. */
import { existsSync } from "node:fs";

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
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`wavegate: ${/** @type {Error} */ (error).message}`);
  process.exitCode = 1;
}

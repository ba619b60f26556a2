/** Node 20 and later: Dawn through npm `webgpu`, files through `node:fs`. */

import { cpus } from "node:os";
import { dawn } from "./dawn.ts";
import { files } from "./files.ts";
import { collectGarbage } from "./garbage.ts";
import type { Host } from "./host.ts";
import { lockFolder } from "./lock.ts";
import { memoryUsage } from "./memory.ts";
import { quiet } from "./quiet.ts";
import { spawnScript } from "./script_process.ts";

/** What Node needs to run a script: in a checkout they are TypeScript. A bundler does not see what a parameter is. */
const loaderOf = (script: URL, loader = "tsx"): string[] =>
  script.pathname.endsWith(".ts") ? ["--import", import.meta.resolve(loader)] : [];

export const node: Host = {
  name: "node",
  ...files,
  describe() {
    const processors = cpus();
    const model = processors[0]?.model ?? "processor unknown";
    return `Node ${process.versions.node}, ${process.platform} ${process.arch}, ${model}, ${processors.length} cores`;
  },
  async gpu(options = {}) {
    if (options.implementation === "built-in") {
      throw new Error("Cannot use the built-in WebGPU: Node has none, use dawn");
    }
    return await dawn(options);
  },
  quiet,
  lock: lockFolder,
  spawn: (script, onOutput) => spawnScript(script, loaderOf(script), onOutput),
  memoryUsage,
  collectGarbage,
};

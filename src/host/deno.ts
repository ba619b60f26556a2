/**
 * Deno 2 and later: its own WebGPU (wgpu), or Dawn through npm `webgpu` on request. Files through `node:fs`,
 * which Deno provides.
 */

import { cpus } from "node:os";
import { builtInGpu } from "./built_in_gpu.ts";
import { dawn } from "./dawn.ts";
import { files } from "./files.ts";
import { collectGarbage } from "./garbage.ts";
import type { Host } from "./host.ts";
import { lockFolder } from "./lock.ts";
import { memoryUsage } from "./memory.ts";
import { quiet } from "./quiet.ts";
import { spawnScript } from "./script_process.ts";

declare const Deno: { version: { deno: string }; build: { os: string; arch: string } };

const BUILT_IN = { absent: "this Deno was started without it", instead: "dawn" };

export const deno: Host = {
  name: "deno",
  ...files,
  describe() {
    const processors = cpus();
    const model = processors[0]?.model ?? "processor unknown";
    return `Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}, ${model}, ${processors.length} cores`;
  },
  gpu: (options = {}) => (options.implementation === "dawn" ? dawn(options) : builtInGpu(options, BUILT_IN)),
  quiet,
  lock: lockFolder,
  spawn: (script, onOutput) => spawnScript(script, ["run", "--allow-all"], onOutput),
  memoryUsage,
  collectGarbage,
};

/**
 * Deno 2 and later: its own WebGPU (wgpu), or Dawn through npm `webgpu` on request. Files through `node:fs`,
 * which Deno provides.
 */

import { cpus } from "node:os";
import { dawn, noAdapter } from "./dawn.ts";
import { files } from "./files.ts";
import { collectGarbage } from "./garbage.ts";
import type { GpuOptions, Host } from "./host.ts";
import { lockFolder } from "./lock.ts";
import { memoryUsage } from "./memory.ts";
import { quiet } from "./quiet.ts";
import { spawnScript } from "./script_process.ts";

declare const Deno: { version: { deno: string }; build: { os: string; arch: string } };

/** wgpu offers one adapter and no choice by name: the name that was asked for can only be compared with it. */
async function builtIn({ adapter, unsafeFast }: GpuOptions): Promise<GPU> {
  const gpu = navigator.gpu;
  if (!gpu) throw new Error("Cannot use the built-in WebGPU: this Deno was started without it");
  if (unsafeFast)
    throw new Error(
      "Cannot use the built-in WebGPU with unsafeFast: it keeps its checks, dawn can drop them",
    );
  if (adapter === undefined) return gpu;
  const info = (await gpu.requestAdapter({ powerPreference: "high-performance" }))?.info;
  const name = info ? info.description || info.device || info.vendor : undefined;
  if (name?.toLowerCase().includes(adapter.toLowerCase())) return gpu;
  throw noAdapter(adapter, name === undefined ? [] : [name]);
}

export const deno: Host = {
  name: "deno",
  ...files,
  describe() {
    const processors = cpus();
    const model = processors[0]?.model ?? "processor unknown";
    return `Deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}, ${model}, ${processors.length} cores`;
  },
  gpu: (options = {}) => (options.implementation === "dawn" ? dawn(options) : builtIn(options)),
  quiet,
  lock: lockFolder,
  spawn: (script, onOutput) => spawnScript(script, ["run", "--allow-all"], onOutput),
  memoryUsage,
  collectGarbage,
};

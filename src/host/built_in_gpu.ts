/** WebGPU that the runtime itself has: Deno's wgpu, a browser's. */

import type { GpuOptions } from "./host.ts";

/** One adapter and no choice by name: the name that was asked for can only be compared with it. */
export async function builtInGpu(
  { adapter, unsafeFast }: GpuOptions,
  where: { readonly absent: string; readonly instead: string },
): Promise<GPU> {
  const { gpu } = navigator;
  if (!gpu) throw new Error(`Cannot use the built-in WebGPU: ${where.absent}`);
  if (unsafeFast)
    throw new Error(
      `Cannot use the built-in WebGPU with unsafeFast: it keeps its checks, ${where.instead} can drop them`,
    );
  if (adapter === undefined) return gpu;
  const info = (await gpu.requestAdapter({ powerPreference: "high-performance" }))?.info;
  // A browser may leave all but vendor and architecture empty.
  const names = info ? [info.description, info.device, info.architecture, info.vendor].filter(Boolean) : [];
  if (names.some((name) => name.toLowerCase().includes(adapter.toLowerCase()))) return gpu;
  throw noAdapter(adapter, names.slice(0, 1));
}

/** `available` of the error has the names that there are. */
export function noAdapter(adapter: string, names: string[]): Error & { available: string[] } {
  const available = names.length > 0 ? `available are ${names.join(", ")}` : "none is available";
  return Object.assign(new Error(`Cannot find adapter '${adapter}': ${available}`), { available: names });
}

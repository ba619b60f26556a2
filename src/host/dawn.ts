/** Dawn, through npm `webgpu`, for Node and (on request) for Deno. */

import type { GpuOptions } from "./host.ts";
import { withoutNativeStderr } from "./native_stderr.ts";
import { quiet } from "./quiet.ts";

/**
 * subgroup matrices need the first, f16 on NVIDIA the second; with quantised timestamps a kernel could not
 * be timed.
 */
const TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];
const OFF = ["timestamp_quantization"];
const UNSAFE_FAST = ["disable_robustness", "disable_workgroup_init"];

/** Instances by their flags. They live as long as the process: Node may crash when one is collected. */
const instances = new Map<string, GPU>();

/** Throws an Error if Dawn cannot be loaded, or if no adapter bears the name, listing those at hand. */
export async function dawn(options: GpuOptions): Promise<GPU> {
  const { create } = await import("webgpu").catch((cause) => {
    throw new Error(`Cannot load Dawn (npm webgpu) on this platform: ${firstLine(cause)}`, { cause });
  });
  const enabled = options.unsafeFast ? [...TOGGLES, ...UNSAFE_FAST] : TOGGLES;
  const flags = [`enable-dawn-features=${enabled}`, `disable-dawn-features=${OFF}`];
  const key = [...flags, options.adapter ?? ""].join(" ");
  const known = instances.get(key);
  if (known) return known;
  const { adapter } = options;
  const gpu = await (adapter === undefined ? open(flags, create) : byName(adapter, flags, create));
  instances.set(key, gpu);
  return gpu;
}

/**
 * An instance looks for its adapters when it is first asked for one, inside that call. There it writes two warnings about
 * limits that concern nobody (of most Vulkan drivers), from native code that takes no switch.
 */
async function firstAdapter(gpu: GPU): Promise<GPUAdapter | null> {
  return await quiet(() => withoutNativeStderr(() => gpu.requestAdapter()));
}

/** An instance that has looked for its adapters. */
async function open(flags: string[], create: (flags: string[]) => GPU): Promise<GPU> {
  const gpu = create(flags);
  await firstAdapter(gpu);
  return gpu;
}

/**
 * Dawn takes a part of the adapter's name but minds its case. If none fits, asking for the adapter (not
 * making the instance) throws a list of all names.
 */
async function byName(adapter: string, flags: string[], create: (flags: string[]) => GPU): Promise<GPU> {
  const gpu = create([...flags, `adapter=${adapter}`]);
  let names: string[];
  try {
    if (await firstAdapter(gpu)) return gpu;
    names = [];
  } catch (error) {
    names = [...String(error).matchAll(/name: '(.*)'/g)].map((match) => match[1]);
  }
  const name = names.find((candidate) => candidate.toLowerCase().includes(adapter.toLowerCase()));
  if (name === undefined) throw noAdapter(adapter, names);
  return await open([...flags, `adapter=${name}`], create);
}

/** The error bears the names that there are. */
export function noAdapter(adapter: string, names: string[]): Error & { available: string[] } {
  const available = names.length > 0 ? `available are ${names.join(", ")}` : "none is available";
  return Object.assign(new Error(`Cannot find adapter '${adapter}': ${available}`), { available: names });
}

const firstLine = (error: unknown) =>
  (error instanceof Error ? error.message : String(error)).split("\n", 1)[0];

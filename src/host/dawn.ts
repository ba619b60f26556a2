/** Dawn, through npm `webgpu`, for Node and (on request) for Deno. */

import { noAdapter } from "./built_in_gpu.ts";
import type { GpuOptions } from "./host.ts";
import { withoutNativeStderr } from "./native_stderr.ts";
import { quiet } from "./quiet.ts";

/** Without it Dawn offers no shader-f16 on NVIDIA's Vulkan driver. */
const ON = ["vulkan_enable_f16_on_nvidia"];
/** Dawn offers subgroup matrices only with what it calls unsafe: more features, of which none is used unless asked for. */
const MATRICES = ["allow_unsafe_apis"];
/**
 * Dawn rounds timestamps to steps of 65.5 µs, longer than many kernels take; and it fills each buffer with zeros before its
 * first use, on one thread, where the pool promises none: buffers that it hands out again hold what they held.
 */
const OFF = ["timestamp_quantization", "lazy_clear_resource_on_first_use"];
const UNSAFE_FAST = ["disable_robustness", "disable_workgroup_init"];

/** By a name that no bundler follows: native code stays outside. */
const DAWN: string = "webgpu";

const load = async (): Promise<typeof import("webgpu")> =>
  await import(/* webpackIgnore: true */ /* @vite-ignore */ DAWN);

/** Instances by their flags. None is ever let go: Node may crash when one is collected. */
const instances = new Map<string, GPU>();

/** Throws an Error if Dawn cannot be loaded, or if no adapter has the name, listing those that there are. */
export async function dawn(options: GpuOptions): Promise<GPU> {
  const { create } = await load().catch((cause) => {
    throw new Error(`Cannot load Dawn (npm webgpu) on this platform: ${firstLine(cause)}`, { cause });
  });
  const { matrices = true, unsafeFast = false } = options;
  const enabled = [...ON, ...(matrices ? MATRICES : []), ...(unsafeFast ? UNSAFE_FAST : [])];
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
 * An instance looks for its adapters inside the first call that asks it for one. With most Vulkan drivers it then writes
 * two warnings about limits on stderr that do not matter here; no option of Dawn's turns them off.
 */
async function firstAdapter(gpu: GPU): Promise<GPUAdapter | null> {
  return await quiet(() => withoutNativeStderr(() => gpu.requestAdapter()));
}

/** A new instance, which has looked for its adapters. */
async function open(flags: string[], create: (flags: string[]) => GPU): Promise<GPU> {
  const gpu = create(flags);
  await firstAdapter(gpu);
  return gpu;
}

/**
 * A new instance for the adapter whose name contains `adapter`. Dawn itself looks for such a part, but in the same case
 * alone: where it finds none, its error lists all names, and one that fits in another case is asked for by its whole name.
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

const firstLine = (error: unknown) =>
  (error instanceof Error ? error.message : String(error)).split("\n", 1)[0];

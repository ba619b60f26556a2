/** One GPU of a machine for each of the processes that share it. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

const DEVICES = "/sys/bus/pci/devices";
/** Vulkan's device selection layer of Mesa, which works for every driver. */
const LAYERS = ["/usr/share/vulkan/implicit_layer.d", "/etc/vulkan/implicit_layer.d"];
const LAYER = "VkLayer_MESA_device_select.json";
/** By which a user, or a launcher, has chosen already. */
const CHOSEN = ["DRI_PRIME", "MESA_VK_DEVICE_SELECT", "VK_LOADER_DEVICE_SELECT"];

/** PCI addresses of the GPUs, sorted: display controllers, as "0000:41:00.0". None outside Linux. */
export function pciGpus(root: string = DEVICES): string[] {
  if (!existsSync(root)) return [];
  const isGpu = (name: string) => {
    try {
      return /^0x03/.test(readFileSync(join(root, name, "class"), "utf8"));
    } catch {
      return false;
    }
  };
  return readdirSync(root).filter(isGpu).sort();
}

/**
 * Chooses the GPU of process `local` of the `count` on this machine, before the first call into Vulkan, and says what was
 * chosen. WebGPU itself cannot tell equal GPUs apart. Undefined where there is nothing to choose: one GPU at most, or a
 * launcher or a user that has chosen.
 */
export function chooseLocalGpu(
  local: number,
  count: number,
  {
    gpus = pciGpus(),
    env = process.env,
    layers = LAYERS,
  }: {
    readonly gpus?: readonly string[];
    readonly env?: Record<string, string | undefined>;
    readonly layers?: readonly string[];
  } = {},
): string | undefined {
  if (count < 2 || gpus.length < 2 || CHOSEN.some((name) => env[name] !== undefined)) return undefined;
  if (!layers.some((folder) => existsSync(join(folder, LAYER))))
    return `${gpus.length} GPUs and no Vulkan layer that chooses among them (${LAYER}, of Mesa's Vulkan drivers): all ranks here take the first; a launcher may give each its own, as srun --gpus-per-task=1`;
  const gpu = gpus[local % gpus.length];
  env.DRI_PRIME = `pci-${gpu.replace(/[:.]/g, "_")}`;
  env.MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE = "1";
  return `GPU ${gpu}`;
}

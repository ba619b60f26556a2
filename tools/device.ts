/** Opens the device of a verb by the options that all verbs share. */
import { type Device, openDevice } from "../src/gpu/device.ts";
import type { Host } from "../src/host/host.ts";
import { useTuning } from "../src/tune/tuning.ts";
import { UsageError } from "./cli.ts";
import { vulkanDrivers } from "./vulkan.ts";

export const deviceOptions = {
  adapter: { type: "string", value: "NAME", help: "part of the adapter's name" },
  implementation: {
    type: "string",
    choices: ["built-in", "dawn"],
    help: "which WebGPU, where the runtime has two",
  },
  memory: {
    type: "number",
    value: "MIB",
    help: "most MiB of GPU buffers (on a CPU adapter what memory is free)",
  },
} as const;

/** Of verbs that launch kernels by what `wavegate tune` found. */
export const tuningOptions = {
  "no-tune": { type: "boolean", help: "launch kernels by default, whatever `wavegate tune` found" },
} as const;

export interface DeviceChoice {
  adapter?: string;
  implementation?: "built-in" | "dawn";
  memory?: number;
}

/** Throws a UsageError for a wrong --memory, an Error where there is no adapter. */
export async function openChosenDevice(host: Host, choice: DeviceChoice): Promise<Device> {
  const { adapter, implementation, memory } = choice;
  if (memory !== undefined && !(memory > 0))
    throw new UsageError(`Cannot read --memory ${memory}: it is a number of MiB above 0`);
  checkDrivers();
  return openDevice(host, {
    adapter,
    implementation,
    ...(memory === undefined ? {} : { memoryLimit: memory * 2 ** 20 }),
  });
}

/** As openChosenDevice(); kernels are launched by what was tuned on the adapter, unless --no-tune. */
export async function openTunedDevice(
  host: Host,
  choice: DeviceChoice & { "no-tune": boolean },
  note: (line: string) => void,
): Promise<Device> {
  const device = await openChosenDevice(host, choice);
  if (!choice["no-tune"]) await useTuning(device, note);
  return device;
}

/** Throws in one line where Dawn would in three and a stack trace. */
function checkDrivers(): void {
  if (vulkanDrivers()?.length === 0)
    throw new Error(
      "Cannot open a GPU: no Vulkan driver is installed; `wavegate doctor` says how to get one",
    );
}

/** How a verb opens its device: the options that all of them share. */
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import process from "node:process";
import { type Device, openDevice } from "../src/gpu/device.ts";
import type { Host } from "../src/host/host.ts";
import { UsageError } from "./cli.ts";
import { vulkanDrivers } from "./vulkan.ts";

export const deviceOptions = {
  adapter: { type: "string", value: "NAME", help: "part of the adapter's name" },
  implementation: {
    type: "string",
    choices: ["built-in", "dawn"],
    help: "which WebGPU, where the runtime has two",
  },
  memory: { type: "number", value: "MIB", help: "most MiB of GPU buffers" },
} as const;

export interface DeviceChoice {
  adapter?: string;
  implementation?: "built-in" | "dawn";
  memory?: number;
}

/** Throws UsageError at a limit that is none; an Error where there is no adapter. */
export async function openChosenDevice(host: Host, choice: DeviceChoice): Promise<Device> {
  const { adapter, implementation, memory } = choice;
  if (memory !== undefined && !(memory > 0))
    throw new UsageError(`Cannot read --memory ${memory}: it is a number of MiB above 0`);
  checkDrivers();
  return withoutNativeNoise(() =>
    openDevice(host, {
      adapter,
      implementation,
      ...(memory === undefined ? {} : { memoryLimit: memory * 2 ** 20 }),
    }),
  );
}

/**
 * Runs `open` while file descriptor 2 leads nowhere: on a CPU adapter Dawn writes two warnings about limits there, from
 * native code that takes no switch, and a verb's stderr is for its own lines. Where descriptors cannot be reopened by
 * name (not Node on Linux, or stderr is a socket) or where lines would be lost by it the warnings stay.
 */
export async function withoutNativeNoise<T>(open: () => Promise<T>): Promise<T> {
  // Deno keeps its own hold on descriptor 2.
  if (process.platform !== "linux" || "Deno" in globalThis) return open();
  let kept: number;
  try {
    if (sharesPosition(2)) return open();
    kept = openSync("/proc/self/fd/2", "a");
  } catch {
    return open();
  }
  // The lowest free number is taken: closing 2 makes the next file 2.
  const lead = (path: string) => {
    closeSync(2);
    openSync(path, "a");
  };
  lead("/dev/null");
  try {
    return await open();
  } finally {
    lead(`/proc/self/fd/${kept}`);
    closeSync(kept);
  }
}

/** O_APPEND on Linux. */
const APPEND = 0o2000;

/**
 * Whether the descriptor leads to a file in which whoever inherited it writes at one common position, as after `2>file`.
 * Reopened it would have a position of its own, and writers would overwrite each other. After `2>>file` all write at
 * the end.
 */
function sharesPosition(descriptor: number): boolean {
  if (!fstatSync(descriptor).isFile()) return false;
  const info = readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8");
  return (Number.parseInt(/^flags:\s*(\d+)/m.exec(info)?.[1] ?? "0", 8) & APPEND) === 0;
}

/** Dawn itself says so in three lines and a stack trace. */
export function checkDrivers(): void {
  if (vulkanDrivers()?.length === 0)
    throw new Error(
      "Cannot open a GPU: no Vulkan driver is installed; `wavegate doctor` says how to get one",
    );
}

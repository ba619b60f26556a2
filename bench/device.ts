/** The device of all benches. */
import process from "node:process";
import { type Device, type DeviceOptions, openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";

/** The adapter that WAVEGATE_ADAPTER names, or WebGPU's first. */
export const openBenchDevice = async (options: DeviceOptions = {}): Promise<Device> =>
  openDevice(await currentHost(), { adapter: process.env.WAVEGATE_ADAPTER || undefined, ...options });

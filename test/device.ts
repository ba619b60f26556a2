/** The device of a test file. */
import { after } from "node:test";
import { type Device, type DeviceOptions, openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";

/** Opens the adapter whose name contains WAVEGATE_ADAPTER, or else the first; it is disposed after the file's last test. */
export async function testDevice(options: DeviceOptions = {}, host?: Host): Promise<Device> {
  const adapter = process.env.WAVEGATE_ADAPTER;
  const device = await openDevice(host ?? (await currentHost()), {
    ...options,
    ...(adapter ? { adapter } : {}),
  });
  after(() => device.dispose());
  return device;
}

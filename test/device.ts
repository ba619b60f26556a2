/** The device of a test file. */
import { after } from "node:test";
import { type Device, type DeviceOptions, openDevice } from "../src/gpu/device.ts";
import { usage } from "../src/gpu/pool.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";

/** A NaN as f32 and as two f16. */
const UNWRITTEN = new Uint32Array(2 ** 18).fill(0x7fc57fc5);

/**
 * A new buffer promises nothing of what it holds, as one that the pool hands out again: here it holds NaNs, so that work that
 * reads what nobody wrote fails its test.
 */
function spoilNewBuffers({ gpu }: Device): void {
  const create = gpu.createBuffer.bind(gpu);
  gpu.createBuffer = (descriptor) => {
    const buffer = create(descriptor);
    const { size, usage: of, mappedAtCreation } = descriptor;
    if (of & usage.COPY_DST && of & usage.STORAGE && !mappedAtCreation)
      for (let at = 0; at < size; at += UNWRITTEN.byteLength)
        gpu.queue.writeBuffer(buffer, at, UNWRITTEN, 0, Math.min(UNWRITTEN.length, (size - at) / 4));
    return buffer;
  };
}

/**
 * Opens the adapter whose name contains WAVEGATE_ADAPTER, or else the first, its new buffers full of NaNs; it is disposed after
 * the file's last test.
 */
export async function testDevice(options: DeviceOptions = {}, host?: Host): Promise<Device> {
  const adapter = process.env.WAVEGATE_ADAPTER;
  const device = await openDevice(host ?? (await currentHost()), {
    ...options,
    ...(adapter ? { adapter } : {}),
  });
  spoilNewBuffers(device);
  after(() => device.dispose());
  return device;
}

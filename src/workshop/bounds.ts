/** Whether a kernel of one's own stays inside of its buffers. */
import type { Device } from "../gpu/device.ts";
import type { Bound } from "../gpu/kernel.ts";
import { stripComments } from "../gpu/wgsl.ts";
import { relativeL2 } from "../records/float64.ts";
import { sizeOf } from "../tensor/shape.ts";
import { bytesOf, decode, destroyBuffer, exactBuffer, filled, TOLERANCE } from "./buffers.ts";
import { type Buffer, type Call, initialBytes, type OwnKernel } from "./own_call.ts";
import type { Source } from "./spec.ts";

/** Bytes behind each buffer that no kernel may touch, in the check of bounds. */
const GUARD = 16384;
/** What stands there: what a kernel reads of it shows where the one gives another result than the other. */
const [BEHIND, BEHIND_TOO] = [0x7fc0beef, 0x3f9d70a4];
/** Larger ones are not copied for that check. */
const MOST_GUARDED = 2 ** 29;

/**
 * Runs it with something behind each buffer. Throws where it writes there, or where its results depend on what stands there.
 * Returns why that cannot be checked, where it cannot.
 */
export async function checkBounds(
  device: Device,
  { json }: OwnKernel,
  source: Source,
  { text }: Call,
  buffers: readonly Buffer[],
  run: (bound: Readonly<Record<string, Bound>>) => void,
): Promise<string | undefined> {
  // Of a kernel that goes by arrayLength() the guards would be data.
  if (/\barrayLength\b/.test(stripComments(text))) return "goes by arrayLength()";
  const whole = buffers.reduce((sum, { bytes }) => sum + bytes, 0);
  if (whole > MOST_GUARDED)
    return `takes ${Math.ceil(whole / 2 ** 20)} MiB of buffers, more than ${MOST_GUARDED / 2 ** 20}`;
  const padded = (bytes: number) => Math.ceil(bytes / 16) * 16;
  const attempt = async (behind: (name: string) => number): Promise<Map<string, Float64Array>> => {
    const bound: Record<string, Bound> = {};
    try {
      for (const buffer of buffers) {
        const size = padded(buffer.bytes) + GUARD;
        const on = exactBuffer(device, buffer.name, size);
        bound[buffer.name] = { device, buffer: on, dtype: buffer.dtype, bytes: size };
        const bytes = filled(size, behind(buffer.name));
        bytes.set(initialBytes(buffer).subarray(0, sizeOf(buffer.shape) * bytesOf(buffer.dtype)));
        device.recorder.upload(on, bytes);
      }
      run(bound);
      const results = new Map<string, Float64Array>();
      for (const { name, written, bytes, dtype, shape } of buffers) {
        if (!written) continue;
        const size = sizeOf(shape);
        const whole = await device.read(bound[name].buffer, padded(bytes) + GUARD);
        const guard = new Uint32Array(whole, padded(bytes));
        const at = guard.findIndex((word) => word !== behind(name));
        if (at >= 0) {
          const element = (padded(bytes) + 4 * at) / bytesOf(dtype);
          throw new Error(
            `Cannot trust ${source.path}: it writes past the end of ${name}, to element ${element} of ${size} (${json})`,
          );
        }
        results.set(name, decode(dtype, whole, size));
      }
      return results;
    } finally {
      for (const { buffer } of Object.values(bound)) destroyBuffer(device, buffer);
    }
  };
  const plain = await attempt(() => BEHIND);
  const differs = (other: Map<string, Float64Array>) =>
    buffers.find(({ name, dtype }) => {
      const [a, b] = [plain.get(name), other.get(name)];
      // Kernels with atomics may add up in another order.
      return a && b && !(relativeL2(b, a) <= TOLERANCE[dtype]);
    });
  if (!differs(await attempt(() => BEHIND_TOO))) return undefined;
  for (const { name } of buffers) {
    const changed = differs(await attempt((each) => (each === name ? BEHIND_TOO : BEHIND)));
    if (!changed) continue;
    throw new Error(
      `Cannot trust ${source.path}: it reads past the end of ${name}, and ${changed.name} depends on what stands there (${json})`,
    );
  }
  return undefined;
}

/** Buffers of exactly the bytes that are asked for, as arrayLength() and the check of bounds want them; the pool rounds up. */
import type { Device } from "../gpu/device.ts";
import { formatMiB, type PoolBuffer, usage } from "../gpu/pool.ts";
import { f16ToF32, f32ToF16 } from "../io/dtype.ts";

export type DType = "f32" | "f16" | "u32" | "i32";

export const bytesOf = (dtype: DType): number => (dtype === "f16" ? 2 : 4);

/** Largest relative L2 distance from float64. Of a result in f16 the rounding alone is 2e-4. */
export const TOLERANCE = { f32: 1e-5, f16: 1e-3, u32: 0, i32: 0 };

/** What stands in an output before a kernel runs: a NaN, so that what it never writes is found. */
export const UNWRITTEN = { f32: 0x7fc5a5a5, f16: 0x7e5a7e5a, u32: 0x7fc5a5a5, i32: 0x7fc5a5a5 } as const;

/** The pool counts from 1 and never gets so far. */
let nextId = 2 ** 40;

/** Throws a RangeError where the adapter binds no buffer of so many bytes, or memory has no room. */
export function checkRoom(device: Device, name: string, size: number): void {
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  const most = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  if (size > most)
    throw new RangeError(
      `Cannot bind ${name}: it takes ${formatMiB(size)}, the adapter binds at most ${formatMiB(most)} at once`,
    );
  const left = device.info.cpu ? device.host.freeMemory() : Number.POSITIVE_INFINITY;
  if (2 * size > left)
    throw new RangeError(
      `Cannot bind ${name}: it takes ${formatMiB(size)} and ${formatMiB(left)} of main memory are left`,
    );
}

/** Allocates `bytes`, rounded up to four. Throws as checkRoom(). */
export function exactBuffer(device: Device, name: string, bytes: number): PoolBuffer {
  const size = Math.max(4, Math.ceil(bytes / 4) * 4);
  checkRoom(device, name, size);
  const gpu = device.gpu.createBuffer({
    ...{ label: name, size },
    usage: usage.STORAGE | usage.COPY_SRC | usage.COPY_DST,
  });
  return { id: nextId++, gpu, bytes: size, lastUse: -1, released: 0, reserve: undefined };
}

/** Destroys a buffer that exactBuffer() made, after what was recorded with it. */
export function destroyBuffer(device: Device, buffer: PoolBuffer): void {
  device.recorder.flush();
  device.bindGroups.forget(new Set([buffer.id]));
  buffer.gpu.destroy();
}

/** Numbers as the bytes of a type; those of f16 are rounded. */
export function encode(dtype: DType, values: Float64Array): Uint8Array {
  const f32 = () => Float32Array.from(values);
  const array =
    dtype === "f32"
      ? f32()
      : dtype === "f16"
        ? f32ToF16(f32())
        : dtype === "u32"
          ? Uint32Array.from(values)
          : Int32Array.from(values);
  const bytes = new Uint8Array(Math.ceil(array.byteLength / 4) * 4);
  bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return bytes;
}

/** The numbers of a type that `bytes` hold. */
export function decode(dtype: DType, bytes: ArrayBuffer, size: number): Float64Array {
  if (dtype === "f32") return Float64Array.from(new Float32Array(bytes, 0, size));
  if (dtype === "f16") return Float64Array.from(f16ToF32(new Uint16Array(bytes, 0, size)));
  return Float64Array.from(
    dtype === "u32" ? new Uint32Array(bytes, 0, size) : new Int32Array(bytes, 0, size),
  );
}

/** Bytes that repeat a word. */
export const filled = (bytes: number, word: number): Uint8Array =>
  new Uint8Array(new Uint32Array(Math.ceil(bytes / 4)).fill(word).buffer);

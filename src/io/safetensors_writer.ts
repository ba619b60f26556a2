/** Writes safetensors byte for byte as the reference implementation does: same order, same padding. */

import type { Host } from "../host/host.ts";
import { BITS, type StoredDType } from "./dtype.ts";
import { quote } from "./json.ts";

/** A tensor to be written. */
export interface TensorSource {
  /** Its name in the file. */
  key: string;
  /** Format of its elements. */
  dtype: StoredDType;
  /** Its extents. */
  shape: readonly number[];
  /** Its bytes, little-endian, or a function that gives them when they are to be written, at once or in pieces. */
  data: Uint8Array | (() => Promise<Uint8Array> | AsyncIterable<Uint8Array> | Iterable<Uint8Array>);
}

/**
 * Writes one file, which appears under its name only when complete. Tensors are sorted by dtype, widest first, then by key,
 * so that each is aligned. `onBytes` is told of every byte in the order of the file. Throws a RangeError for two equal keys,
 * and for bytes that do not fit the shape.
 */
export async function writeSafetensors(
  host: Host,
  path: string,
  tensors: Iterable<TensorSource> | AsyncIterable<TensorSource>,
  metadata: Readonly<Record<string, string>> = {},
  onBytes?: (bytes: Uint8Array) => void,
): Promise<void> {
  const fail = (message: string): never => {
    throw new RangeError(`Cannot write ${path}: ${message}`);
  };
  const sorted: TensorSource[] = [];
  for await (const tensor of tensors) sorted.push(tensor);
  const rank = Object.keys(BITS);
  sorted.sort((a, b) => rank.indexOf(b.dtype) - rank.indexOf(a.dtype) || (a.key < b.key ? -1 : 1));

  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set("__metadata__", metadata);
  let end = 0;
  for (const { key, dtype, shape } of sorted) {
    if (key === "__metadata__") fail("a tensor cannot be named __metadata__");
    if (header.has(key)) fail(`two tensors are named ${quote(key)}`);
    const begin = end;
    end += byteLength(dtype, shape);
    if (!Number.isSafeInteger(end))
      fail(`tensor ${quote(key)} is ${dtype} (${shape}), not a whole number of bytes`);
    header.set(key, { dtype, shape, data_offsets: [begin, end] });
  }
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const head = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true);
  head.set(text, 8);

  const file = await host.createAtomic(path);
  const write = (bytes: Uint8Array) => {
    onBytes?.(bytes);
    return file.write(bytes);
  };
  try {
    await write(head);
    for (const { key, dtype, shape, data } of sorted) {
      let written = 0;
      for await (const piece of pieces(data)) {
        await write(piece);
        written += piece.length;
      }
      const expected = byteLength(dtype, shape);
      if (written !== expected) {
        fail(`tensor ${quote(key)} delivered ${written} bytes, but ${dtype} (${shape}) takes ${expected}`);
      }
    }
    await file.commit();
  } catch (error) {
    await file.abort();
    throw error;
  }
}

function byteLength(dtype: StoredDType, shape: readonly number[]): number {
  return (shape.reduce((product, extent) => product * extent, 1) * BITS[dtype]) / 8;
}

async function* pieces(data: TensorSource["data"]): AsyncIterable<Uint8Array> {
  const delivered = typeof data === "function" ? await data() : data;
  if (delivered instanceof Uint8Array) yield delivered;
  else yield* delivered;
}

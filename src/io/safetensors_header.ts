/** The header of a safetensors file: JSON in, checked entries out. */

import { isObject } from "./config.ts";
import { BITS, type Dtype, isDtype } from "./dtype.ts";
import { brief, parseJson, quote } from "./json.ts";

export interface HeaderEntry {
  dtype: Dtype;
  shape: number[];
  /** Bytes within the buffer that follows the header. */
  begin: number;
  end: number;
}

export interface Header {
  tensors: Map<string, HeaderEntry>;
  metadata: Record<string, string>;
}

/** Checks every rule of the format; `size` is that of the buffer. Throws without the file's name. */
export function parseHeader(bytes: Uint8Array, size: number): Header {
  if (bytes[0] !== 0x7b) {
    const found =
      bytes.length === 0 ? "is empty" : `begins with byte 0x${bytes[0].toString(16).padStart(2, "0")}`;
    throw new SyntaxError(`the header ${found}, expected '{'`);
  }
  const root = parse(bytes);
  const { __metadata__: metadata, ...entries } = root;
  const tensors = new Map<string, HeaderEntry>();
  for (const [key, value] of Object.entries(entries)) tensors.set(key, parseEntry(key, value, size));
  checkCover(tensors, size);
  return { tensors, metadata: parseMetadata(metadata) };
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SyntaxError("the header is not valid UTF-8");
  }
  try {
    return parseJson(text) as Record<string, unknown>;
  } catch (cause) {
    throw new SyntaxError(`the header is not valid JSON, ${(cause as Error).message}`);
  }
}

function parseMetadata(value: unknown): Record<string, string> {
  if (value === null || value === undefined) return {}; // as the library itself reads it
  if (!isObject(value)) throw new SyntaxError("__metadata__ is not an object");
  for (const [key, text] of Object.entries(value)) {
    if (typeof text === "string") continue;
    throw new SyntaxError(`__metadata__ ${quote(key)} is ${brief(text)}, expected a string`);
  }
  return value as Record<string, string>;
}

function parseEntry(key: string, value: unknown, size: number): HeaderEntry {
  const fail = (message: string): never => {
    throw new SyntaxError(`tensor ${quote(key)} ${message}`);
  };
  if (!isObject(value)) return fail(`is ${brief(value)}, expected an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype))
    return fail(`has dtype ${brief(dtype)}, expected one of ${Object.keys(BITS).join(" ")}`);
  if (!isCounts(shape)) return fail(`has shape ${brief(shape)}, expected a list of integers from 0 on`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    return fail(`has data_offsets ${brief(offsets)}, expected two integers from 0 on`);
  }
  const [begin, end] = offsets;
  if (begin > end) fail(`begins at byte ${begin}, after its end ${end}`);
  if (end > size) fail(`ends at byte ${end}, but the buffer has ${size}`);
  const bits = shape.reduce((product, extent) => product * extent, 1) * BITS[dtype];
  if (!Number.isSafeInteger(bits)) fail(`has shape ${brief(shape)}, too large to count`);
  if (bits !== 8 * (end - begin)) {
    fail(`has ${end - begin} bytes, but ${dtype} ${brief(shape)} takes ${bits / 8}`);
  }
  return { dtype, shape, begin, end };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** The tensors, sorted by place, must follow one another from the first byte of the buffer to its last. */
function checkCover(tensors: Map<string, HeaderEntry>, size: number): void {
  const sorted = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  let last = "";
  for (const [key, { begin, end }] of sorted) {
    if (begin < covered) {
      throw new SyntaxError(
        `tensor ${quote(key)} begins at byte ${begin}, inside ${quote(last)}, which ends at ${covered}`,
      );
    }
    if (begin > covered)
      throw new SyntaxError(`bytes ${covered} to ${begin} before tensor ${quote(key)} belong to no tensor`);
    covered = end;
    last = key;
  }
  if (covered !== size)
    throw new SyntaxError(`the last ${size - covered} of ${size} bytes of the buffer belong to no tensor`);
}

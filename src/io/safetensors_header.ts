/** Parses and checks the header of a safetensors file. */

import { isObject } from "./config.ts";
import { BITS, type StoredDType, isStoredDType } from "./dtype.ts";
import { brief, JsonReader, quote } from "./json.ts";

/** A tensor in a file. */
export interface TensorEntry {
  /** Format of its elements. */
  readonly dtype: StoredDType;
  /** Its extents. */
  readonly shape: readonly number[];
  /** Length in bytes. */
  readonly bytes: number;
  /** Path of the file that holds it. */
  readonly file: string;
  /** Byte of that file at which it begins. */
  readonly position: number;
}

/** A parsed header. */
export interface Header {
  tensors: Map<string, TensorEntry>;
  metadata: Record<string, string>;
}

/** The buffer after the header. */
export interface BufferRange {
  /** Path of the file. */
  readonly file: string;
  /** Byte of the file at which it begins. */
  readonly start: number;
  /** Length in bytes. */
  readonly size: number;
}

/** Most JSON values in the entry of a tensor and in the metadata: larger ones are refused before they fill the memory. */
const MAX_ENTRY_VALUES = 1000;
const MAX_METADATA_VALUES = 100_000;
/** After a wrong entry so many keys more are read: that the text is no JSON is the better message. */
const LOOKAHEAD = 1000;

/** Parses a header, and checks every rule of the format. Throws a SyntaxError without the file's name. */
export function parseHeader(bytes: Uint8Array, buffer: BufferRange): Header {
  if (bytes[0] !== 0x7b) {
    const found =
      bytes.length === 0 ? "is empty" : `begins with byte 0x${bytes[0].toString(16).padStart(2, "0")}`;
    throw new SyntaxError(`the header ${found}, expected '{'`);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SyntaxError("the header is not valid UTF-8");
  }
  const header = parse(text, buffer);
  checkCover(header.tensors, buffer);
  return header;
}

/** Checks each entry as it is parsed. */
function parse(text: string, buffer: BufferRange): Header {
  const tensors = new Map<string, TensorEntry>();
  const otherKeys = new Set<string>(); // of the metadata, and of entries that were not kept
  let metadata: Record<string, string> = {};
  let firstError: unknown;
  const json = new JsonReader(text);
  try {
    json.members((key, position) => {
      if (tensors.has(key) || otherKeys.has(key)) throw json.duplicateKey(key, position);
      const isMetadata = key === "__metadata__";
      const value = json.value(1, isMetadata ? MAX_METADATA_VALUES : MAX_ENTRY_VALUES);
      if (isMetadata || firstError) otherKeys.add(key);
      try {
        if (isMetadata) metadata = parseMetadata(value);
        else if (!firstError) tensors.set(key, parseEntry(key, value, buffer));
      } catch (error) {
        firstError ??= error;
        otherKeys.add(key);
      }
      return otherKeys.size <= LOOKAHEAD;
    });
    if (otherKeys.size <= LOOKAHEAD) json.end();
  } catch (cause) {
    throw new SyntaxError(`the header is not valid JSON, ${(cause as Error).message}`);
  }
  if (firstError) throw firstError;
  return { tensors, metadata };
}

function parseMetadata(value: unknown): Record<string, string> {
  if (value === undefined)
    throw new SyntaxError(`__metadata__ holds more than ${MAX_METADATA_VALUES - 1} values`);
  if (value === null) return {}; // as the reference implementation reads it
  if (!isObject(value)) throw new SyntaxError("__metadata__ is not an object");
  for (const [key, text] of Object.entries(value)) {
    if (typeof text === "string") continue;
    throw new SyntaxError(`__metadata__ ${quote(key)} is ${brief(text)}, expected a string`);
  }
  return value as Record<string, string>;
}

function parseEntry(key: string, value: unknown, { file, start, size }: BufferRange): TensorEntry {
  const fail = (message: string): never => {
    throw new SyntaxError(`tensor ${quote(key)} ${message}`);
  };
  if (value === undefined) return fail(`holds more than ${MAX_ENTRY_VALUES - 1} values`);
  if (!isObject(value)) return fail(`is ${brief(value)}, expected an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isStoredDType(dtype))
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
  return { dtype, shape, bytes: end - begin, file, position: start + begin };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** Throws unless the tensors, sorted by position, cover the buffer without gap or overlap. */
function checkCover(tensors: Map<string, TensorEntry>, { start, size }: BufferRange): void {
  // Most files are in order: sorting a million entries would take time and memory for nothing.
  let [ordered, before] = [true, 0];
  for (const { position, bytes } of tensors.values()) {
    ordered &&= position >= before;
    before = position + bytes;
  }
  const sorted = ordered
    ? tensors
    : [...tensors].sort(([, a], [, b]) => a.position - b.position || a.bytes - b.bytes);
  let covered = 0;
  let last = "";
  for (const [key, { position, bytes }] of sorted) {
    const begin = position - start;
    if (begin < covered) {
      throw new SyntaxError(
        `tensor ${quote(key)} begins at byte ${begin}, inside ${quote(last)}, which ends at ${covered}`,
      );
    }
    if (begin > covered)
      throw new SyntaxError(`bytes ${covered} to ${begin} before tensor ${quote(key)} belong to no tensor`);
    covered = begin + bytes;
    last = key;
  }
  if (covered !== size)
    throw new SyntaxError(`the last ${size - covered} of ${size} bytes of the buffer belong to no tensor`);
}

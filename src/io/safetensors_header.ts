/** The header of a safetensors file: JSON in, checked entries out. */

import { isObject } from "./config.ts";
import { BITS, type StoredDType, isStoredDType } from "./dtype.ts";
import { brief, JsonReader, quote } from "./json.ts";

export interface TensorEntry {
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** The file that holds it, and where in that file its bytes begin. */
  readonly file: string;
  readonly position: number;
}

export interface Header {
  tensors: Map<string, TensorEntry>;
  metadata: Record<string, string>;
}

/** The buffer behind the header: its file, where it begins there, and its bytes. */
export interface Place {
  readonly file: string;
  readonly start: number;
  readonly size: number;
}

/** More values than any tensor or its metadata has; a header that holds more is refused before it fills the memory. */
const MOST_OF_TENSOR = 1000;
const MOST_OF_METADATA = 100_000;
/** After a wrong tensor the header is read on for so many: text that is no JSON is the better reason. */
const READ_ON = 1000;

/** Checks every rule of the format. Throws without the file's name. */
export function parseHeader(bytes: Uint8Array, place: Place): Header {
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
  const header = parse(text, place);
  checkCover(header.tensors, place);
  return header;
}

/** Each tensor is checked as it is read. */
function parse(text: string, place: Place): Header {
  const tensors = new Map<string, TensorEntry>();
  const more = new Set<string>(); // keys that are no tensor
  let metadata: Record<string, string> = {};
  let wrong: unknown;
  const json = new JsonReader(text);
  try {
    json.members((key, position) => {
      if (tensors.has(key) || more.has(key)) throw json.twice(key, position);
      const isMetadata = key === "__metadata__";
      const value = json.value(1, isMetadata ? MOST_OF_METADATA : MOST_OF_TENSOR);
      if (isMetadata || wrong) more.add(key);
      try {
        if (isMetadata) metadata = parseMetadata(value);
        else if (!wrong) tensors.set(key, parseEntry(key, value, place));
      } catch (error) {
        wrong ??= error;
        more.add(key);
      }
      return more.size <= READ_ON;
    });
    if (more.size <= READ_ON) json.end();
  } catch (cause) {
    throw new SyntaxError(`the header is not valid JSON, ${(cause as Error).message}`);
  }
  if (wrong) throw wrong;
  return { tensors, metadata };
}

function parseMetadata(value: unknown): Record<string, string> {
  if (value === undefined)
    throw new SyntaxError(`__metadata__ holds more than ${MOST_OF_METADATA - 1} values`);
  if (value === null) return {}; // as the library itself reads it
  if (!isObject(value)) throw new SyntaxError("__metadata__ is not an object");
  for (const [key, text] of Object.entries(value)) {
    if (typeof text === "string") continue;
    throw new SyntaxError(`__metadata__ ${quote(key)} is ${brief(text)}, expected a string`);
  }
  return value as Record<string, string>;
}

function parseEntry(key: string, value: unknown, { file, start, size }: Place): TensorEntry {
  const fail = (message: string): never => {
    throw new SyntaxError(`tensor ${quote(key)} ${message}`);
  };
  if (value === undefined) return fail(`holds more than ${MOST_OF_TENSOR - 1} values`);
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

/** The tensors, sorted by place, must follow one another from the first byte of the buffer to its last. */
function checkCover(tensors: Map<string, TensorEntry>, { start, size }: Place): void {
  // Most files are in order; a million pairs to sort would take their room and time.
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

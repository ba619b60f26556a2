/** The directory of a ZIP archive whose entries are stored, not compressed, as PyTorch writes them; ZIP64 as well. */
import type { RangedFile } from "../host/host.ts";
import { quote } from "./json.ts";

/** An entry of an archive. */
export interface ZipEntry {
  /** Path inside the archive. */
  readonly name: string;
  /** Length in bytes. */
  readonly bytes: number;
  /** Byte of the file at which its local header begins. */
  readonly header: number;
  /** Why its content cannot be read. */
  readonly refused?: string;
}

const END = 0x06054b50;
const END_BYTES = 22;
const LOCATOR64 = 0x07064b50;
const LOCATOR64_BYTES = 20;
const END64 = 0x06064b50;
const END64_BYTES = 56;
const ENTRY = 0x02014b50;
const ENTRY_BYTES = 46;
const LOCAL = 0x04034b50;
const LOCAL_BYTES = 30;
/** The end may be followed by a comment of so many bytes. */
const MAX_COMMENT = 65_535;
/** A directory of a million entries is as long. */
const MAX_DIRECTORY = 100_000_000;

const fail = (why: string): never => {
  throw new SyntaxError(why);
};

/** The entries by name. Throws a SyntaxError without the file's name. */
export async function readZip(file: RangedFile): Promise<Map<string, ZipEntry>> {
  const { count, start, size } = await findDirectory(file);
  const directory = await bytesAt(file, start, size);
  const view = viewOf(directory);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + ENTRY_BYTES > size || view.getUint32(at, true) !== ENTRY)
      fail(`its directory has ${i} of ${count} entries`);
    const lengths = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const next = at + ENTRY_BYTES + lengths[0] + lengths[1] + lengths[2];
    if (next > size) fail(`its directory ends inside entry ${i}`);
    const from = at + ENTRY_BYTES;
    const name = new TextDecoder().decode(directory.subarray(from, from + lengths[0]));
    const entry = parseEntry(directory, at, name, from + lengths[0], lengths[1]);
    if (entry.header > file.size || entry.bytes > file.size - entry.header)
      fail(
        `its entry ${quote(name)} of ${entry.bytes} bytes at ${entry.header} is beyond its end, ${file.size}`,
      );
    if (entries.has(name)) fail(`it has two entries ${quote(name)}`);
    entries.set(name, entry);
    at = next;
  }
  return entries;
}

/** Byte of the file at which the content of an entry begins. */
export async function contentOf(
  file: RangedFile,
  { name, bytes, header, refused }: ZipEntry,
): Promise<number> {
  if (refused) fail(`its entry ${quote(name)} is ${refused}`);
  const view = viewOf(await bytesAt(file, header, LOCAL_BYTES));
  if (view.getUint32(0, true) !== LOCAL) fail(`its entry ${quote(name)} does not begin at byte ${header}`);
  const start = header + LOCAL_BYTES + view.getUint16(26, true) + view.getUint16(28, true);
  if (start + bytes > file.size) fail(`its entry ${quote(name)} is cut off`);
  return start;
}

function parseEntry(
  bytes: Uint8Array,
  at: number,
  name: string,
  extra: number,
  extraBytes: number,
): ZipEntry {
  const view = viewOf(bytes);
  const method = view.getUint16(at + 10, true);
  // Fields of all ones stand in the ZIP64 field, in this order.
  const wide = wideFields(bytes, extra, extra + extraBytes);
  const field = (offset: number) => {
    const value = view.getUint32(at + offset, true);
    return value < 0xffffffff
      ? value
      : (wide.shift() ?? fail(`its entry ${quote(name)} lacks a ZIP64 length`));
  };
  const [size, packed, header] = [field(24), field(20), field(42)];
  if (view.getUint16(at + 8, true) & 1) return { name, bytes: size, header, refused: "encrypted" };
  if (method !== 0)
    return { name, bytes: packed, header, refused: `compressed (method ${method}), stored ones expected` };
  if (size !== packed) fail(`its entry ${quote(name)} is stored, but has two lengths: ${packed} and ${size}`);
  return { name, bytes: size, header };
}

/** The 64-bit numbers of the ZIP64 field. */
function wideFields(bytes: Uint8Array, start: number, end: number): number[] {
  const view = viewOf(bytes);
  for (let at = start; at + 4 <= end; ) {
    const [id, length] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    const from = at + 4;
    if (id === 1 && from + length <= end)
      return Array.from({ length: length >> 3 }, (_, i) => wideNumber(view, from + 8 * i));
    at = from + length;
  }
  return [];
}

const wideNumber = (view: DataView, at: number): number => {
  const value = view.getBigUint64(at, true);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : fail("it has a length beyond 2^53");
};

async function findDirectory(file: RangedFile): Promise<{ count: number; start: number; size: number }> {
  const tail = Math.min(file.size, END_BYTES + MAX_COMMENT);
  const bytes = await bytesAt(file, file.size - tail, tail);
  const view = viewOf(bytes);
  let end = tail - END_BYTES;
  while (end >= 0 && view.getUint32(end, true) !== END) end--;
  if (end < 0) return fail("its directory is missing: it is cut off");
  let [count, size, start] = [
    view.getUint16(end + 10, true),
    view.getUint32(end + 12, true),
    view.getUint32(end + 16, true),
  ];
  const endAt = file.size - tail + end;
  const locator =
    endAt < LOCATOR64_BYTES
      ? undefined
      : viewOf(await bytesAt(file, endAt - LOCATOR64_BYTES, LOCATOR64_BYTES));
  if (locator?.getUint32(0, true) === LOCATOR64) {
    const at = wideNumber(locator, 8);
    if (at > file.size - END64_BYTES) fail("its ZIP64 directory is beyond its end");
    const wide = viewOf(await bytesAt(file, at, END64_BYTES));
    if (wide.getUint32(0, true) !== END64) fail("its ZIP64 directory is missing");
    [count, size, start] = [wideNumber(wide, 32), wideNumber(wide, 40), wideNumber(wide, 48)];
  }
  if (size > MAX_DIRECTORY) fail(`its directory is ${size} bytes, at most ${MAX_DIRECTORY} are allowed`);
  if (start > endAt || size > endAt - start) fail("its directory is beyond its end");
  return { count, start, size };
}

async function bytesAt(file: RangedFile, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await file.read(bytes, position);
  return bytes;
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

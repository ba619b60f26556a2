/** Pickles and PyTorch archives put together by hand, and a host that opens bytes. */
import { currentHost } from "../src/host/current.ts";
import type { Host, RangedFile } from "../src/host/host.ts";

const latin1 = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));

/** Bytes of parts: text as Latin-1. */
export function bytesOf(...parts: readonly (string | Uint8Array | number)[]): Uint8Array {
  return Uint8Array.from(
    parts.flatMap((part) =>
      typeof part === "number" ? [part] : [...(typeof part === "string" ? latin1(part) : part)],
    ),
  );
}

export const u16 = (value: number) => new Uint8Array(Uint16Array.of(value).buffer);
export const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
export const u64 = (value: number | bigint) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);

/** Opcodes for a string, a whole number and a tuple of three or fewer. */
export const str = (text: string) => bytesOf("X", u32(text.length), text);
export const int = (value: number) =>
  bytesOf("\x8a\x08", new Uint8Array(BigInt64Array.of(BigInt(value)).buffer));
export const tuple = (...items: readonly Uint8Array[]) => bytesOf("(", ...items, "t");
export const global = (module: string, name: string) => bytesOf(`c${module}\n${name}\n`);

/** Opcodes for a tensor as PyTorch writes it. */
export function tensor(
  shape: readonly number[],
  strides: readonly number[],
  {
    offset = 0,
    count = 6,
    key = "0",
    type = global("torch", "FloatStorage"),
    call = "_rebuild_tensor_v2",
  } = {},
): Uint8Array {
  const storage = bytesOf(tuple(str("storage"), type, str(key), str("cpu"), int(count)), "Q");
  const hooks = bytesOf(global("collections", "OrderedDict"), ")R");
  const args = tuple(
    storage,
    int(offset),
    tuple(...shape.map(int)),
    tuple(...strides.map(int)),
    bytesOf("\x89"),
    hooks,
  );
  return bytesOf(global("torch._utils", call), args, "R");
}

/** A pickle of a dict with one entry "a". */
export const dictOf = (value: Uint8Array) => bytesOf("\x80\x02}", str("a"), value, "s.");

interface Member {
  readonly name: string;
  readonly content: Uint8Array;
}

/** A ZIP archive of stored members. `wide`: with ZIP64 lengths; `gap`: bytes that stand before each as zeros and are left out. */
export function zip(
  members: readonly Member[],
  { wide = false, gap = 0 } = {},
): { bytes: Uint8Array; skips: number[] } {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  const skips: number[] = [];
  let at = 0;
  const add = (part: Uint8Array) => {
    parts.push(part);
    at += part.length;
  };
  for (const { name, content } of members) {
    skips.push(parts.reduce((sum, part) => sum + part.length, 0));
    at += gap;
    const header = at;
    add(bytesOf("PK\x03\x04", u16(45), new Uint8Array(16), u32(0), u16(name.length), u16(0), name));
    add(content);
    const all = 0xffffffff;
    const extra = wide
      ? bytesOf(u16(1), u16(24), u64(content.length), u64(content.length), u64(header))
      : bytesOf();
    const [size, place] = wide ? [all, all] : [content.length, header];
    directory.push(
      bytesOf(
        ...["PK\x01\x02", u16(45), u16(45), new Uint8Array(12), u32(size), u32(size)],
        ...[u16(name.length), u16(extra.length), new Uint8Array(10), u32(place), name, extra],
      ),
    );
  }
  const start = at;
  for (const part of directory) add(part);
  const size = at - start;
  if (wide) {
    const end = at;
    add(
      bytesOf(
        ...["PK\x06\x06", u64(44), u16(45), u16(45), u32(0), u32(0)],
        ...[u64(members.length), u64(members.length), u64(size), u64(start)],
      ),
    );
    add(bytesOf("PK\x06\x07", u32(0), u64(end), u32(1)));
  }
  const [n, s, p] = wide ? [0xffff, 0xffffffff, 0xffffffff] : [members.length, size, start];
  add(bytesOf("PK\x05\x06", u16(0), u16(0), u16(n), u16(n), u32(s), u32(p), u16(0)));
  return { bytes: bytesOf(...parts), skips };
}

/** An archive as torch.save() writes it: a pickle, and storages by key. */
export const archive = (
  pickle: Uint8Array,
  storages: Readonly<Record<string, Uint8Array>> = {},
  wide = false,
) =>
  zip(
    [
      { name: "archive/data.pkl", content: pickle },
      { name: "archive/byteorder", content: bytesOf("little") },
      ...Object.entries(storages).map(([key, content]) => ({ name: `archive/data/${key}`, content })),
    ],
    { wide },
  ).bytes;

/** Six floats, 0 to 5. */
export const six = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);

const host = await currentHost();

/** A file of these bytes. */
export const inMemory = (bytes: Uint8Array): RangedFile => ({
  size: bytes.length,
  async read(into, position) {
    if (position + into.length > bytes.length)
      throw new Error(`Cannot read x.bin: it ends at byte ${bytes.length}, too early`);
    into.set(bytes.subarray(position, position + into.length));
  },
  async close() {},
});

/** A host for which every path is the file. */
export const hostOf = (file: RangedFile): Host => ({
  ...host,
  kind: async () => "file",
  open: async () => file,
});

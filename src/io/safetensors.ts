/**
 * Reads safetensors, tensor by tensor.
 *
 * A file is an 8-byte length, a JSON header and a buffer that the tensors fill without gap or overlap. All rules of the format
 * are checked before the first tensor is read. A model may be in several files (shards) with an index file beside them.
 */

import type { Host, RangedFile } from "../host/host.ts";
import { toF32 } from "./dtype.ts";
import { HEAD_BYTES, kindOfFile } from "./file_kinds.ts";
import { quote } from "./json.ts";
import { parseHeader, type TensorEntry } from "./safetensors_header.ts";
import { object, readJsonAs, record, text } from "./schema.ts";

export type { TensorEntry };

/** An open safetensors file, or several shards as one. */
export interface Safetensors {
  /** Tensors by key, in the order of the header, shard after shard. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** `__metadata__` of the header. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Fills `into` with the bytes of a tensor from `byteOffset` on. Throws a RangeError where the tensor is absent or shorter. */
  read(key: string, into: Uint8Array, byteOffset?: number): Promise<void>;
  /** Closes the files. */
  close(): Promise<void>;
}

/**
 * Opens a file, an `*.index.json`, or a folder with `model.safetensors`, `model.safetensors.index.json` or a single
 * `*.safetensors`. Throws one line that names the file, the tensor, what is and what should be.
 *
 * @example
 * ```ts
 * const file = await openSafetensors(host, bundledModel());
 * const entry = file.tensors.get("lm_head.bias");
 * console.log(entry?.dtype, entry?.shape, entry?.bytes); // F32 [32] 128
 * console.log((await readF32(file, "lm_head.bias")).length); // 32
 * await file.close();
 * ```
 */
export async function openSafetensors(host: Host, path: string): Promise<Safetensors> {
  const target = (await host.kind(path)) === "directory" ? await findIn(host, path) : path;
  const weightMap = target.endsWith(".json") ? await readIndex(host, target) : undefined;
  const shards = weightMap ? [...new Set(weightMap.values())].map((name) => beside(target, name)) : [target];
  const files = new Map<string, RangedFile>();
  const close = async () => {
    for (const file of files.values()) await file.close();
  };
  let tensors = new Map<string, TensorEntry>();
  const metadata: Record<string, string> = {};
  try {
    for (const shard of shards) {
      const file = await host.open(shard);
      files.set(shard, file);
      const header = await readHeader(file, shard);
      Object.assign(metadata, header.metadata);
      if (tensors.size === 0) tensors = header.tensors;
      else addShard(tensors, header.tensors);
    }
    if (weightMap) checkIndex(target, weightMap, tensors);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    tensors,
    metadata,
    async read(key, into, byteOffset = 0) {
      const entry = tensors.get(key);
      if (!entry) throw new RangeError(`Cannot read tensor ${quote(key)}: ${path} does not hold it`);
      if (byteOffset < 0 || byteOffset + into.length > entry.bytes) {
        throw new RangeError(
          `Cannot read tensor ${quote(key)}: bytes ${byteOffset} to ${byteOffset + into.length} wanted, it has ${entry.bytes}`,
        );
      }
      await files.get(entry.file)!.read(into, entry.position + byteOffset);
    },
    close,
  };
}

function addShard(tensors: Map<string, TensorEntry>, more: ReadonlyMap<string, TensorEntry>): void {
  for (const [key, entry] of more) {
    const other = tensors.get(key);
    if (other)
      throw new SyntaxError(`Cannot read ${entry.file}: tensor ${quote(key)} is also in ${other.file}`);
    tensors.set(key, entry);
  }
}

/** Reads a tensor as float32 into host memory. Throws a RangeError where it is absent, a TypeError for formats of toF32(). */
export async function readF32(file: Safetensors, key: string): Promise<Float32Array> {
  const entry = file.tensors.get(key);
  const bytes = new Uint8Array(entry?.bytes ?? 0);
  await file.read(key, bytes);
  return toF32(entry!.dtype, bytes);
}

async function readHeader(file: RangedFile, path: string) {
  if (file.size < 8) {
    throw new SyntaxError(
      `Cannot read ${path}: the file is ${file.size} bytes, at least 8 for the header length expected`,
    );
  }
  const prefix = new Uint8Array(8);
  await file.read(prefix, 0);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  // Taken as a length, the first bytes of other formats are above 10^12, those of ZIP, which PyTorch writes, 67 million.
  const absurd = length > BigInt(Math.max(file.size, 6e7));
  const kind = absurd ? await kindOfHead(file) : undefined;
  if (kind) throw new SyntaxError(`Cannot read ${path}: it is ${kind}, expected safetensors`);
  if (length > 100_000_000n) {
    throw new SyntaxError(
      `Cannot read ${path}: the header is ${length} bytes, at most 100000000 are allowed`,
    );
  }
  if (Number(length) > file.size - 8) {
    throw new SyntaxError(
      `Cannot read ${path}: the header is ${length} bytes, but only ${file.size - 8} follow its length`,
    );
  }
  const header = new Uint8Array(Number(length));
  await file.read(header, 8);
  const start = 8 + header.length;
  try {
    return parseHeader(header, { file: path, start, size: file.size - start });
  } catch (cause) {
    throw new SyntaxError(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** The format of a file that is no safetensors file; undefined where unknown. */
async function kindOfHead(file: RangedFile): Promise<string | undefined> {
  const head = new Uint8Array(Math.min(HEAD_BYTES, file.size));
  await file.read(head, 0);
  return kindOfFile(head);
}

/** The path of the file `name` in the folder of `path`. */
const beside = (path: string, name: string) => `${path.slice(0, path.search(/[^/\\]*$/))}${name}`;

async function findIn(host: Host, folder: string): Promise<string> {
  const names = await host.list(folder);
  const found = ["model.safetensors", "model.safetensors.index.json"].find((name) => names.includes(name));
  const others = names.filter((name) => name.endsWith(".safetensors"));
  if (found || others.length === 1) return `${folder}/${found ?? others[0]}`;
  const there = others.length > 0 ? `it holds ${others.join(", ")}` : "it holds no *.safetensors";
  const bin = names.includes("pytorch_model.bin") ? "; save pytorch_model.bin as safetensors first" : "";
  throw new Error(
    `Cannot open ${folder}: ${there}, expected model.safetensors or model.safetensors.index.json${bin}`,
  );
}

const indexSchema = object({
  weight_map: record(text("the name of a *.safetensors beside it", /^[^/\\\0]+\.safetensors$/)),
});

/** File names by key. */
async function readIndex(host: Host, path: string): Promise<Map<string, string>> {
  return new Map(Object.entries((await readJsonAs(host, path, indexSchema)).weight_map));
}

function checkIndex(path: string, weightMap: Map<string, string>, tensors: Map<string, TensorEntry>): void {
  for (const [key, name] of weightMap) {
    const found = tensors.get(key)?.file;
    if (found === beside(path, name)) continue;
    const where = found === undefined ? "no shard holds it" : `it is in ${found}`;
    throw new SyntaxError(
      `Cannot read ${path}: weight_map says that ${quote(key)} is in ${name}, but ${where}`,
    );
  }
  for (const [key, { file }] of tensors) {
    if (!weightMap.has(key)) {
      throw new SyntaxError(`Cannot read ${path}: weight_map lacks ${quote(key)}, which ${file} holds`);
    }
  }
}

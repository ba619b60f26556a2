/**
 * Reads safetensors, tensor by tensor.
 *
 * A file is an 8-byte length, a JSON header and a buffer that the tensors fill without gap or overlap. All rules of the format
 * are checked before the first tensor is read. A model may be in several files (shards) with an index file beside them.
 */

import type { Host, RangedFile } from "../host/host.ts";
import { toF32 } from "./dtype.ts";
import { HEAD_BYTES, kindOfFile } from "./file_kinds.ts";
import { parseHeader, type TensorEntry } from "./safetensors_header.ts";
import { type FileContent, type FileFormat, openFiles, type Safetensors } from "./tensor_files.ts";

export type { Safetensors, TensorEntry };

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
  return await openFiles(host, path, target, SAFETENSORS);
}

/** The format of safetensors files. */
export const SAFETENSORS: FileFormat = {
  extension: ".safetensors",
  async open(file, path): Promise<FileContent> {
    const { tensors, metadata } = await readHeader(file, path);
    return {
      tensors,
      metadata,
      read: (key, into, byteOffset) => file.read(into, tensors.get(key)!.position + byteOffset),
    };
  },
};

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

/** Names of a model's weights, the first before the second. */
export const WHOLE: readonly string[] = ["model.safetensors", "model.safetensors.index.json"];

async function findIn(host: Host, folder: string): Promise<string> {
  const names = await host.list(folder);
  const found = WHOLE.find((name) => names.includes(name));
  const others = names.filter((name) => name.endsWith(".safetensors"));
  if (found || others.length === 1) return `${folder}/${found ?? others[0]}`;
  const there = others.length > 0 ? `it holds ${others.join(", ")}` : "it holds no *.safetensors";
  const bin = names.includes("pytorch_model.bin")
    ? "; wavegate convert makes safetensors of pytorch_model.bin"
    : "";
  throw new Error(
    `Cannot open ${folder}: ${there}, expected model.safetensors or model.safetensors.index.json${bin}`,
  );
}

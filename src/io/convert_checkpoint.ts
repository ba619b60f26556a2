/** Writes the weights of a model folder as safetensors, in the layout of Hugging Face, with the small files beside them. */
import type { Host } from "../host/host.ts";
import { openCheckpoint } from "./checkpoint.ts";
import type { TensorEntry } from "./safetensors_header.ts";
import { type TensorSource, writeSafetensors } from "./safetensors_writer.ts";
import type { Safetensors } from "./tensor_files.ts";
import { writeWhole } from "./write_whole.ts";

/** Largest shard, as of transformers. */
const MAX_SHARD_BYTES = 5e9;
/** Bytes of a tensor that are in memory at a time. */
const PIECE = 8 * 2 ** 20;
/** Larger files are no config and no tokenizer. */
const MAX_COPIED_BYTES = 100 * 2 ** 20;

/** Options of convertCheckpoint(). */
export interface ConvertOptions {
  /** Most bytes of tensors in a file, 5 GB by default; one tensor is never divided. */
  readonly maxShardBytes?: number;
  /** Told how many bytes of tensors are written. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Stops the conversion at the next tensor, and throws its reason. */
  readonly signal?: AbortSignal;
}

/** What convertCheckpoint() wrote. */
export interface Conversion {
  /** Names of the files with tensors. */
  readonly files: readonly string[];
  /** How many they hold. */
  readonly tensors: number;
  /** Of all tensors. */
  readonly bytes: number;
  /** Names of the files that were copied. */
  readonly copied: readonly string[];
  /** Names in the folder that were not. */
  readonly left: readonly string[];
  /** What the checkpoint holds besides tensors, which safetensors does not hold. */
  readonly dropped: readonly string[];
  /** Keys of the tensors that lie in the storage of one before, and are written once more. */
  readonly shared: readonly string[];
}

/**
 * Converts `from`, a checkpoint or a folder with one, to the folder `to`, which appears when complete; configs and tokenizers are
 * copied. Throws where `to` holds anything, and where `from` has safetensors already.
 */
export async function convertCheckpoint(
  host: Host,
  from: string,
  to: string,
  { maxShardBytes = MAX_SHARD_BYTES, onProgress, signal }: ConvertOptions = {},
): Promise<Conversion> {
  await requireAbsent(host, to);
  const file = await openCheckpoint(host, from);
  const partial = `${to}.partial`;
  let begun = false;
  try {
    const [first] = file.tensors.values();
    if (first?.file.endsWith(".safetensors"))
      throw new Error(`Cannot convert ${from}: ${first.file} is safetensors already`);
    if ((await host.kind(partial)) !== undefined)
      throw new Error(`Cannot convert to ${to}: ${partial} of another conversion is there; remove it`);
    const names = (await host.kind(from)) === "directory" ? await host.list(from) : [];
    begun = true;
    await host.makeDirectory(partial);
    const { copied, left } = await copySmallFiles(host, from, names, partial);
    const written = await writeShards(host, partial, file, { maxShardBytes, onProgress, signal });
    await host.remove(to); // an empty folder
    await host.rename(partial, to);
    return { ...written, copied, left, dropped: file.dropped ?? [], shared: sharedKeys(file.tensors) };
  } catch (error) {
    if (begun) await host.remove(partial);
    throw error;
  } finally {
    await file.close();
  }
}

async function requireAbsent(host: Host, to: string): Promise<void> {
  const kind = await host.kind(to);
  if (kind === "file") throw new Error(`Cannot write ${to}: a file is there, and a folder wanted`);
  if (kind === "directory" && (await host.list(to)).length > 0)
    throw new Error(`Cannot write ${to}: it is no empty folder`);
}

/** Configs, vocabularies and texts. */
const SMALL = /\.(json|jsonl|txt|model|md|jinja)$|^LICEN[CS]E$/i;

async function copySmallFiles(
  host: Host,
  from: string,
  names: readonly string[],
  to: string,
): Promise<{ copied: string[]; left: string[] }> {
  const [copied, left]: string[][] = [[], []];
  for (const name of names) {
    if (/^pytorch_model(-\d+-of-\d+)?\.bin$|\.index\.json$/.test(name)) continue;
    const path = `${from}/${name}`;
    if (SMALL.test(name) && (await host.entry(path))?.kind === "file" && (await isSmall(host, path))) {
      await writeWhole(host, `${to}/${name}`, await host.readBytes(path));
      copied.push(name);
    } else left.push(name);
  }
  return { copied, left };
}

async function isSmall(host: Host, path: string): Promise<boolean> {
  const file = await host.open(path);
  await file.close();
  return file.size <= MAX_COPIED_BYTES;
}

async function writeShards(
  host: Host,
  folder: string,
  file: Safetensors,
  { maxShardBytes, onProgress, signal }: ConvertOptions & { readonly maxShardBytes: number },
): Promise<Pick<Conversion, "files" | "tensors" | "bytes">> {
  const entries = [...file.tensors];
  const shards: (typeof entries)[] = [[]];
  let size = 0;
  for (const each of entries) {
    const { bytes } = each[1];
    if (size > 0 && size + bytes > maxShardBytes) {
      shards.push([]);
      size = 0;
    }
    shards[shards.length - 1].push(each);
    size += bytes;
  }
  const total = entries.reduce((sum, [, { bytes }]) => sum + bytes, 0);
  let done = 0;
  const source = ([key, { dtype, shape, bytes }]: [string, TensorEntry]): TensorSource => ({
    ...{ key, dtype, shape },
    async *data() {
      for (let at = 0; at < bytes; at += PIECE) {
        signal?.throwIfAborted();
        const piece = new Uint8Array(Math.min(PIECE, bytes - at));
        await file.read(key, piece, at);
        yield piece;
        done += piece.length;
        onProgress?.(done, total);
      }
    },
  });
  const pad = (n: number) => `${n}`.padStart(5, "0");
  const names = shards.map((_, i) =>
    shards.length === 1 ? "model.safetensors" : `model-${pad(i + 1)}-of-${pad(shards.length)}.safetensors`,
  );
  for (const [i, shard] of shards.entries())
    await writeSafetensors(host, `${folder}/${names[i]}`, shard.map(source), { format: "pt" });
  if (shards.length > 1) {
    const places = shards.flatMap((shard, i) => shard.map(([key]) => [key, names[i]] as const));
    const sorted = places.sort(([a], [b]) => (a < b ? -1 : 1));
    const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(sorted) };
    await writeWhole(
      host,
      `${folder}/model.safetensors.index.json`,
      `${JSON.stringify(index, undefined, 2)}\n`,
    );
  }
  return { files: names, tensors: entries.length, bytes: total };
}

/** Keys of tensors that begin where one before them begins. */
function sharedKeys(tensors: Safetensors["tensors"]): string[] {
  const seen = new Set<string>();
  const shared: string[] = [];
  for (const [key, { file, position, bytes }] of tensors) {
    const place = `${position} ${file}`;
    if (bytes > 0 && seen.has(place)) shared.push(key);
    seen.add(place);
  }
  return shared;
}

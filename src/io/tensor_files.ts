/** Files of tensors as one: a single file, or shards with an index beside them, whatever their format. */
import type { Host, RangedFile } from "../host/host.ts";
import { quote } from "./json.ts";
import type { TensorEntry } from "./safetensors_header.ts";
import { object, readJsonAs, record, text } from "./schema.ts";

/** An open safetensors file, or several shards as one; openCheckpoint() opens PyTorch's own files as the same. */
export interface Safetensors {
  /** Tensors by key, in the order of the header, shard after shard. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** `__metadata__` of the header. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What PyTorch's files hold besides tensors, which is left out: "epoch, 3". */
  readonly dropped?: readonly string[];
  /** Fills `into` with the bytes of a tensor from `byteOffset` on. Throws a RangeError where the tensor is absent or shorter. */
  read(key: string, into: Uint8Array, byteOffset?: number): Promise<void>;
  /** Closes the files. */
  close(): Promise<void>;
}

/** What one file holds. */
export interface FileContent {
  readonly tensors: Map<string, TensorEntry>;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly dropped?: readonly string[];
  /** Fills `into` with the bytes of a tensor from `byteOffset` on; both are in range. */
  read(key: string, into: Uint8Array, byteOffset: number): Promise<void>;
}

/** A format of files. */
export interface FileFormat {
  /** Of its files, with the dot. */
  readonly extension: string;
  /** Reads what an open file holds. */
  open(file: RangedFile, path: string): Promise<FileContent>;
}

/** Opens `target`, a file or an index of shards. `path` is what the user named. */
export async function openFiles(
  host: Host,
  path: string,
  target: string,
  format: FileFormat,
): Promise<Safetensors> {
  const weightMap = target.endsWith(".json") ? await readIndex(host, target, format) : undefined;
  const shards = weightMap ? [...new Set(weightMap.values())].map((name) => beside(target, name)) : [target];
  const files: RangedFile[] = [];
  const contents = new Map<string, FileContent>();
  const close = async () => {
    for (const file of files) await file.close();
  };
  let tensors = new Map<string, TensorEntry>();
  const metadata: Record<string, string> = {};
  const dropped: string[] = [];
  try {
    for (const shard of shards) {
      const file = await host.open(shard);
      files.push(file);
      const content = await format.open(file, shard);
      contents.set(shard, content);
      Object.assign(metadata, content.metadata);
      dropped.push(...(content.dropped ?? []));
      if (tensors.size === 0) tensors = content.tensors;
      else addShard(tensors, content.tensors);
    }
    if (weightMap) checkIndex(target, weightMap, tensors);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    tensors,
    metadata,
    dropped,
    async read(key, into, byteOffset = 0) {
      const entry = tensors.get(key);
      if (!entry) throw new RangeError(`Cannot read tensor ${quote(key)}: ${path} does not hold it`);
      if (byteOffset < 0 || byteOffset + into.length > entry.bytes) {
        throw new RangeError(
          `Cannot read tensor ${quote(key)}: bytes ${byteOffset} to ${byteOffset + into.length} wanted, it has ${entry.bytes}`,
        );
      }
      await contents.get(entry.file)!.read(key, into, byteOffset);
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

/** The path of the file `name` in the folder of `path`. */
const beside = (path: string, name: string) => `${path.slice(0, path.search(/[^/\\]*$/))}${name}`;

/** File names by key. */
async function readIndex(host: Host, path: string, { extension }: FileFormat): Promise<Map<string, string>> {
  const name = text(`the name of a *${extension} beside it`, new RegExp(`^[^/\\\\\\0]+\\${extension}$`));
  const schema = object({ weight_map: record(name) });
  return new Map(Object.entries((await readJsonAs(host, path, schema)).weight_map));
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

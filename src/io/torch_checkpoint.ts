/**
 * Reads checkpoints that torch.save() wrote, `pytorch_model.bin`: a ZIP archive with a pickle and a file for each storage, or in
 * the form of before torch 1.6, pickles and storages one behind the other. The pickle is read as data and executes nothing: of its
 * globals only those of a state dict of tensors are known, and any other is refused by its name.
 */
import type { RangedFile } from "../host/host.ts";
import { HEAD_BYTES, kindOfFile } from "./file_kinds.ts";
import { quote } from "./json.ts";
import {
  describePickled,
  PickleDict,
  PickleEnd,
  PickleList,
  type PickleRules,
  type PickleValue,
  readPickle,
} from "./pickle.ts";
import type { TensorEntry } from "./safetensors_header.ts";
import { plainRules, stateDictRules, type Storage, TorchTensor } from "./state_dict.ts";
import { type ByteView, byteView } from "./strided.ts";
import { contentOf, readZip, type ZipEntry } from "./zip.ts";

/** What a checkpoint holds. */
export interface TorchHeader {
  readonly tensors: Map<string, TensorEntry>;
  /** Where the bytes of each tensor lie. */
  readonly views: ReadonlyMap<string, ByteView>;
  /** What it holds besides, and no reader is given: "epoch, 3". */
  readonly dropped: readonly string[];
}

/** The pickle of an archive, and all pickles of the older form, are no longer. */
const MAX_PICKLE = 100_000_000;
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_VERSION = 1001;

const fail = (why: string): never => {
  throw new SyntaxError(why);
};

/** Reads what an open checkpoint holds. Throws a SyntaxError without the file's name. `path` is for the entries. */
export async function readTorchHeader(file: RangedFile, path: string): Promise<TorchHeader> {
  const head = new Uint8Array(Math.min(HEAD_BYTES, file.size));
  await file.read(head, 0);
  if (!isZip(head) && head[0] !== PROTO)
    fail(`it is ${kindOfFile(head) ?? "of an unknown kind"}, what torch.save() wrote expected`);
  const { state, locate } = isZip(head) ? await readArchive(file) : await readLegacy(file);
  return await collect(state, locate, path);
}

/** The opcode that pickles begin with. */
const PROTO = 0x80;
const isZip = (head: Uint8Array) => String.fromCharCode(...head.subarray(0, 4)) === "PK\x03\x04";

/**
 * Whether a file that begins with `head`, 8 bytes, may be such a checkpoint. Taken as the length of a safetensors header, those of
 * a pickle are beyond what that may be.
 */
export function mayBeTorch(head: Uint8Array): boolean {
  if (isZip(head)) return true;
  const pickled = head.length === 8 && head[0] === PROTO && head[1] >= 2 && head[1] <= 5;
  return pickled && new DataView(head.buffer, head.byteOffset).getBigUint64(0, true) > BigInt(MAX_PICKLE);
}

/** Byte of the file at which a storage begins; throws where the file lacks it or it has another length. */
type Locate = (storage: Storage) => Promise<number>;

interface State {
  readonly state: PickleValue;
  readonly locate: Locate;
}

async function readArchive(file: RangedFile): Promise<State> {
  const entries = await readZip(file);
  const main = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (main.length !== 1)
    return fail(`it is a ZIP archive of ${entries.size} entries without a data.pkl, as PyTorch writes it`);
  const root = main[0].slice(0, -"data.pkl".length);
  if (entries.has(`${root}constants.pkl`))
    fail("it is a TorchScript module, a state dict of tensors expected");
  const content = async (entry: ZipEntry, limit: number) => {
    if (entry.bytes > limit)
      fail(`its ${quote(entry.name)} is ${entry.bytes} bytes, at most ${limit} are allowed`);
    const bytes = new Uint8Array(entry.bytes);
    await file.read(bytes, await contentOf(file, entry));
    return bytes;
  };
  const order = entries.get(`${root}byteorder`);
  if (order && new TextDecoder().decode(await content(order, 100)) !== "little")
    fail("its numbers are big-endian, little-endian expected");
  const pickle = await content(entries.get(main[0])!, MAX_PICKLE);
  const { value, end } = readPickle(pickle, 0, stateDictRules(false));
  if (end < pickle.length) fail(`its pickle ends at byte ${end} of ${pickle.length}`);
  return {
    state: value,
    async locate({ key, bytes }) {
      const entry = entries.get(`${root}data/${key}`) ?? fail(`it lacks the storage ${quote(key)}`);
      checkStorage(key, entry.bytes, bytes);
      return await contentOf(file, entry);
    },
  };
}

function checkStorage(key: string, found: number, said: number): void {
  if (found !== said)
    fail(`its storage ${quote(key)} has ${found} bytes, but a tensor says that it has ${said}`);
}

/** Five pickles (magic number, version, system, state, keys of storages), then each storage behind the number of its elements. */
async function readLegacy(file: RangedFile): Promise<State> {
  for (let length = 2 ** 20; ; length *= 4) {
    const bytes = new Uint8Array(Math.min(file.size, MAX_PICKLE, length));
    await file.read(bytes, 0);
    try {
      return await readPickles(file, bytes);
    } catch (error) {
      if (!(error instanceof PickleEnd) || bytes.length < length) throw error;
    }
  }
}

async function readPickles(file: RangedFile, bytes: Uint8Array): Promise<State> {
  let at = 0;
  const next = (rules: PickleRules) => {
    const { value, end } = readPickle(bytes, at, rules);
    at = end;
    return value;
  };
  const foreign = "it is a pickle, but none that torch.save() wrote";
  let magic: PickleValue;
  try {
    magic = next(plainRules);
  } catch (error) {
    if (error instanceof PickleEnd) throw error;
    return fail(`${foreign}: ${(error as Error).message}`);
  }
  if (magic !== LEGACY_MAGIC) fail(`${foreign}: it begins with ${describePickled(magic)}`);
  const version = next(plainRules);
  if (version !== LEGACY_VERSION)
    fail(`its version is ${describePickled(version)}, ${LEGACY_VERSION} expected`);
  const system = next(plainRules);
  const little = system instanceof PickleDict ? system.entries.get("little_endian") : undefined;
  if (little !== true)
    fail(`its numbers are not said to be little-endian: little_endian is ${describePickled(little)}`);
  const rules = stateDictRules(true);
  const state = next(rules);
  const keys = next(plainRules);
  if (!(keys instanceof PickleList))
    return fail(`its storages are ${describePickled(keys)}, a list expected`);
  const places = new Map<string, number>();
  for (const key of keys.items) {
    const storage = typeof key === "string" ? rules.storages.get(key) : undefined;
    if (!storage) return fail(`it lists a storage ${describePickled(key)} of which it says nothing`);
    const count = new Uint8Array(8);
    if (at + 8 > file.size) fail(`it ends before the storage ${quote(storage.key)}`);
    await file.read(count, at);
    const elements = Number(new DataView(count.buffer).getBigInt64(0, true));
    checkStorage(storage.key, elements * storage.width, storage.bytes);
    places.set(storage.key, at + 8);
    at += 8 + storage.bytes;
    if (at > file.size) fail(`it ends inside the storage ${quote(storage.key)}`);
  }
  return {
    state,
    locate: async ({ key }) => places.get(key) ?? fail(`it lacks the storage ${quote(key)}`),
  };
}

/** The tensors of a state dict, with their places in the file. */
async function collect(state: PickleValue, locate: Locate, path: string): Promise<TorchHeader> {
  if (!(state instanceof PickleDict))
    return fail(`it holds ${describePickled(state)}, a dict of tensors expected`);
  const tensors = new Map<string, TensorEntry>();
  const views = new Map<string, ByteView>();
  const dropped: string[] = [];
  const places = new Map<Storage["key"], number>();
  for (const [key, value] of state.entries) {
    const name = typeof key === "string" ? key : describePickled(key);
    if (!(value instanceof TorchTensor) || typeof key !== "string") {
      dropped.push(`${name}, ${describePickled(value)}`);
      continue;
    }
    const { storage, dtype, shape, strides, offset, bytes, width } = value;
    let place = places.get(storage.key);
    if (place === undefined) {
      place = await locate(storage);
      places.set(storage.key, place);
    }
    const position = place + offset * width;
    tensors.set(key, { dtype, shape, bytes, file: path, position });
    views.set(key, byteView(position, shape, strides, width));
    if (value.attributes) dropped.push(`attributes of ${name}`);
  }
  if (tensors.size === 0 && state.entries.size > 0)
    fail(
      `it holds a dict of ${[...state.entries]
        .slice(0, 4)
        .map(([key, value]) => `${describePickled(key)} (${describePickled(value)})`)
        .join(", ")}, of tensors expected`,
    );
  return { tensors, views, dropped };
}

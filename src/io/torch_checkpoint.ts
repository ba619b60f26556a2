/**
 * Reads checkpoints that torch.save() wrote, `pytorch_model.bin`: a ZIP archive with a pickle and a file for each storage, or in
 * the form of before torch 1.6, pickles and storages one behind the other. The pickle is read as data and executes nothing: of its
 * globals only those of a state dict of tensors are known, and any other is refused by its name.
 */
import type { RangedFile } from "../host/host.ts";
import { BITS, type StoredDType } from "./dtype.ts";
import { HEAD_BYTES, kindOfFile } from "./file_kinds.ts";
import { quote } from "./json.ts";
import {
  describePickled,
  isTuple,
  PickleDict,
  PickleEnd,
  PickleGlobal,
  PickleList,
  type PickleObject,
  type PickleRules,
  type PickleValue,
  readPickle,
} from "./pickle.ts";
import type { TensorEntry } from "./safetensors_header.ts";
import { type ByteView, byteView } from "./strided.ts";
import { contentOf, readZip, type ZipEntry } from "./zip.ts";

/** What a checkpoint holds. */
export interface TorchHeader {
  readonly tensors: Map<string, TensorEntry>;
  /** Where the bytes of each tensor lie. */
  readonly views: ReadonlyMap<string, ByteView>;
  /** What it holds besides, and no reader is given: "epoch, an int". */
  readonly dropped: readonly string[];
}

/** Formats by the name of the class of the storage. */
const STORAGES: Readonly<Record<string, StoredDType>> = {
  "torch.FloatStorage": "F32",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
  "torch.DoubleStorage": "F64",
  "torch.LongStorage": "I64",
  "torch.IntStorage": "I32",
  "torch.ShortStorage": "I16",
  "torch.CharStorage": "I8",
  "torch.ByteStorage": "U8",
  "torch.BoolStorage": "BOOL",
  "torch.ComplexFloatStorage": "C64",
};

/** A storage without a format, whose tensors name their own. */
const UNTYPED = ["torch.storage.UntypedStorage", "torch.UntypedStorage"];

/** Formats that have no class of storage. */
const DTYPES: Readonly<Record<string, StoredDType>> = {
  "torch.uint16": "U16",
  "torch.uint32": "U32",
  "torch.uint64": "U64",
  "torch.float8_e4m3fn": "F8_E4M3",
  "torch.float8_e5m2": "F8_E5M2",
  "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
  "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
  "torch.float8_e8m0fnu": "F8_E8M0",
};

const CALLS = {
  dict: "collections.OrderedDict",
  /** Of before torch 0.4. */
  tensor1: "torch._utils._rebuild_tensor",
  tensor2: "torch._utils._rebuild_tensor_v2",
  tensor3: "torch._utils._rebuild_tensor_v3",
  parameter: "torch._utils._rebuild_parameter",
  parameterWithState: "torch._utils._rebuild_parameter_with_state",
} as const;

const KNOWN = new Set([
  ...Object.values(CALLS),
  ...Object.keys(STORAGES),
  ...UNTYPED,
  ...Object.keys(DTYPES),
] as string[]);

/** The pickle of an archive, and all pickles of the older form, are no longer. */
const MAX_PICKLE = 100_000_000;
/** A tensor may repeat the elements of its storage up to so many bytes. */
const MAX_REPEATED = 64 * 2 ** 20;
/** More axes than any tensor has. */
const MAX_AXES = 64;
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_VERSION = 1001;

const fail = (why: string): never => {
  throw new SyntaxError(why);
};

/** A storage as the pickle names it. */
class Storage implements PickleObject {
  readonly kind = "a storage";
  readonly key: string;
  /** Absent: untyped. */
  readonly dtype: StoredDType | undefined;
  /** Bytes of an element, 1 where untyped. */
  readonly width: number;
  /** Length in bytes. */
  readonly bytes: number;

  constructor(key: string, dtype: StoredDType | undefined, width: number, bytes: number) {
    this.key = key;
    this.dtype = dtype;
    this.width = width;
    this.bytes = bytes;
  }
}

/** A tensor as the pickle describes it, checked against its storage. */
class TorchTensor implements PickleObject {
  readonly kind = "a tensor";
  readonly storage: Storage;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  /** First element. */
  readonly offset: number;
  /** Attributes that the parameter had, of which nothing is kept. */
  attributes = false;

  constructor(storage: Storage, dtype: StoredDType, offset: number, shape: number[], strides: number[]) {
    this.storage = storage;
    this.dtype = dtype;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
  get width(): number {
    return BITS[this.dtype] / 8;
  }
  get bytes(): number {
    return this.shape.reduce((a, b) => a * b, this.width);
  }
}

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

const foreignGlobal = (name: string): never =>
  fail(`it asks for ${quote(name)}, which is none of a state dict of tensors; nothing of it was run`);

/** Of a pickle without tensors. */
const plainRules: PickleRules = {
  global: foreignGlobal,
  call: foreignGlobal,
  persistent: (id) => fail(`it has a persistent id, ${describePickled(id)}`),
};

/** Of a state dict. `storages` collects those that it names. */
function stateDictRules(legacy: boolean): PickleRules & { readonly storages: ReadonlyMap<string, Storage> } {
  const storages = new Map<string, Storage>();
  return {
    storages,
    global(name) {
      if (!KNOWN.has(name)) foreignGlobal(name);
    },
    call(name, args) {
      switch (name) {
        case CALLS.dict:
          if (args.length > 0) fail("it makes an OrderedDict of arguments");
          return new PickleDict();
        case CALLS.tensor1:
        case CALLS.tensor2:
        case CALLS.tensor3:
          return tensorOf(args, name === CALLS.tensor3);
        case CALLS.parameter:
        case CALLS.parameterWithState: {
          const [data] = args;
          if (!(data instanceof TorchTensor))
            return fail(`it makes a parameter of ${describePickled(data)}, a tensor expected`);
          if (name === CALLS.parameterWithState) data.attributes = true;
          return data;
        }
        default:
          return fail(`it calls ${name}`);
      }
    },
    persistent(id) {
      const storage = storageOf(id, legacy);
      const known = storages.get(storage.key);
      if (known && (known.bytes !== storage.bytes || known.dtype !== storage.dtype))
        fail(`its storage ${quote(storage.key)} is described in two ways`);
      storages.set(storage.key, storage);
      return storage;
    },
    // OrderedDict's attributes: state_dict() adds _metadata, the versions of the modules.
    build(target, state) {
      if (!(target instanceof PickleDict) || !(state instanceof PickleDict))
        fail(`it sets attributes of ${describePickled(target)}`);
    },
  };
}

/** ("storage", class, key, location, elements), in the older form also with a view. */
function storageOf(id: PickleValue, legacy: boolean): Storage {
  const [kind, type, key, , count, view] = isTuple(id) ? id : [];
  const name = type instanceof PickleGlobal ? type.name : "";
  const known = Object.hasOwn(STORAGES, name) || UNTYPED.includes(name);
  const wrong = `it has a persistent id that is no storage: ${describePickled(isTuple(id) ? kind : id)}`;
  if (kind !== "storage" || !known || typeof key !== "string" || !isCount(count)) return fail(wrong);
  if (view !== undefined && legacy)
    return fail(`its storage ${quote(key)} is a view of another, as before torch 0.4: save it anew`);
  const dtype = STORAGES[name] as StoredDType | undefined;
  const width = dtype ? BITS[dtype] / 8 : 1;
  if (!Number.isSafeInteger(count * width)) return fail(`its storage ${quote(key)} has ${count} elements`);
  return new Storage(key, dtype, width, count * width);
}

/** (storage, offset, shape, strides, requires_grad, hooks), and with v3 (…, dtype, metadata). */
function tensorOf(args: readonly PickleValue[], named: boolean): TorchTensor {
  const [storage, offset, shape, strides] = args;
  if (!(storage instanceof Storage))
    return fail(`it makes a tensor of ${describePickled(storage)}, a storage expected`);
  const own = args[6];
  const dtype = named ? (own instanceof PickleGlobal ? DTYPES[own.name] : undefined) : storage.dtype;
  if (!dtype) return fail(`it makes a tensor of dtype ${describePickled(named ? own : undefined)}`);
  if (!isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length)
    return fail("it makes a tensor whose offset, shape and strides are no numbers from 0 on");
  const tensor = new TorchTensor(storage, dtype, offset, shape, strides);
  const described = `a tensor (${shape.join(", ")})`;
  if (!Number.isSafeInteger(tensor.bytes)) fail(`it makes ${described}, too large to count`);
  if (shape.includes(0)) return tensor;
  const last = shape.reduce((sum, extent, i) => sum + (extent - 1) * strides[i], offset);
  if ((last + 1) * tensor.width > storage.bytes)
    fail(`it makes ${described} that ends at element ${last}, beyond its storage ${quote(storage.key)}`);
  const axes = shape.map((extent, i) => [extent, strides[i]]).filter(([extent]) => extent > 1);
  const repeats = axes.some(([, stride]) => stride === 0);
  if (repeats && tensor.bytes > Math.max(storage.bytes, MAX_REPEATED))
    fail(`it makes ${described} of ${tensor.bytes} bytes that repeats a storage of ${storage.bytes}`);
  let covered = 0;
  for (const [extent, stride] of axes.filter(([, s]) => s > 0).sort((a, b) => a[1] - b[1])) {
    if (stride <= covered) fail(`it makes ${described} whose elements overlap in the storage`);
    covered += (extent - 1) * stride;
  }
  return tensor;
}

const isCount = (value: PickleValue): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;
const isCounts = (value: PickleValue): value is number[] =>
  isTuple(value) && value.length <= MAX_AXES && value.every(isCount);

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

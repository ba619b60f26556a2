/** What the pickle of a state dict of tensors may ask for, and what it describes: tensors as views of storages. */
import { BITS, type StoredDType } from "./dtype.ts";
import { quote } from "./json.ts";
import {
  describePickled,
  isTuple,
  PickleDict,
  PickleGlobal,
  type PickleObject,
  type PickleRules,
  type PickleValue,
} from "./pickle.ts";

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

/** A tensor may repeat the elements of its storage up to so many bytes. */
const MAX_REPEATED = 64 * 2 ** 20;
/** More axes than any tensor has. */
const MAX_AXES = 64;

const fail = (why: string): never => {
  throw new SyntaxError(why);
};

/** A storage as the pickle names it. */
export class Storage implements PickleObject {
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
export class TorchTensor implements PickleObject {
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

const foreignGlobal = (name: string): never =>
  fail(`it asks for ${quote(name)}, which is none of a state dict of tensors; nothing of it was run`);

/** Of a pickle without tensors. */
export const plainRules: PickleRules = {
  global: foreignGlobal,
  call: foreignGlobal,
  persistent: (id) => fail(`it has a persistent id, ${describePickled(id)}`),
};

/** Of a state dict. `storages` collects those that it names. */
export function stateDictRules(
  legacy: boolean,
): PickleRules & { readonly storages: ReadonlyMap<string, Storage> } {
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

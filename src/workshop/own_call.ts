/** How a kernel of one's own is called at one shape, and what its buffers hold before. */
import type { Device } from "../gpu/device.ts";
import type { Twin } from "../gpu/kernel.ts";
import { type Flags, type Interface, reachableIn, reflect } from "../gpu/wgsl.ts";
import type { Host } from "../host/host.ts";
import { nearest } from "../io/nearest.ts";
import { normal, randomBits } from "../records/float64.ts";
import { type Shape, showShape, sizeOf } from "../tensor/shape.ts";
import { bytesOf, checkRoom, decode, type DType, encode, filled, UNWRITTEN } from "./buffers.ts";
import { Expression, type Numbers } from "./expression.ts";
import { readTensor } from "./reference.ts";
import {
  beside,
  entryOf,
  evaluate,
  evaluateCount,
  type KernelSpec,
  type Source,
  split,
  type Variant,
} from "./spec.ts";

/** What FILE.json says, for one of its shapes. */
export interface OwnKernel {
  readonly host: Host;
  readonly json: string;
  readonly spec: KernelSpec;
  readonly sizes: Numbers;
  /** Of inputs and references, from run to run: the same key stands for the same values. */
  readonly cache: Map<string, unknown>;
  /** A file that takes the reference's place where there is none. */
  readonly instead?: {
    readonly own: OwnKernel;
    readonly source: Source;
    readonly variants: readonly Variant[];
  };
}

/** A buffer of the kernel. */
export interface Buffer {
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly written: boolean;
  /** Its values before the kernel runs, as its type holds them; undefined where there are none. */
  readonly initial: Float64Array | undefined;
  /** Of the data, to the end of the last vec4 where its elements are vectors. */
  readonly bytes: number;
}

/** Everything that a dispatch needs besides buffers. */
export interface Call {
  readonly entry: string;
  readonly flags: Flags;
  readonly overrides: Readonly<Record<string, number>>;
  readonly text: string;
  readonly dims: Readonly<Record<string, number>>;
  readonly grid: readonly [number, number?, number?];
  readonly numbers: Numbers;
  readonly face: Interface;
}

/** Bytes of a buffer before the kernel runs. */
export const initialBytes = (buffer: Buffer): Uint8Array =>
  buffer.initial ? encode(buffer.dtype, buffer.initial) : filled(buffer.bytes, UNWRITTEN[buffer.dtype]);

/** How a variant is called. Throws what does not fit, in one line that names the file and the key. */
export function callOf(
  device: Device,
  { json, spec, sizes }: OwnKernel,
  source: Source,
  kernel: Twin,
  variant: Variant,
): Call {
  const { flags, overrides } = split(source, variant);
  const text = device.kernels.expanded(kernel.name, { flags, overrides });
  const face = reflect(text, source.path);
  const entry = entryOf(source, json, spec.entry, face);
  const numbers = { ...defaultsOf(text), ...sizes, ...numericOf(variant) };
  const fields = face.dims.map(({ name }) => name);
  const odd = Object.keys(spec.dims).find((name) => !fields.includes(name));
  if (odd !== undefined) {
    const near = nearest(odd, fields);
    const has = fields.length > 0 ? `it has ${fields.join(", ")}` : "it has none";
    throw new Error(
      `Cannot use ${json}: dims.${odd} is no field of struct Dims in ${source.path}; ${near === undefined ? has : `did you mean ${near}?`}`,
    );
  }
  const dims = Object.fromEntries(
    face.dims.map(({ name }) => {
      const given = spec.dims[name] ?? (Object.hasOwn(numbers, name) ? name : undefined);
      if (given === undefined)
        throw new Error(
          `Cannot use ${json}: it says nothing of Dims.${name}, a size ${name} or the key dims.${name} expected`,
        );
      return [name, evaluate(json, `dims.${name}`, given, numbers)];
    }),
  );
  const [x, y, z] = spec.grid.map((each, i) => evaluateCount(json, `grid.${i}`, each, numbers, 1));
  return { entry, flags, overrides, text, dims, grid: [x, y, z], numbers, face };
}

/** Numbers that the text gives its override and const declarations. */
function defaultsOf(text: string): Numbers {
  const found = [
    ...text.matchAll(/\b(?:override|const)\s+(\w+)\s*(?::\s*\w+\s*)?=\s*(\d+(?:\.\d+)?)[uif]?\s*;/g),
  ];
  return Object.fromEntries(found.map(([, name, value]) => [name, Number(value)]));
}

const numericOf = (variant: Variant): Numbers =>
  Object.fromEntries(
    Object.entries(variant).flatMap(([name, value]) =>
      typeof value === "string" ? [] : [[name, Number(value)]],
    ),
  );

/** The same in every file that has a buffer of the name. */
const seedOf = (name: string): number =>
  [...name].reduce((hash, letter) => (Math.imul(hash, 31) + letter.charCodeAt(0)) >>> 0, 7);

/** The buffers that the entry point uses. Throws as callOf(). */
export async function buffersOf(
  device: Device,
  own: OwnKernel,
  source: Source,
  { entry, text, face, numbers }: Call,
): Promise<Buffer[]> {
  const { json, spec } = own;
  const storage = face.bindings.filter(({ access }) => access !== "uniform");
  const names = storage.map(({ name }) => name);
  for (const name of Object.keys(spec.buffers)) {
    if (names.includes(name)) continue;
    const near = nearest(name, names, Math.min(3, Math.max(1, name.length >> 1)));
    const hint = near === undefined ? `it binds ${names.join(", ") || "none"}` : `did you mean ${near}?`;
    throw new Error(`Cannot use ${json}: ${source.path} binds no ${name}, which buffers names; ${hint}`);
  }
  const reached = reachableIn(text)(entry);
  const used = storage.filter(({ name }) => reached.has(name));
  const found: Buffer[] = [];
  for (const { name, access, element, binding } of used) {
    const seed = seedOf(name);
    const given = spec.buffers[name];
    if (!given)
      throw new Error(
        `Cannot use ${json}: it lacks the key buffers.${name}, which ${source.path} binds at ${binding} for ${entry}`,
      );
    const shape = given.shape.map((length, axis) =>
      evaluateCount(json, `buffers.${name}.shape.${axis}`, length, numbers),
    );
    const dtype = element ?? given.dtype;
    if (dtype === undefined)
      throw new Error(
        `Cannot use ${json}: ${source.path} binds ${name} as a struct or as Bits, the key buffers.${name}.dtype expected`,
      );
    if (given.dtype !== undefined && given.dtype !== dtype)
      throw new Error(
        `Cannot use ${json}: buffers.${name}.dtype is ${given.dtype}, but ${source.path} reads ${dtype}`,
      );
    const size = sizeOf(shape) * bytesOf(dtype);
    if (size === 0) throw new RangeError(`Cannot use ${json}: buffers.${name} has no elements`);
    checkRoom(device, `${name} ${showShape(shape)}`, size);
    const written = access === "read_write";
    const key = `${name} ${seed} ${dtype} ${shape.join()} ${JSON.stringify(given.init)} ${JSON.stringify(numbers)}`;
    const { init } = given;
    const initial =
      init === undefined && written
        ? undefined
        : await remember(
            own.cache,
            key,
            typeof init !== "object",
            async () => await valuesOf(own, name, shape, dtype, numbers, seed),
          );
    const vectors = new RegExp(`\\b${name}\\s*:\\s*array\\s*<\\s*vec`).test(text);
    found.push({
      name,
      shape,
      dtype,
      written,
      initial,
      bytes: vectors ? Math.ceil(size / 16) * 16 : Math.ceil(size / 4) * 4,
    });
  }
  if (!found.some(({ written }) => written))
    throw new Error(
      `Cannot use ${source.path}: ${entry} writes no buffer, one of var<storage, read_write> expected`,
    );
  return found;
}

/** What `make` makes, or made before for this key, where that may be kept. */
export async function remember<T>(
  cache: Map<string, unknown>,
  key: string,
  keep: boolean,
  make: () => Promise<T>,
): Promise<T> {
  if (keep && cache.has(key)) return cache.get(key) as T;
  const value = await make();
  if (keep) cache.set(key, value);
  return value;
}

/** The values of a buffer before the kernel runs, as its type holds them. */
async function valuesOf(
  { host, json, spec }: OwnKernel,
  name: string,
  shape: Shape,
  dtype: DType,
  numbers: Numbers,
  seed: number,
): Promise<Float64Array> {
  const init = spec.buffers[name]?.init;
  const rounded = (values: Float64Array) =>
    decode(dtype, encode(dtype, values).buffer as ArrayBuffer, values.length);
  if (typeof init === "object") {
    const path = beside(json, init.file);
    return rounded((await readTensor(host, path, init.tensor ?? name, shape)) as Float64Array);
  }
  const size = sizeOf(shape);
  const normals = normal(size, seed + 1);
  if (init === undefined && (dtype === "u32" || dtype === "i32"))
    throw new Error(
      `Cannot use ${json}: it lacks the key buffers.${name}.init, as "floor(u * 10)": ${dtype} have no values of their own`,
    );
  if (init === undefined || init === "z") return rounded(Float64Array.from(normals));
  try {
    const run = new Expression(init).bind(numbers, new Map(), ["i", "z", "u"]);
    return rounded(Float64Array.from(normals, (z, i) => run(i, z, randomBits(seed + 1001, i) / 2 ** 32)));
  } catch (error) {
    throw new SyntaxError(`Cannot use ${json}: buffers.${name}.init: ${(error as Error).message}`);
  }
}

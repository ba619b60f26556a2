/** A kernel of one's own at one shape: its buffers, its reference, and its variants as candidates. */
import type { Device } from "../gpu/device.ts";
import { type Bound, type Twin, twin } from "../gpu/kernel.ts";
import type { PoolBuffer } from "../gpu/pool.ts";
import { type Flags, type Interface, reachableIn, reflect } from "../gpu/wgsl.ts";
import type { Host } from "../host/host.ts";
import { nearest } from "../io/nearest.ts";
import { type Array64, normal, randomBits, relativeL2 } from "../records/float64.ts";
import { type Shape, showShape, sizeOf } from "../tensor/shape.ts";
import {
  bytesOf,
  checkRoom,
  decode,
  type DType,
  destroyBuffer,
  encode,
  exactBuffer,
  filled,
  UNWRITTEN,
} from "./buffers.ts";
import { type Candidate, compare, type Finding, type Maker, showDispatch } from "./candidate.ts";
import { Expression, type Numbers } from "./expression.ts";
import { computeReference, readTensor } from "./reference.ts";
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
interface Buffer {
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly written: boolean;
  /** Its values before the kernel runs, as its type holds them; undefined where there are none. */
  readonly initial: Float64Array | undefined;
  /** Of the data, to the end of the last vec4 where its elements are vectors. */
  readonly bytes: number;
}

/** Bytes behind each buffer that no kernel may touch, in the check of bounds. */
const GUARD = 16384;
/** What stands there: what a kernel reads of it shows where the one gives another result than the other. */
const [BEHIND, BEHIND_TOO] = [0x7fc0beef, 0x3f9d70a4];
/** Larger ones are not copied for that check. */
const MOST_GUARDED = 2 ** 29;
/** Of a result in f16 the rounding alone is 2e-4. */
const TOLERANCE = { f32: 1e-5, f16: 1e-3, u32: 0, i32: 0 };

let declared = 0;

/** The name by which a file is declared, once for each text; `sourceName()` takes the number away again. */
function declare({ path, text }: Source): Twin {
  const stem =
    path
      .replace(/^.*[/\\]/, "")
      .replace(/\.wgsl$/, "")
      .replace(/[^\w./-]/g, "_") || "kernel";
  const name = `@${stem}@${++declared}`;
  return twin(name, text);
}

/** Texts in which kernels are named as the files are. */
export const plainNames = (text: string): string => text.replace(/@([\w./-]+)@\d+/g, "$1");

/** One maker for each variant of a source. */
export function ownMakers(
  own: OwnKernel,
  source: Source,
  variants: readonly Variant[],
  open: () => Promise<Device>,
): Maker[] {
  const declaration = declare(source);
  return variants.map((variant) => ({
    name: showVariant(variant),
    source: source.path,
    key: "own",
    open,
    make: async (device) => await makeOwn(device, own, source, declaration, variant),
  }));
}

const showVariant = (variant: Variant): string =>
  Object.entries(variant)
    .map(([name, value]) => (value === true ? name : `${name}=${value}`))
    .join(" ");

/** Everything that a dispatch needs besides buffers. */
interface Call {
  readonly entry: string;
  readonly flags: Flags;
  readonly overrides: Readonly<Record<string, number>>;
  readonly text: string;
  readonly dims: Readonly<Record<string, number>>;
  readonly grid: readonly [number, number?, number?];
  readonly numbers: Numbers;
  readonly face: Interface;
}

async function makeOwn(
  device: Device,
  own: OwnKernel,
  source: Source,
  kernel: Twin,
  variant: Variant,
): Promise<Candidate> {
  const { json, spec } = own;
  const call = callOf(device, own, source, kernel, variant);
  const buffers = await buffersOf(device, own, source, call);
  const outputs = buffers.filter((buffer) => buffer.written);
  const made: PoolBuffer[] = [];
  const allocate = (name: string, bytes: number): PoolBuffer => {
    const buffer = exactBuffer(device, name, bytes);
    made.push(buffer);
    return buffer;
  };
  const release = () => {
    for (const buffer of made.splice(0)) destroyBuffer(device, buffer);
  };
  try {
    const bound: Record<string, Bound> = {};
    const pristine: [from: PoolBuffer, to: PoolBuffer, bytes: number][] = [];
    for (const buffer of buffers) {
      const bytes = initialBytes(buffer);
      const on = allocate(buffer.name, buffer.bytes);
      device.recorder.upload(on, bytes);
      bound[buffer.name] = { device, buffer: on, dtype: buffer.dtype, bytes: buffer.bytes };
      if (!buffer.written || !buffer.initial) continue;
      const copy = allocate(`${buffer.name} as it was`, buffer.bytes);
      device.recorder.upload(copy, bytes);
      pristine.push([copy, on, bytes.length]);
    }
    const run = (buffersOfRun: Readonly<Record<string, Bound>>) =>
      kernel.run(call.entry, buffersOfRun, call.dims, call.grid, {
        flags: call.flags,
        overrides: call.overrides,
      });
    const read = async (from: Readonly<Record<string, Bound>>, buffer: Buffer) =>
      decode(buffer.dtype, await device.read(from[buffer.name].buffer, buffer.bytes), sizeOf(buffer.shape));
    return {
      device,
      work: {
        flops:
          spec.cost.flops === undefined ? null : evaluate(json, "cost.flops", spec.cost.flops, call.numbers),
        bytes:
          spec.cost.bytes === undefined
            ? buffers.reduce(
                (sum, b) => sum + sizeOf(b.shape) * bytesOf(b.dtype) * (b.written && b.initial ? 2 : 1),
                0,
              )
            : evaluate(json, "cost.bytes", spec.cost.bytes, call.numbers),
        unit: "f32",
      },
      dispatches: [showDispatch(call.entry, call.grid, showVariant(variant))],
      texts: new Map([[`${source.path} ${JSON.stringify(call.flags)}`, call.text]]),
      reset:
        pristine.length === 0
          ? undefined
          : () => {
              for (const [from, to, bytes] of pristine) device.recorder.copy(from, 0, to, 0, bytes);
            },
      run: () => run(bound),
      release,
      async check(phase) {
        await device.precompile(() => run(bound));
        phase("computing the reference");
        const references = await referencesOf(device, own, buffers);
        phase("running");
        run(bound);
        await device.idle();
        const findings: Finding[] = [];
        for (const buffer of outputs) {
          const want = references.get(buffer.name);
          if (!want) continue;
          const got = await read(bound, buffer);
          const stood = decode(buffer.dtype, filled(8, UNWRITTEN[buffer.dtype]).buffer as ArrayBuffer, 1)[0];
          findings.push(
            compare(
              buffer.name,
              buffer.shape,
              got,
              want.data,
              spec.tolerance ?? TOLERANCE[buffer.dtype],
              (i) => !buffer.initial && Object.is(got[i], stood),
            ),
          );
        }
        if (findings.every(({ pass }) => pass)) {
          phase("checking its bounds");
          await checkBounds(device, own, source, call, buffers, run);
        }
        return findings;
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

const initialBytes = (buffer: Buffer): Uint8Array =>
  buffer.initial ? encode(buffer.dtype, buffer.initial) : filled(buffer.bytes, UNWRITTEN[buffer.dtype]);

function callOf(
  device: Device,
  { json, spec, sizes }: OwnKernel,
  source: Source,
  kernel: Twin,
  variant: Variant,
): Call {
  const { flags, overrides } = split(source, variant);
  const text = device.kernels.expanded(kernel.name, flags);
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

async function buffersOf(
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

async function remember<T>(
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

/** What the outputs should be. */
async function referencesOf(
  device: Device,
  own: OwnKernel,
  buffers: readonly Buffer[],
): Promise<Map<string, Array64>> {
  const { host, json, spec, sizes, instead } = own;
  const inputs = new Map<string, Array64>();
  for (const { name, shape, initial } of buffers) if (initial) inputs.set(name, { shape, data: initial });
  const outputs = new Map(buffers.filter(({ written }) => written).map(({ name, shape }) => [name, shape]));
  const { reference } = spec;
  const key = `reference ${JSON.stringify(reference)} ${JSON.stringify(spec.buffers)} ${JSON.stringify(sizes)} ${buffers.map(({ dtype }) => dtype).join()}`;
  const keep =
    typeof reference === "object" &&
    !Object.values(spec.buffers).some(({ init }) => typeof init === "object");
  const found =
    reference === undefined
      ? await byOther(device, own, instead)
      : await remember(
          own.cache,
          key,
          keep,
          async () => await computeReference(reference, { host, json, sizes, inputs, outputs }),
        );
  if (![...outputs.keys()].some((name) => found.has(name)))
    throw new Error(
      `Cannot use ${json}: its reference gives none of the outputs ${[...outputs.keys()].join(", ")}`,
    );
  return found;
}

/** The outputs of the other file, where nothing else says what is right. */
async function byOther(
  device: Device,
  own: OwnKernel,
  instead: OwnKernel["instead"],
): Promise<Map<string, Array64>> {
  if (!instead)
    throw new Error(
      `Cannot use ${own.json}: it lacks the key reference, definitions, a module or a file; or give --against OTHER.wgsl, which is then taken as right`,
    );
  const { own: other, source, variants } = instead;
  const kernel = declare(source);
  const call = callOf(device, other, source, kernel, variants[0]);
  const buffers = await buffersOf(device, other, source, call);
  const bound: Record<string, Bound> = {};
  try {
    for (const buffer of buffers) {
      const on = exactBuffer(device, buffer.name, buffer.bytes);
      bound[buffer.name] = { device, buffer: on, dtype: buffer.dtype, bytes: buffer.bytes };
      device.recorder.upload(on, initialBytes(buffer));
    }
    kernel.run(call.entry, bound, call.dims, call.grid, { flags: call.flags, overrides: call.overrides });
    const found = new Map<string, Array64>();
    for (const { name, written, dtype, shape, bytes } of buffers)
      if (written)
        found.set(name, {
          shape,
          data: decode(dtype, await device.read(bound[name].buffer, bytes), sizeOf(shape)),
        });
    return found;
  } finally {
    for (const { buffer } of Object.values(bound)) destroyBuffer(device, buffer);
  }
}

/** Runs it with something behind each buffer. Throws where it writes there, or where its results depend on what stands there. */
async function checkBounds(
  device: Device,
  { json }: OwnKernel,
  source: Source,
  { text }: Call,
  buffers: readonly Buffer[],
  run: (bound: Readonly<Record<string, Bound>>) => void,
): Promise<void> {
  // Of a kernel that goes by arrayLength() the guards would be data.
  if (/\barrayLength\b/.test(text) || buffers.reduce((sum, { bytes }) => sum + bytes, 0) > MOST_GUARDED)
    return;
  const padded = (bytes: number) => Math.ceil(bytes / 16) * 16;
  const attempt = async (behind: (name: string) => number): Promise<Map<string, Float64Array>> => {
    const bound: Record<string, Bound> = {};
    try {
      for (const buffer of buffers) {
        const whole = padded(buffer.bytes) + GUARD;
        const on = exactBuffer(device, buffer.name, whole);
        bound[buffer.name] = { device, buffer: on, dtype: buffer.dtype, bytes: whole };
        const bytes = filled(whole, behind(buffer.name));
        bytes.set(initialBytes(buffer).subarray(0, sizeOf(buffer.shape) * bytesOf(buffer.dtype)));
        device.recorder.upload(on, bytes);
      }
      run(bound);
      const results = new Map<string, Float64Array>();
      for (const { name, written, bytes, dtype, shape } of buffers) {
        if (!written) continue;
        const size = sizeOf(shape);
        const whole = await device.read(bound[name].buffer, padded(bytes) + GUARD);
        const guard = new Uint32Array(whole, padded(bytes));
        const at = guard.findIndex((word) => word !== behind(name));
        if (at >= 0) {
          const element = (padded(bytes) + 4 * at) / bytesOf(dtype);
          throw new Error(
            `Cannot trust ${source.path}: it writes past the end of ${name}, to element ${element} of ${size} (${json})`,
          );
        }
        results.set(name, decode(dtype, whole, size));
      }
      return results;
    } finally {
      for (const { buffer } of Object.values(bound)) destroyBuffer(device, buffer);
    }
  };
  const plain = await attempt(() => BEHIND);
  const differs = (other: Map<string, Float64Array>) =>
    buffers.find(({ name, dtype }) => {
      const [a, b] = [plain.get(name), other.get(name)];
      // Kernels with atomics may add up in another order.
      return a && b && !(relativeL2(b, a) <= TOLERANCE[dtype]);
    });
  if (!differs(await attempt(() => BEHIND_TOO))) return;
  for (const { name } of buffers) {
    const changed = differs(await attempt((each) => (each === name ? BEHIND_TOO : BEHIND)));
    if (!changed) continue;
    throw new Error(
      `Cannot trust ${source.path}: it reads past the end of ${name}, and ${changed.name} depends on what stands there (${json})`,
    );
  }
}

/**
 * The store of a model's parameters. Layers ask it for tensors by key while they are built; initialize() then streams
 * them from a checkpoint straight into mapped GPU buffers, or draws them by their rules. Absent keys are an error, and so
 * are left-over ones among the model's own.
 */
import type { Device } from "../gpu/device.ts";
import { StagedWriter } from "../gpu/staged_writer.ts";
import { checkChoice, checkOptions, keysOf } from "../io/checks.ts";
import type { StoredDType } from "../io/dtype.ts";
import { toF32 } from "../io/dtype.ts";
import type { Safetensors } from "../io/safetensors.ts";
import { convert, type GpuStoredDType } from "../ops/convert.ts";
import { type Shape, sameShape, showShape, sizeOf } from "../tensor/shape.ts";
import { Tensor, WEIGHT_DTYPES, type WeightDType } from "../tensor/tensor.ts";
import { Constant } from "./constant.ts";
import { checkInit, draw, type Init } from "./init.ts";
import { Parameter } from "./parameter.ts";

/** Formats that a weight may be stored in; whole numbers and scaled 8-bit floats are none. */
const FORMATS: readonly StoredDType[] = ["F32", "F16", "BF16", "F64"];

/** Where weights come from, and how they are stored. */
export interface WeightsOptions {
  /** Where the values come from; without it every parameter is drawn from its rule. */
  readonly file?: Safetensors;
  /** Shown in messages of what the file lacks. */
  readonly path?: string;
  /** All spellings of a key, its own first (models/keys.ts). */
  readonly spellings?: (key: string) => string[];
  /**
   * f16 halves the bytes of the weights that only products and embeddings read. Needs the adapter's shader-f16. Products by
   * subgroup matrices, where the adapter has them, round activations to f16 as well; their sums are f32.
   */
  readonly dtype?: WeightDType;
  /** f16: matrix products will read f16 copies of those weights, so that these may not be larger than f16 holds. */
  readonly matmulDType?: WeightDType;
  /** For parameters that are drawn; 0 by default. */
  readonly seed?: number;
  /** Parameters that may be absent from the file and are then drawn (a fresh head on a pretrained body). */
  readonly mayDraw?: (key: string) => boolean;
  /** Tensors of the file that may be left over among the model's own (models/keys.ts). Left out: none. */
  readonly mayIgnore?: (key: string) => boolean;
}

const KEYS = keysOf<WeightsOptions>({
  ...{ file: true, path: true, spellings: true, dtype: true, matmulDType: true, seed: true },
  ...{ mayDraw: true, mayIgnore: true },
});

/** Where a layer declares its parameters: a place in the tree of keys, or all weights where they have no prefix. */
export type WeightSource = WeightScope | Weights;

/** A prefix of keys under which a layer declares its parameters. */
export class WeightScope {
  readonly #weights: Weights;
  /** What stands before its keys: "encoder." */
  readonly prefix: string;

  /** For Weights.at(). */
  constructor(weights: Weights, prefix: string) {
    this.#weights = weights;
    this.prefix = prefix;
  }
  /** Where the parameters will live. */
  get device(): Device {
    return this.#weights.device;
  }
  /** The place one step down: its keys begin with "NAME.". */
  at(name: string): WeightScope {
    return new WeightScope(this.#weights, `${this.prefix}${name}.`);
  }
  /** Declares a parameter. Throws where its key is taken, and where the file lacks it or has another shape. */
  get(name: string, shape: Shape, init: Init): Parameter {
    return this.#weights.declare([this.prefix + name], shape, init, false);
  }
  /** Equal tensors under several keys as one parameter, one under the other. `half`: may be stored as f16. */
  pack(names: readonly string[], shape: Shape, init: Init, half = false): Parameter {
    return this.#weights.declare(
      names.map((n) => this.prefix + n),
      shape,
      init,
      half,
    );
  }
  /** Values of a layer that are neither learned nor saved; see Constant. */
  constant(shape: Shape, make: () => Float32Array): Constant {
    return this.#weights.constant(shape, make);
  }
}

/**
 * Throws what initialize() would say of keys, shapes and formats, without a GPU: `build` makes the layers, which declare what
 * they need.
 */
export function checkWeights(options: WeightsOptions, build: (root: WeightScope) => unknown): void {
  const weights = new Weights(undefined, options);
  build(weights.root);
  weights.checkLeftOver();
}

/**
 * The parameters of a model, by key. Layers declare theirs while they are built; then initialize() reads all values from a
 * safetensors file, or draws them.
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const layer = new Linear(weights.at("classifier"), 8, 4);
 * await weights.initialize();
 * console.log(weights.parameters.map(({ key }) => key).join(" ")); // classifier.weight classifier.bias
 * console.log(layer.weight.value.shape); // [4, 8]
 * weights.dispose();
 * ```
 */
export class Weights {
  readonly #device: Device | undefined;
  readonly #options: WeightsOptions;
  readonly #parameters: { parameter: Parameter; half: boolean; sources: (string | undefined)[] }[] = [];
  readonly #constants: Constant[] = [];
  readonly #used = new Set<string>();
  readonly #keys = new Set<string>();

  /** Without a device the weights can be declared and checked, not filled. */
  constructor(device: Device | undefined, options: WeightsOptions = {}) {
    checkOptions("make Weights", options, KEYS);
    for (const name of ["dtype", "matmulDType"] as const)
      if (options[name] !== undefined) checkChoice("make Weights", name, options[name], WEIGHT_DTYPES);
    if (options.dtype === "f16" && device && !device.info.f16)
      throw new Error(`Cannot store weights as f16: ${device.info.name} has no shader-f16; use f32`);
    this.#device = device;
    this.#options = options;
  }

  /** Where the parameters live. Throws where there is none. */
  get device(): Device {
    if (!this.#device) throw new Error("Cannot compute with weights that were only checked");
    return this.#device;
  }

  /** The place of keys without a prefix. */
  get root(): WeightScope {
    return new WeightScope(this, "");
  }

  /** A place in the tree of keys, for a layer: `at("encoder")` has the keys "encoder.…". */
  at(name: string): WeightScope {
    return this.root.at(name);
  }

  /** As WeightScope.get(), without a prefix. */
  get(name: string, shape: Shape, init: Init): Parameter {
    return this.root.get(name, shape, init);
  }

  /** As WeightScope.pack(), without a prefix. */
  pack(names: readonly string[], shape: Shape, init: Init, half = false): Parameter {
    return this.root.pack(names, shape, init, half);
  }

  /** All that were declared so far, in that order. */
  get parameters(): Parameter[] {
    return this.#parameters.map((p) => p.parameter);
  }

  /** As WeightScope.constant(). */
  constant(shape: Shape, make: () => Float32Array): Constant {
    const constant = new Constant(() => this.device, shape, make);
    this.#constants.push(constant);
    return constant;
  }

  /** What WeightScope.get() and pack() call, with whole keys. */
  declare(keys: readonly string[], shape: Shape, init: Init, half: boolean): Parameter {
    for (const [i, key] of keys.entries()) {
      if (this.#keys.has(key) || keys.indexOf(key) !== i)
        throw new TypeError(
          `Cannot declare ${key} ${showShape(shape)}: another layer has that key; give each its own place, as weights.at("name")`,
        );
      if (!shape.every((length) => Number.isSafeInteger(length) && length > 0))
        throw new TypeError(
          `Cannot declare ${key} ${showShape(shape)}: its axes should be whole numbers from 1`,
        );
      checkInit(init, key);
    }
    for (const key of keys) this.#keys.add(key);
    const parameter: Parameter = new Parameter(keys, shape, init, (onRelease) =>
      this.#standIn(parameter.shape, half, onRelease),
    );
    this.#parameters.push({ parameter, half, sources: keys.map((key) => this.#find(key, shape)) });
    return parameter;
  }

  /** A tensor with no room for its values, for precompile() and plan(), which compute nothing. */
  #standIn(shape: Shape, half: boolean, onRelease: () => void): Tensor | undefined {
    const device = this.#device;
    if (!device?.dry) return undefined;
    device.scopes.at(-1)?.push({ release: onRelease });
    return Tensor.over(device, device.pool.acquire(16), shape, half ? this.#options.dtype : "f32");
  }

  #find(key: string, shape: Shape): string | undefined {
    const { file, path, spellings = (k) => [k], mayDraw } = this.#options;
    if (!file) return undefined;
    const names = spellings(key);
    const source = names.find((name) => file.tensors.has(name));
    if (source === undefined) {
      if (mayDraw?.(key)) return undefined;
      throw new Error(
        `Cannot load ${path}: it holds no ${key}${names.length > 1 ? ` (nor ${names.slice(1).join(", ")})` : ""}`,
      );
    }
    const entry = file.tensors.get(source);
    if (entry && !sameShape(entry.shape, shape)) {
      throw new TypeError(
        `Cannot load ${entry.file}: ${source} is ${showShape(entry.shape)} but the model needs ${showShape(shape)}`,
      );
    }
    if (entry && !FORMATS.includes(entry.dtype))
      throw new TypeError(
        `Cannot load ${entry.file}: ${source} is ${entry.dtype} but a weight should be one of ${FORMATS.join(", ")}`,
      );
    this.#used.add(source);
    return source;
  }

  /** Throws where the file holds tensors under the model's own roots that no layer declared: config and weights differ. */
  checkLeftOver(): void {
    const { file, mayIgnore = () => false } = this.#options;
    // Tensors under another first part of the key are of something else: a head, a quantizer, an optimiser.
    const root = (key: string) => key.split(".", 1)[0];
    const own = new Set([...this.#used].map(root));
    const left = [...(file?.tensors ?? [])].filter(
      ([key]) => !this.#used.has(key) && own.has(root(key)) && !mayIgnore(key),
    );
    if (left.length === 0) return;
    const [key, entry] = left[0];
    const more = left.length > 1 ? ` and ${left.length - 1} more of its tensors` : "";
    throw new Error(
      `Cannot load ${entry.file}: the configured model has no place for ${key}${more}; config and weights should be of one model`,
    );
  }

  /**
   * Fills every parameter, once all layers are built. Throws for tensors of the model's own that no layer asked for,
   * for a value that is not finite, and for one beyond f16 where that is wanted; all name the tensor. Throws where all
   * parameters have values already.
   */
  async initialize(onProgress?: (bytes: number, total: number) => void): Promise<void> {
    if (this.#parameters.length > 0 && this.#parameters.every(({ parameter }) => parameter.loaded))
      throw new Error(
        "Cannot initialize the weights: they have values; loadWeights() or Parameter.write() change them",
      );
    this.checkLeftOver();
    const total = this.#parameters.reduce((n, { parameter }) => n + 4 * sizeOf(parameter.shape), 0);
    const writer = new StagedWriter(this.device);
    let done = 0;
    let unsettled = 0;
    try {
      for (const { parameter, half, sources } of this.#parameters) {
        if (parameter.loaded) continue;
        const dtypes = new Set(
          sources.map((s) => (s === undefined ? undefined : this.#options.file?.tensors.get(s)?.dtype)),
        );
        const dtype = dtypes.size === 1 ? [...dtypes][0] : undefined;
        const wanted = half ? (this.#options.dtype ?? "f32") : "f32";
        const limited = half && (wanted === "f16" || this.#options.matmulDType === "f16");
        const bytes = 4 * sizeOf(parameter.shape);
        if (dtype === "F32" || dtype === "F16" || dtype === "BF16")
          parameter.set(await this.#stream(parameter, sources as string[], dtype, wanted, limited, writer));
        else {
          parameter.set(await this.#assemble(parameter, sources, wanted, limited));
          unsettled += bytes;
        }
        done += bytes;
        onProgress?.(done, total);
        if (unsettled > 64 * 2 ** 20) {
          // WebGPU's copies of what Tensor.from() was given are freed only once the GPU has taken them.
          await this.device.idle();
          unsettled = 0;
        }
      }
    } finally {
      writer.dispose();
    }
    await this.device.idle();
    this.device.pool.trim();
  }

  /** From the file to the GPU, piece by piece; storage types other than the wanted are converted there. */
  async #stream(
    parameter: Parameter,
    sources: readonly string[],
    dtype: GpuStoredDType,
    wanted: WeightDType,
    limited: boolean,
    writer: StagedWriter,
  ): Promise<Tensor> {
    const { file } = this.#options;
    if (!file) throw new Error("Cannot stream weights without a file");
    const size = dtype === "F32" ? 4 : 2;
    const each = sizeOf(parameter.parts[0].shape) * size;
    const bytes = Math.max(4, 4 * Math.ceil((each * sources.length) / 4));
    const buffer = this.device.pool.acquire(bytes);
    try {
      await writer.write(buffer, bytes, async (target, from) => {
        for (const [i, source] of sources.entries()) {
          const start = i * each;
          const [first, end] = [Math.max(from, start), Math.min(from + target.length, start + each)];
          if (first >= end) continue;
          const piece = target.subarray(first - from, end - from);
          await file.read(source, piece, first - start);
          const path = file.tensors.get(source)?.file ?? "";
          checkValues(piece, dtype, source, path, limited, (first - start) / size);
        }
      });
    } catch (error) {
      this.device.pool.release(buffer);
      throw error;
    }
    if (dtype === "F32" && wanted === "f32") return Tensor.over(this.device, buffer, parameter.shape);
    const raw = Tensor.over(this.device, buffer, [bytes / 4], "u32");
    const value = convert(raw, dtype, parameter.shape, wanted);
    raw.release();
    return value;
  }

  /** Values by way of the CPU: drawn ones, F64, and parts of several formats. */
  async #assemble(
    parameter: Parameter,
    sources: readonly (string | undefined)[],
    wanted: WeightDType,
    limited: boolean,
  ): Promise<Tensor> {
    const all = new Float32Array(sizeOf(parameter.shape));
    for (const [i, { key, shape, offset }] of parameter.parts.entries()) {
      const source = sources[i];
      if (source === undefined) {
        all.set(draw(parameter.init, sizeOf(shape), this.#options.seed ?? 0, key), offset);
        continue;
      }
      const { file, path } = this.#options;
      const entry = file?.tensors.get(source);
      if (!file || !entry) throw new Error(`Cannot load ${path}: ${source} is gone`);
      const bytes = new Uint8Array(entry.bytes);
      await file.read(source, bytes);
      const values = toF32(entry.dtype as StoredDType, bytes);
      const own = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      checkValues(own, "F32", source, entry.file, limited);
      all.set(values, offset);
    }
    const tensor = Tensor.from(this.device, all, parameter.shape);
    if (wanted === "f32") return tensor;
    const half = convert(tensor, "F32", parameter.shape, "f16");
    tensor.release();
    return half;
  }

  /** Frees all parameters and constants. */
  dispose(): void {
    for (const { parameter } of this.#parameters) parameter.dispose();
    for (const constant of this.#constants) constant.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The first bits, without the sign, of what is not finite, and of what rounds to an infinity as f16: 65520 and more. */
const LEAST = {
  F32: { infinite: 0x7f800000, tooLarge: 0x477ff000 },
  BF16: { infinite: 0x7f80, tooLarge: 0x4780 },
  F16: { infinite: 0x7c00, tooLarge: 0x7c00 },
} as const;

/**
 * Throws for a value that is not finite and, where f16 is wanted (`limited`), for one beyond it. `bytes` are those of `key` from
 * element `from` on.
 */
function checkValues(
  bytes: Uint8Array,
  dtype: GpuStoredDType,
  key: string,
  path: string,
  limited: boolean,
  from = 0,
): void {
  const words =
    dtype === "F32"
      ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2)
      : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1);
  const sign = dtype === "F32" ? 0x7fffffff : 0x7fff;
  const { infinite, tooLarge } = LEAST[dtype];
  const first = firstFrom(words, sign, limited ? tooLarge : infinite);
  if (first < 0) return;
  const at = limited ? firstFrom(words, sign, infinite) : first;
  if (at >= 0)
    throw new Error(`Cannot load ${path}: ${key} holds a value that is not finite, at element ${from + at}`);
  const [value] = toF32(
    dtype,
    bytes.slice(first * words.BYTES_PER_ELEMENT, (first + 1) * words.BYTES_PER_ELEMENT),
  );
  throw new RangeError(
    `Cannot load ${path} for f16: ${key} holds ${value} at element ${from + first}, f16 ends at 65504; use f32`,
  );
}

function firstFrom(words: Uint32Array | Uint16Array, mask: number, least: number): number {
  for (let i = 0; i < words.length; i++) if ((words[i] & mask) >= least) return i;
  return -1;
}

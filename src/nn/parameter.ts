import { checkChoice } from "../io/checks.ts";
import { halved } from "../ops/convert.ts";
import type { Shape } from "../tensor/shape.ts";
import { showShape, sizeOf } from "../tensor/shape.ts";
import { isTracked } from "../tensor/tape.ts";
import { type Tensor, WEIGHT_DTYPES, type WeightDType } from "../tensor/tensor.ts";
import type { Init } from "./init.ts";

/** One tensor of a checkpoint inside a parameter: rows stacked one part under the other. */
export interface Part {
  /** The key as Hugging Face's class of the model spells it. */
  readonly key: string;
  /** Of the part. */
  readonly shape: Shape;
  /** First element of the part in the parameter. */
  readonly offset: number;
}

/** Makes what stands for a value where nothing is computed; elsewhere undefined. `onRelease` is called when it is freed. */
type StandIn = (onRelease: () => void) => Tensor | undefined;

/**
 * A trained tensor. Several checkpoint tensors of equal width may be packed into one parameter (query, key and value),
 * so that one product serves all of them; loading, saving and gradients still go by their own keys.
 */
export class Parameter {
  /** One for each key; a parameter of one key has one. */
  readonly parts: readonly Part[];
  /** Of all parts together. */
  readonly shape: Shape;
  /** How it begins where no checkpoint holds it. */
  readonly init: Init;
  /** False: optimisers leave it out. Set it before they are made. */
  trainable = true;
  #matmulDType: WeightDType = "f32";
  /** Counts the changes of the value; what is derived from it compares. */
  version = 0;
  #value: Tensor | undefined;
  #disposed = false;
  /** What was computed from the value and kept; it goes with it. */
  readonly derived: Derived[] = [];
  readonly #half: Derived;
  readonly #standIn: StandIn;
  #standing: Tensor | undefined;

  /** `shape` is that of each part. Weights declare parameters; see WeightScope.get(). */
  constructor(keys: readonly string[], shape: Shape, init: Init, standIn: StandIn) {
    const each = sizeOf(shape);
    this.parts = keys.map((key, i) => ({ key, shape, offset: i * each }));
    this.shape = keys.length === 1 ? shape : [shape[0] * keys.length, ...shape.slice(1)];
    this.init = init;
    this.#standIn = standIn;
    this.#half = new Derived([this], () => halved(this.value));
  }

  /** The first key: a parameter's name in messages. */
  get key(): string {
    return this.parts[0].key;
  }

  /**
   * f16: matrix products read an f16 copy, while value and gradient stay f32. Needs the adapter's shader-f16. Where the
   * adapter has subgroup matrices, the other operands are rounded to f16 as well; sums are f32.
   */
  get matmulDType(): WeightDType {
    return this.#matmulDType;
  }
  /** Throws a RangeError for another format. */
  set matmulDType(dtype: WeightDType) {
    checkChoice(`multiply ${this.key}`, "matmulDType", dtype, WEIGHT_DTYPES);
    this.#matmulDType = dtype;
  }

  /** The value, which the parameter owns. Throws before Weights.initialize(), but inside precompile(), and after dispose(). */
  get value(): Tensor {
    if (this.#value) return this.#value;
    if (!this.#disposed)
      this.#standing ??= this.#standIn(() => {
        this.#standing = undefined;
      });
    if (this.#standing) return this.#standing;
    const why = this.#disposed
      ? "its weights were disposed"
      : "it has no value yet; await Weights.initialize() once all layers are made";
    throw new Error(`Cannot use ${this.key} ${showShape(this.shape)}: ${why}`);
  }

  /** What matrix products read: the value, or its f16 copy where `matmulDType` says so. */
  get operand(): Tensor {
    const { value } = this;
    return this.matmulDType === "f16" && value.dtype === "f32" ? this.#half.get(isTracked(value)) : value;
  }

  /** Takes over a tensor as the value; the one before is released. */
  set(value: Tensor): void {
    this.#value?.release();
    this.#value = value;
    this.#disposed = false;
    this.version++;
  }

  /** Overwrites the value from the CPU; it must be f32. Throws where the sizes differ. */
  write(values: Float32Array): void {
    this.value.write(values);
    this.version++;
  }

  /** Whether there is a value. */
  get loaded(): boolean {
    return this.#value !== undefined;
  }

  /** Frees the value and what was derived from it. */
  dispose(): void {
    this.#value?.release();
    this.#value = undefined;
    this.#disposed = true;
    for (const d of this.derived) d.dispose();
  }
}

/** A tensor computed from parameters (a packed or normed weight): kept until one of them changes. */
export class Derived {
  readonly #from: readonly Parameter[];
  readonly #make: () => Tensor;
  #value: Tensor | undefined;
  #versions = "";

  /** What `make` computes from `from`, of which it is recorded as an op. */
  constructor(from: readonly Parameter[], make: () => Tensor) {
    this.#from = from;
    this.#make = make;
    for (const parameter of from) parameter.derived.push(this);
  }

  /** The kept value; where a gradient must reach the parameters, or nothing is computed, a fresh one. */
  get(tracked: boolean): Tensor {
    if (tracked || this.#from[0].value.device.dry) return this.#make();
    const versions = this.#current;
    if (!this.#value || versions !== this.#versions) {
      this.#value?.release();
      this.#value = this.#make().keep();
      this.#versions = versions;
    } else {
      this.#value.device.recorder.capturing?.assume(() =>
        this.#current === versions ? undefined : `${this.#from[0].key} has changed since it was captured`,
      );
    }
    return this.#value;
  }

  get #current(): string {
    return this.#from.map((p) => p.version).join();
  }

  /** Frees the kept value. */
  dispose(): void {
    this.#value?.release();
    this.#value = undefined;
  }
}

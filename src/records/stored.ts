/** How an operator is called on a case that PyTorch stored: test/reference/ops, or a folder of the same form. */
import * as v from "valibot";
import type { Device } from "../gpu/device.ts";
import { finite, object, parse } from "../io/schema.ts";
import { Tensor } from "../tensor/tensor.ts";

/** One entry of a record's `stored`. */
export interface StoredCall {
  /** Matches the case's attribute `op`: the strings that tools/reference.py writes. */
  readonly op: RegExp;
  /** Tensors by the names of the case's outputs. */
  readonly run: (stored: StoredInputs) => Readonly<Record<string, Tensor>>;
}

export interface Integers {
  readonly values: number[];
  readonly shape: readonly number[];
}

/**
 * Inputs of a stored case, f32 tensors on the device and integer ones as lists, and its attributes. Each method throws
 * where there is not what it is asked for.
 */
export class StoredInputs {
  readonly device: Device;
  readonly #name: string;
  readonly #attributes: Readonly<Record<string, unknown>>;
  readonly #tensors: ReadonlyMap<string, Tensor>;
  readonly #integers: ReadonlyMap<string, Integers>;

  constructor(
    device: Device,
    name: string,
    attributes: Readonly<Record<string, unknown>>,
    tensors: ReadonlyMap<string, Tensor>,
    integers: ReadonlyMap<string, Integers>,
  ) {
    this.device = device;
    this.#name = name;
    this.#attributes = attributes;
    this.#tensors = tensors;
    this.#integers = integers;
  }

  tensor(name: string): Tensor {
    const t = this.#tensors.get(name);
    if (!t) throw new Error(`Cannot run ${this.#name}: it has no input ${name}`);
    return t;
  }
  optional(name: string): Tensor | undefined {
    return this.#tensors.get(name);
  }
  /** The input that an attribute names, if there is the attribute. */
  named(attribute: string): Tensor | undefined {
    const name = this.#attribute(attribute, v.optional(v.string()));
    return name === undefined ? undefined : this.tensor(name);
  }
  integers(name: string): Integers {
    const i = this.#integers.get(name);
    if (!i) throw new Error(`Cannot run ${this.#name}: it has no input ${name}`);
    return i;
  }
  /** Integers as a u32 tensor on the device. */
  flags(name: string): Tensor {
    const { values, shape } = this.integers(name);
    return Tensor.from(this.device, Uint32Array.from(values), shape);
  }

  /** The attribute `name`; without a fallback it must be there. */
  number(name: string, fallback?: number): number {
    return this.#attribute(name, fallback === undefined ? finite : v.optional(finite, fallback));
  }
  choice<const C extends string>(name: string, choices: readonly C[], fallback: NoInfer<C>): C {
    return this.#attribute(name, v.optional(v.picklist(choices), fallback));
  }
  flag(name: string): boolean {
    return this.#attribute(name, v.optional(v.boolean(), false));
  }

  #attribute<T>(name: string, schema: v.GenericSchema<unknown, T>): T {
    const found = parse(object({ [name]: schema }), this.#attributes, `the attributes of ${this.#name}`);
    return found[name] as T;
  }
}

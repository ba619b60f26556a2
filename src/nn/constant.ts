import type { Device } from "../gpu/device.ts";
import type { Shape } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";

/**
 * A tensor of a layer that is neither learned nor saved, as torch's register_buffer(…, persistent=False): uploaded when it is
 * first asked for, and freed with the weights beside which it was declared.
 */
export class Constant {
  readonly #device: () => Device;
  readonly #shape: Shape;
  readonly #make: () => Float32Array;
  #value: Tensor | undefined;

  /** For WeightScope.constant(). */
  constructor(device: () => Device, shape: Shape, make: () => Float32Array) {
    this.#device = device;
    this.#shape = shape;
    this.#make = make;
  }

  /** The tensor; it belongs to the constant. */
  get value(): Tensor {
    const device = this.#device();
    if (device.dry) return Tensor.from(device, this.#make(), this.#shape);
    this.#value ??= Tensor.from(device, this.#make(), this.#shape).keep();
    return this.#value;
  }

  /** Frees the tensor. */
  dispose(): void {
    this.#value?.release();
    this.#value = undefined;
  }
}

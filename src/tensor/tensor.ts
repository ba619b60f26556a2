/**
 * A tensor: a shape over a pooled GPU buffer, contiguous, row-major. Immutable once made, but for parameters and
 * optimiser state.
 *
 * Who keeps it alive: the scope it was made in, the tape that saved it, or an owner that called keep(). When the last
 * of them lets go, the buffer returns to the pool.
 */
import type { Device } from "../gpu/device.ts";
import { describeValue } from "../io/checks.ts";
import type { Bound } from "../gpu/kernel.ts";
import type { PoolBuffer } from "../gpu/pool.ts";
import { adopt } from "./scope.ts";
import { checkLengths, type Shape, sameShape, showShape, sizeOf } from "./shape.ts";

/** f16 is for storage; every kernel computes and accumulates in f32, but for the operands of linear() by matrices. */
export type DType = "f32" | "f16" | "i32" | "u32";
/** What weights are held in, or multiplied in. */
export type WeightDType = Extract<DType, "f32" | "f16">;

const bytesOf = { f32: 4, f16: 2, i32: 4, u32: 4 } as const;

/** Bytes of a buffer for such a tensor: kernels go by vec4, and the last one may reach past the end. */
const capacityOf = (shape: Shape, dtype: DType): number =>
  Math.max(16, Math.ceil((sizeOf(shape) * bytesOf[dtype]) / 16) * 16);

/** What the values of a tensor come from. */
type Values = Float32Array | Int32Array | Uint32Array;

const isValues = (data: unknown): data is Values =>
  data instanceof Float32Array || data instanceof Int32Array || data instanceof Uint32Array;

const dtypeOf = (data: Values): DType =>
  data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32";

/** What Tensor.write() takes. */
const WRITTEN: Readonly<Record<DType, string>> = {
  f32: "a Float32Array",
  i32: "an Int32Array",
  u32: "a Uint32Array",
  f16: "ops.convert() or ops.halved(), which make one,",
};

/** Throws unless all `tensors` are f32: a kernel would read the bits of another type as if they were. */
export function checkF32(op: string, tensors: Readonly<Record<string, Tensor>>): void {
  for (const name in tensors) {
    const tensor = tensors[name];
    if (!(tensor instanceof Tensor))
      throw new TypeError(`Cannot run ${op}: ${name} is ${describeValue(tensor)} but should be a tensor`);
    const { dtype } = tensor;
    if (dtype !== "f32") throw new TypeError(`Cannot run ${op}: ${name} is ${dtype} but should be f32`);
  }
}

/** Throws unless all `tensors` are f32, or all are f16. */
export function checkFloat(op: string, tensors: Readonly<Record<string, Tensor>>): void {
  const [first] = Object.values(tensors);
  if (!(first instanceof Tensor && first.dtype === "f16")) {
    checkF32(op, tensors);
    return;
  }
  for (const name in tensors) {
    const tensor = tensors[name];
    if (!(tensor instanceof Tensor))
      throw new TypeError(`Cannot run ${op}: ${name} is ${describeValue(tensor)} but should be a tensor`);
    if (tensor.dtype !== "f16")
      throw new TypeError(
        `Cannot run ${op}: ${name} is ${tensor.dtype} but should be f16, as ${Object.keys(tensors)[0]} is`,
      );
  }
}

/** Flags by which a kernel takes activations: their element type X, and what WGSL must enable for it. */
export type ElementFlags = { readonly enables: string; readonly X: WeightDType };
const FULL: ElementFlags = { enables: "", X: "f32" };
const HALF: ElementFlags = { enables: "enable f16;", X: "f16" };

/** The flags of a kernel that takes activations as x's. What is neither f32 nor f16 its bindings then refuse as no f32. */
export const elementFlags = (x: Tensor): ElementFlags => (x.dtype === "f16" ? HALF : FULL);

/** What stands for an input that is not given and that the kernel, told so, does not read. */
export const unread = ({ device, buffer }: Tensor): Bound => ({ device, buffer });

/** A buffer shared by a tensor and its reshaped views. */
class Storage implements Memory {
  readonly device: Device;
  readonly buffer: PoolBuffer;
  tape: { readonly ended: boolean } | undefined;
  savedBy: string | undefined;
  #holds = 0;

  constructor(device: Device, buffer: PoolBuffer) {
    this.device = device;
    this.buffer = buffer;
  }
  hold(): void {
    this.#holds++;
  }
  drop(): void {
    if (--this.#holds === 0) this.device.pool.release(this.buffer);
  }
}

/** What a tensor shares with its views and with no other tensor; the tape notes there what it has. */
export interface Memory {
  /** The tape on which it is or was. */
  tape: { readonly ended: boolean } | undefined;
  /** The operator that saved it there for its backward. */
  savedBy: string | undefined;
}

/**
 * Numbers on a GPU: contiguous, row-major. Made by from(), empty() and the operators; freed by the scope around it, by
 * release(), or by `using`. Its device is where all that is computed from it happens.
 *
 * @example
 * ```ts
 * using x = Tensor.from(device, Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
 * using means = ops.mean(x, { axis: -1 });
 * console.log(x.shape, x.dtype, x.bytes); // [2, 3] f32 24
 * console.log(await means.read()); // [2, 5]
 * x.write(new Float32Array(6)); // `means` stays as it was
 * console.log(await x.read()); // [0, 0, 0, 0, 0, 0]
 * ```
 */
export class Tensor {
  /** Lengths of the axes; () for a scalar. */
  readonly shape: Shape;
  /** What an element is. */
  readonly dtype: DType;
  readonly #storage: Storage;
  #holds = 0;
  #dead = false;

  private constructor(storage: Storage, shape: Shape, dtype: DType) {
    this.#storage = storage;
    this.shape = shape;
    this.dtype = dtype;
    storage.hold();
    adopt(this);
  }

  /** A tensor with whatever bytes the pool had: for outputs that a kernel fills wholly. */
  static empty(device: Device, shape: Shape, dtype: DType = "f32"): Tensor {
    checkLengths(shape);
    return new Tensor(new Storage(device, device.pool.acquire(capacityOf(shape, dtype))), shape, dtype);
  }

  /** Takes over a buffer that the caller filled. */
  static over(device: Device, buffer: PoolBuffer, shape: Shape, dtype: DType = "f32"): Tensor {
    checkLengths(shape);
    return new Tensor(new Storage(device, buffer), shape, dtype);
  }

  /**
   * A tensor with these values: f32, i32 or u32 by the array's kind. Throws a TypeError for another kind of array and where the
   * values do not fill the shape, a RangeError for lengths that are not whole.
   */
  static from(device: Device, data: Float32Array | Int32Array | Uint32Array, shape: Shape): Tensor {
    checkLengths(shape);
    if (!isValues(data))
      throw new TypeError(
        `Cannot make a tensor from ${describeValue(data)}: a Float32Array, Int32Array or Uint32Array expected`,
      );
    if (data.length !== sizeOf(shape))
      throw new TypeError(`Cannot make a tensor of shape ${showShape(shape)} from ${data.length} values`);
    const { capturing } = device.recorder;
    if (capturing && !capturing.constants)
      throw new Error(
        `Cannot capture values from the CPU, a tensor of shape ${showShape(shape)}: make it outside and write() to it, or say \`constants: true\` where they never change`,
      );
    const dtype = dtypeOf(data);
    const buffer = device.pool.acquireWritten(capacityOf(shape, dtype));
    const tensor = new Tensor(new Storage(device, buffer), shape, dtype);
    tensor.#upload(data);
    return tensor;
  }

  /** Where it lives. */
  get device(): Device {
    return this.#storage.device;
  }
  /** What holds the values, from byte 0 on. Throws where the tensor was freed. */
  get buffer(): PoolBuffer {
    if (this.#dead)
      throw new Error(
        `Cannot use a tensor of shape ${showShape(this.shape)}: it was released, or its scope has ended`,
      );
    return this.#storage.buffer;
  }
  /** What it shares with its views and with no other tensor. */
  get memory(): Memory {
    return this.#storage;
  }
  /** Elements. */
  get size(): number {
    return sizeOf(this.shape);
  }
  /** Bytes of the values; the buffer may be larger. */
  get bytes(): number {
    return this.size * bytesOf[this.dtype];
  }

  /** An unfilled tensor of the same (or the given) shape on the same device, f32 unless `dtype` says otherwise. */
  like(shape: Shape = this.shape, dtype: DType = "f32"): Tensor {
    return Tensor.empty(this.device, shape, dtype);
  }

  /** The same bytes under another shape. No gradient passes: ops use reshape(), which records it. */
  reshaped(shape: Shape): Tensor {
    checkLengths(shape);
    if (sizeOf(shape) !== this.size)
      throw new TypeError(`Cannot reshape ${showShape(this.shape)} to ${showShape(shape)}: the sizes differ`);
    if (sameShape(shape, this.shape)) return this;
    const view = new Tensor(this.#storage, shape, this.dtype);
    this.device.watcher?.viewed?.(view);
    return view;
  }

  /**
   * Overwrites the values from the CPU; work recorded before still sees the old ones. Throws where the sizes differ or the array
   * is not of the dtype, and in the body of valueAndGrad() or vjp() where the backward pass would see the new values.
   */
  write(data: Float32Array | Int32Array | Uint32Array): void {
    if (!isValues(data) || dtypeOf(data) !== this.dtype)
      throw new TypeError(
        `Cannot write ${describeValue(data)} to a tensor of ${this.dtype}: ${WRITTEN[this.dtype]} expected`,
      );
    if (data.length !== this.size)
      throw new TypeError(`Cannot write ${data.length} values to a tensor of shape ${showShape(this.shape)}`);
    if (this.device.recorder.capturing)
      throw new Error("Cannot capture Tensor.write: a replay would not repeat it; write before replay()");
    this.device.watcher?.wrote?.(this);
    this.#upload(data);
  }

  #upload(data: Values): void {
    const bytes =
      data.buffer instanceof ArrayBuffer
        ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
        : new Uint8Array(data.slice().buffer as ArrayBuffer);
    if (bytes.length > 0) this.device.recorder.upload(this.buffer, bytes);
  }

  /** Copies the values of an f32 tensor to the CPU. Submits what was recorded. */
  async read(): Promise<Float32Array> {
    if (this.dtype !== "f32") throw this.#unread("f32");
    return new Float32Array(await this.device.read(this.buffer, this.bytes));
  }

  /** The value of a tensor of one element. Submits what was recorded. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new TypeError(`Cannot take the item of a tensor of shape ${showShape(this.shape)}: use read()`);
    return (this.dtype === "f32" ? await this.read() : await this.readIntegers())[0];
  }

  /** As read(), for i32 and u32. */
  async readIntegers(): Promise<Int32Array | Uint32Array> {
    if (this.dtype !== "i32" && this.dtype !== "u32") throw this.#unread("integers");
    const bytes = await this.device.read(this.buffer, this.bytes);
    return this.dtype === "i32" ? new Int32Array(bytes) : new Uint32Array(bytes);
  }

  #unread(as: string): TypeError {
    const { dtype } = this;
    const how =
      dtype === "f32"
        ? "use read()"
        : dtype === "f16"
          ? 'use read() on ops.convert(tensor, "F16", tensor.shape, "f32")'
          : "use readIntegers()";
    return new TypeError(`Cannot read a tensor of ${dtype} as ${as}: ${how}`);
  }

  /** Adds an owner, so that the end of the scope does not free the tensor; pair it with release(). */
  keep(): this {
    this.#holds++;
    return this;
  }

  /** Takes one owner away; the last one's leaving returns the buffer to the pool. */
  release(): void {
    if (--this.#holds > 0 || this.#dead) return;
    this.#dead = true;
    this.#storage.drop();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

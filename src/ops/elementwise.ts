/**
 * Arithmetic, pointwise: the twin of kernels/elementwise.wgsl.
 *
 * The two operands of add, sub, mul and div have one shape, or the smaller has the last axes of the larger and is
 * repeated over those before: (C) beside (…, C), a scalar () beside anything. A number serves as a scalar. The gradient
 * of what was repeated is the sum over its repetitions, in a fixed order.
 */
import type { Device } from "../gpu/device.ts";
import { type Costed, pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { type Shape, sameShape, sizeOf } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { checkFloat, elementFlags, Tensor, type WeightDType } from "../tensor/tensor.ts";
import { broadcast, reduceTo } from "./broadcast.ts";
import { dot } from "./reduce.ts";

/** A factor of 1 is no work. */
const factors = ({ dims: { alpha, beta } }: Costed) => Number(alpha !== 1) + Number(beta !== 1);

const k = twin("elementwise", {
  add: (given) => pointwise(1 + factors(given), "a", "b", "y")(given),
  mul: pointwise(1, "a", "b", "y"),
  div: pointwise(1, "a", "b", "y"),
  scale: pointwise(1, "a", "y"),
  shift: (given) => pointwise(1 + Number(given.dims.alpha !== 1), "a", "y")(given),
  fill: pointwise(0, "y"),
});

function run(
  entry: string,
  buffers: Record<string, Tensor>,
  size: number,
  dims: { alpha?: number; beta?: number } = {},
): void {
  const quads = Math.ceil(size / 4);
  const { alpha = 1, beta = 1 } = dims;
  const { y } = buffers;
  const { grid, variant } = overQuads(quads, launch(y.device, "elementwise", { quads }), elementFlags(y));
  k.run(entry, buffers, { quads, alpha, beta }, grid, variant);
}

/** alpha·a + beta·b, a·b or a/b, without a record. */
function combine(
  entry: "add" | "mul" | "div",
  name: string,
  a: Tensor,
  b: Tensor,
  alpha = 1,
  beta = 1,
): Tensor {
  checkFloat(name, { a, b });
  if (!sameShape(a.shape, b.shape)) return broadcast(entry, name, a, b, alpha, beta);
  const y = a.like(a.shape, a.dtype);
  run(entry, { a, b, y }, a.size, { alpha, beta });
  return y;
}

/** reduceTo(a·b, shape), without the product in memory where all of it is summed. */
function reduceProduct(a: Tensor, b: Tensor, shape: Shape): Tensor {
  const whole = shape.length === 0 && a.shape.length > 0 && sameShape(a.shape, b.shape);
  return whole ? dot(a, b, a.dtype) : reduceTo(mul(a, b), shape);
}

/**
 * y = alpha·a + beta·b.   a, b (…), or one of them the last axes of the other or a number   →   y (…)
 *
 * @example
 * ```ts
 * const a = Tensor.from(device, Float32Array.of(1, 2, 3, 4), [2, 2]);
 * const row = Tensor.from(device, Float32Array.of(10, 20), [2]);
 * console.log(await ops.add(a, row).read()); // [11, 22, 13, 24]
 * console.log(await ops.add(a, 1).read()); // [2, 3, 4, 5]
 * console.log(await ops.add(a, a, 2, -1).read()); // [1, 2, 3, 4]
 * ```
 */
export function add(a: Tensor, b: Tensor | number, alpha?: number, beta?: number): Tensor;
/** y = alpha·a + beta·b, with a number in the place of a. */
export function add(a: number, b: Tensor, alpha?: number, beta?: number): Tensor;
export function add(a: Tensor | number, b: Tensor | number, alpha = 1, beta = 1): Tensor {
  if (typeof b === "number") return shift("add", tensorOf("add", a), alpha, beta * b);
  return typeof a === "number" ? shift("add", b, beta, alpha * a) : axpby("add", a, b, alpha, beta);
}

/** y = a − b.   a, b (…), or one of them the last axes of the other or a number   →   y (…) */
export function sub(a: Tensor, b: Tensor | number): Tensor;
/** y = a − b, with a number in the place of a. */
export function sub(a: number, b: Tensor): Tensor;
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === "number") return shift("sub", tensorOf("sub", a), 1, -b);
  return typeof a === "number" ? shift("sub", b, -1, a) : axpby("sub", a, b, 1, -1);
}

/** alpha·a + beta·b, with its record. */
function axpby(name: string, a: Tensor, b: Tensor, alpha: number, beta: number): Tensor {
  const y = combine("add", name, a, b, alpha, beta);
  const scaled = (t: Tensor, factor: number) => (factor === 1 ? t : scale(t, factor));
  return record(name, [a, b], y, [], (dy, needs) => [
    needs[0] ? scaled(reduceTo(dy, a.shape), alpha) : undefined,
    needs[1] ? scaled(reduceTo(dy, b.shape), beta) : undefined,
  ]);
}

/** y = alpha·a + beta. */
function shift(name: string, a: Tensor, alpha: number, beta: number): Tensor {
  checkFloat(name, { a });
  const y = a.like(a.shape, a.dtype);
  run("shift", { a, y }, a.size, { alpha, beta });
  return record(name, [a], y, [], (dy) => [alpha === 1 ? dy : scale(dy, alpha)]);
}

/** y = alpha·a.   a (…) → y (…) */
export function scale(a: Tensor, alpha: number): Tensor {
  checkFloat("scale", { a });
  const y = a.like(a.shape, a.dtype);
  run("scale", { a, y }, a.size, { alpha });
  return record("scale", [a], y, [], (dy) => [scale(dy, alpha)]);
}

/** y = a·b.   a, b (…), or one of them the last axes of the other or a number   →   y (…) */
export function mul(a: Tensor, b: Tensor | number): Tensor;
/** y = a·b, with a number in the place of a. */
export function mul(a: number, b: Tensor): Tensor;
export function mul(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof a === "number") return scale(tensorOf("mul", b), a);
  if (typeof b === "number") return scale(a, b);
  const y = combine("mul", "mul", a, b);
  return record("mul", [a, b], y, [a, b], (dy, needs) => [
    needs[0] ? reduceProduct(dy, b, a.shape) : undefined,
    needs[1] ? reduceProduct(dy, a, b.shape) : undefined,
  ]);
}

/** y = a/b.   a, b (…), or one of them the last axes of the other or a number   →   y (…) */
export function div(a: Tensor, b: Tensor | number): Tensor;
/** y = a/b, with a number in the place of a. */
export function div(a: number, b: Tensor): Tensor;
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  if (typeof b === "number") {
    const dividend = tensorOf("div", a);
    return quotient(dividend, scalarBeside(dividend, b));
  }
  return quotient(typeof a === "number" ? scalarBeside(b, a) : a, b);
}

function quotient(a: Tensor, b: Tensor): Tensor {
  const y = combine("div", "div", a, b);
  return record("div", [a, b], y, [b, y], (dy, needs) => {
    // da = dy/b and db = −dy·y/b, before they are summed.
    const da = combine("div", "div", dy, b);
    return [
      needs[0] ? reduceTo(da, a.shape) : undefined,
      needs[1] ? scale(reduceProduct(da, y, b.shape), -1) : undefined,
    ];
  });
}

function tensorOf(name: string, operand: Tensor | number): Tensor {
  if (operand instanceof Tensor) return operand;
  throw new TypeError(`Cannot run ${name}: both operands are numbers, expected a tensor`);
}

/** The same bytes under another shape; the gradient goes back under the old one. Throws where the sizes differ. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const y = x.reshaped(shape);
  return y === x ? x : record("reshape", [x], y, [], (dy) => [dy.reshaped(x.shape)]);
}

/** A number as an operand beside x. */
const scalarBeside = (x: Tensor, value: number): Tensor =>
  full(x.device, [], value, x.dtype === "f16" ? "f16" : "f32");

/** A tensor whose values, f32 or f16, are all `value`. */
export function full(device: Device, shape: Shape, value: number, dtype: WeightDType = "f32"): Tensor {
  const y = Tensor.empty(device, shape, dtype);
  run("fill", { y }, sizeOf(shape), { alpha: value });
  return y;
}

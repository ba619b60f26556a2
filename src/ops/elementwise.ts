import type { Device } from "../gpu/device.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { type Shape, sameShape, showShape, sizeOf } from "../tensor/shape.ts";
import { provideAdd, record } from "../tensor/tape.ts";
import { Tensor } from "../tensor/tensor.ts";

const k = twin("elementwise");

function run(
  entry: string,
  buffers: Record<string, Tensor>,
  size: number,
  dims: { alpha?: number; beta?: number } = {},
): void {
  const quads = Math.ceil(size / 4);
  const { alpha = 1, beta = 1 } = dims;
  const overrides = launch(buffers.y.device, "elementwise");
  k.run(entry, buffers, { quads, alpha, beta }, gridFor(quads, overrides.WG), { overrides });
}

function checkSame(op: string, a: Tensor, b: Tensor): void {
  if (!sameShape(a.shape, b.shape))
    throw new TypeError(`Cannot run ${op}: a is ${showShape(a.shape)} but b is ${showShape(b.shape)}`);
}

/** y = alpha·a + beta·b.   a, b (…) → y (…) */
export function add(a: Tensor, b: Tensor, alpha = 1, beta = 1): Tensor {
  checkSame("add", a, b);
  const y = a.like();
  run("add", { a, b, y }, a.size, { alpha, beta });
  return record("add", [a, b], y, [], (dy, needs) => [
    needs[0] ? (alpha === 1 ? dy : scale(dy, alpha)) : undefined,
    needs[1] ? (beta === 1 ? dy : scale(dy, beta)) : undefined,
  ]);
}

/** y = alpha·a.   a (…) → y (…) */
export function scale(a: Tensor, alpha: number): Tensor {
  const y = a.like();
  run("scale", { a, y }, a.size, { alpha });
  return record("scale", [a], y, [], (dy) => [scale(dy, alpha)]);
}

/** y = a·b, pointwise.   a, b (…) → y (…) */
export function multiply(a: Tensor, b: Tensor): Tensor {
  checkSame("multiply", a, b);
  const y = a.like();
  run("modulate", { a, b, y }, a.size);
  return record("multiply", [a, b], y, [a, b], (dy, needs) => [
    needs[0] ? multiply(dy, b) : undefined,
    needs[1] ? multiply(dy, a) : undefined,
  ]);
}

/** The same bytes under another shape; the gradient goes back under the old one. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const y = x.reshaped(shape);
  return y === x ? x : record("reshape", [x], y, [], (dy) => [dy.reshaped(x.shape)]);
}

/** A tensor of one value. */
export function full(device: Device, shape: Shape, value: number): Tensor {
  const y = Tensor.empty(device, shape);
  run("fill", { y }, sizeOf(shape), { alpha: value });
  return y;
}

provideAdd(add);

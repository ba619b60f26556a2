/**
 * Arithmetic of two shapes: the twin of kernels/broadcast.wgsl. The smaller operand has the last axes of the larger and
 * is repeated over those before: (C) beside (…, C), a scalar () beside anything. It serves elementwise.ts, which records
 * the backward: no gradient of its own.
 */
import { type Costed, pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { type Shape, sameShape, showShape, sizeOf } from "../tensor/shape.ts";
import { elementFlags, type Tensor, type WeightDType } from "../tensor/tensor.ts";
import { cast } from "./convert.ts";
import { columnSum, sum } from "./reduce.ts";

/** A factor of 1 is no work. */
const factors = ({ dims: { alpha, beta } }: Costed) => Number(alpha !== 1) + Number(beta !== 1);

const k = twin("broadcast", {
  add: (given) => pointwise(1 + factors(given), "large", "small", "y")(given),
  mul: pointwise(1, "large", "small", "y"),
  div: pointwise(1, "large", "small", "y"),
  reciprocal: pointwise(1, "large", "small", "y"),
});

/** Is `small` the last axes of `large`? */
const isSuffix = (small: Shape, large: Shape): boolean =>
  small.length <= large.length && sameShape(small, large.slice(large.length - small.length));

/** alpha·a + beta·b, a·b or a/b, whichever of the two is repeated. `name` is the operator's, for errors. */
export function broadcast(
  entry: "add" | "mul" | "div",
  name: string,
  a: Tensor,
  b: Tensor,
  alpha = 1,
  beta = 1,
): Tensor {
  const repeatsB = isSuffix(b.shape, a.shape);
  if (!repeatsB && !isSuffix(a.shape, b.shape))
    throw new TypeError(
      `Cannot run ${name}: a is ${showShape(a.shape)} but b is ${showShape(b.shape)}, expected one shape or the last axes of the other`,
    );
  const [large, small] = repeatsB ? [a, b] : [b, a];
  const factors = repeatsB ? { alpha, beta } : { alpha: beta, beta: alpha };
  const y = large.like(large.shape, large.dtype);
  const quads = Math.ceil(y.size / 4);
  const dims = { quads, n: small.size, ...factors };
  const run = entry === "div" && !repeatsB ? "reciprocal" : entry;
  const { grid, variant } = overQuads(quads, launch(y.device, "broadcast", { quads }), elementFlags(y));
  k.run(run, { large, small, y }, dims, grid, variant);
  return y;
}

/** The gradient of what was repeated: the sum over its repetitions, in a fixed order.   (…, shape) → shape */
export function reduceTo(gradient: Tensor, shape: Shape): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  if (shape.length === 0) return cast(sum(gradient), gradient.dtype as WeightDType);
  const rows = sizeOf(gradient.shape.slice(0, gradient.shape.length - shape.length));
  return columnSum(gradient.reshaped([rows, sizeOf(shape)]), gradient.dtype).reshaped(shape);
}

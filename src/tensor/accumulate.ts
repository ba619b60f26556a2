/** The sum of two gradients: the twin of kernels/accumulate.wgsl, and the one kernel that the backward walk needs. */
import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { checkShape } from "./shape.ts";
import { elementFlags, type Tensor } from "./tensor.ts";

const k = twin("accumulate", { forward: pointwise(1, "a", "b", "y") });

/** y = a + b.   a, b (…) → y (…)   Has no gradient. */
export function accumulate(a: Tensor, b: Tensor): Tensor {
  checkShape("accumulate", "b", b.shape, a.shape);
  const y = a.like(a.shape, a.dtype);
  const quads = Math.ceil(a.size / 4);
  const { grid, variant } = overQuads(quads, launch(a.device, "accumulate", { quads }), elementFlags(a));
  k.run("forward", { a, b, y }, { quads }, grid, variant);
  return y;
}

/** The sum of two gradients: the twin of kernels/accumulate.wgsl, and the one kernel that the backward walk needs. */
import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

const k = twin("accumulate", { forward: pointwise(1, "a", "b", "y") });
/** Workgroups of one dimension, at most; threads go on with what is left. */
const GROUPS = 65535;

/** y = a + b.   a, b (…) → y (…)   Has no gradient. */
export function accumulate(a: Tensor, b: Tensor): Tensor {
  checkShape("accumulate", "b", b.shape, a.shape);
  const y = a.like();
  const quads = Math.ceil(a.size / 4);
  const overrides = launch(a.device, "accumulate");
  k.run("forward", { a, b, y }, { quads }, [Math.min(GROUPS, Math.ceil(quads / overrides.WG))], {
    overrides,
  });
  return y;
}

import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { record } from "../tensor/tape.ts";
import { checkFloat, elementFlags, type Tensor } from "../tensor/tensor.ts";

const k = twin("softplus", {
  forward: pointwise(4, "x", "y"), // exp, log1p, max, +
  backward: pointwise(4, "x", "dy", "dx"), // sigmoid (exp, +, /), ·
});

/** y = ln(1 + eˣ), exact also where |x| is large.   x (…) → y (…)      saved: x */
export function softplus(x: Tensor): Tensor {
  checkFloat("softplus", { x });
  const quads = Math.ceil(x.size / 4);
  const { grid, variant } = overQuads(quads, launch(x.device, "softplus", { quads }), elementFlags(x));
  const y = x.like(x.shape, x.dtype);
  k.run("forward", { x, y }, { quads }, grid, variant);
  return record("softplus", [x], y, [x], (dy) => {
    const dx = x.like(x.shape, x.dtype);
    k.run("backward", { x, dy, dx }, { quads }, grid, variant);
    return [dx];
  });
}

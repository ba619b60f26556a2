import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { record } from "../tensor/tape.ts";
import { checkF32, type Tensor } from "../tensor/tensor.ts";

const k = twin("softplus", {
  forward: pointwise(4, "x", "y"), // exp, log1p, max, +
  backward: pointwise(4, "x", "dy", "dx"), // sigmoid (exp, +, /), ·
});

/** y = ln(1 + eˣ), exact also where |x| is large.   x (…) → y (…)      saved: x */
export function softplus(x: Tensor): Tensor {
  checkF32("softplus", { x });
  const overrides = launch(x.device, "softplus");
  const quads = Math.ceil(x.size / 4);
  const grid = gridFor(quads, overrides.WG);
  const y = x.like();
  k.run("forward", { x, y }, { quads }, grid, { overrides });
  return record("softplus", [x], y, [x], (dy) => {
    const dx = x.like();
    k.run("backward", { x, dy, dx }, { quads }, grid, { overrides });
    return [dx];
  });
}

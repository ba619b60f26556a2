import { describeValue } from "../io/checks.ts";
import { redrawn, varies } from "../gpu/capture.ts";
import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { noteSeed, record } from "../tensor/tape.ts";
import { elementFlags, type Tensor } from "../tensor/tensor.ts";

const k = twin("dropout", { forward: pointwise(1, "x", "y") });

/** Throws unless `rate` is a share. */
export function checkRate(op: string, rate: number): void {
  if (!(typeof rate === "number" && rate >= 0 && rate <= 1))
    throw new RangeError(
      `Cannot run ${op}: the rate of dropout is ${describeValue(rate)} but should be from 0 to 1`,
    );
}

/** Random bits below `dropBelow` drop an element; the others are multiplied by `keep`, which is 0 at rate 1. */
export const dropping = (rate: number): { dropBelow: number; keep: number } => ({
  dropBelow: Math.min(0xffffffff, Math.round(rate * 2 ** 32)),
  keep: rate < 1 ? 1 / (1 - rate) : 0,
});

function apply(x: Tensor, rate: number, seed: () => number): Tensor {
  const y = x.like(x.shape, x.dtype);
  const quads = Math.ceil(x.size / 4);
  const dims = { quads, seed: seed(), ...dropping(rate) };
  varies(x.device, dims, { seed });
  const { grid, variant } = overQuads(quads, launch(x.device, "dropout", { quads }), elementFlags(x));
  k.run("forward", { x, y }, dims, grid, variant);
  return y;
}

/**
 * Zeros a share `rate` of x and scales the rest by 1/(1 − rate).   x (…) → y (…)
 *
 * Without `source`, or at rate 0, it is x itself. Each call draws one seed from `source`; no mask is stored.
 */
export function dropout(
  x: Tensor,
  rate: number,
  source: { readonly next: () => number } | undefined,
): Tensor {
  checkRate("dropout", rate);
  if (!source || rate === 0) return x;
  if (typeof source.next !== "function")
    throw new TypeError(
      `Cannot run dropout: source is ${describeValue(source)} but should be a stream of seeds, as trainingStream() makes`,
    );
  const seed = redrawn(x.device, () => source.next());
  noteSeed(x.device, "dropout", seed());
  return record("dropout", [x], apply(x, rate, seed), [], (dy) => [apply(dy, rate, seed)]);
}

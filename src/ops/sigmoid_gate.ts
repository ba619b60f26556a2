import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, rowsOf } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { elementFlags, type Tensor } from "../tensor/tensor.ts";

/** exp, + and / of a sigmoid, where there is one. */
const sigmoid = ({ dims }: { dims: Readonly<Record<string, number>> }) => (dims.useSigmoid ? 3 : 0);

// FLOPs of an element of s.
const k = twin("sigmoid_gate", {
  concat_pair: (given) => pointwise(2 * sigmoid(given), "s", "c", "y")(given),
  // Both slopes: σ(x)·σ(−x), which a product takes.
  concat_pair_backward: (given) =>
    pointwise(given.dims.useSigmoid ? 10 : 0, "s", "c", "dy", "ds", "dc")(given),
  gated_concat: (given) => pointwise(3 + sigmoid(given), "s", "c", "g", "y")(given),
  gated_concat_backward: (given) =>
    pointwise(given.dims.useSigmoid ? 11 : 6, "s", "c", "g", "dy", "ds", "dc", "dg")(given),
  sum_time: pointwise(1, "g", "y"),
});

const sizes = (s: Tensor, useSigmoid: boolean, gPeriod = 1) => ({
  N: rowsOf(s.shape),
  C: s.shape.at(-1) ?? 1,
  useSigmoid: useSigmoid ? 1 : 0,
  gPeriod,
});

/** Grid and variant for a thread to each of `threads` elements. */
function launched(x: Tensor, threads: number) {
  const overrides = launch(x.device, "sigmoid_gate");
  return { grid: gridFor(threads, overrides.WG), variant: { flags: elementFlags(x), overrides } };
}

/** s and c side by side, after a sigmoid if `useSigmoid`.   s, c (…, C) → y (…, 2C) */
export function concatPair(s: Tensor, c: Tensor, useSigmoid = false): Tensor {
  checkShape("concatPair", "c", c.shape, s.shape);
  const dims = sizes(s, useSigmoid);
  const { grid, variant } = launched(s, s.size);
  const y = s.like([...s.shape.slice(0, -1), 2 * dims.C], s.dtype);
  k.run("concat_pair", { s, c, y }, dims, grid, variant);
  return record("concatPair", [s, c], y, [s, c], (dy) => {
    const ds = s.like(s.shape, s.dtype);
    const dc = c.like(c.shape, c.dtype);
    k.run("concat_pair_backward", { s, c, dy, ds, dc }, dims, grid, variant);
    return [ds, dc];
  });
}

/**
 * y = concat(s ⊙ G, c ⊙ (1 − G)), G = σ(g) if `useSigmoid`, else g.   s, c (B, T, C)   g (B, T, C)   →   y (B, T, 2C)
 *
 * A g of shape (B, 1, C) is one gate for all T of a sample: the pooled gate.
 */
export function gatedConcat(s: Tensor, c: Tensor, g: Tensor, useSigmoid = false): Tensor {
  checkShape("gatedConcat", "c", c.shape, s.shape);
  const [B, T, C] = s.shape;
  const pooled = g.shape[1] === 1 && T !== 1;
  checkShape("gatedConcat", "g", g.shape, pooled ? [B, 1, C] : s.shape);
  const dims = sizes(s, useSigmoid, pooled ? T : 1);
  const { grid, variant } = launched(s, s.size);
  const y = s.like([B, T, 2 * C], s.dtype);
  k.run("gated_concat", { s, c, g, y }, dims, grid, variant);
  return record("gatedConcat", [s, c, g], y, [s, c, g], (dy) => {
    const ds = s.like(s.shape, s.dtype);
    const dc = c.like(c.shape, c.dtype);
    const dg = s.like(s.shape, s.dtype);
    k.run("gated_concat_backward", { s, c, g, dy, ds, dc, dg }, dims, grid, variant);
    return [ds, dc, pooled ? sumTime(dg) : dg];
  });
}

/** The pooled gate's gradient.   (B, T, C) → (B, 1, C) */
function sumTime(g: Tensor): Tensor {
  const [B, T, C] = g.shape;
  const y = g.like([B, 1, C], g.dtype);
  const { grid, variant } = launched(g, y.size);
  const dims = { N: B * T, C, useSigmoid: 0, gPeriod: T };
  k.run("sum_time", { g, y }, dims, grid, variant);
  return y;
}

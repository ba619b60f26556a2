import { twin } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { noGradient, record } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";

const k = twin("reduce");

const zero = { rows: 0, C: 0, step: 0, B: 0, T: 0 };

/**
 * Sum over rows, in a fixed order: many rows go in two passes.   x (rows, C) → y (C)
 *
 * Used inside backwards; has no gradient of its own.
 */
export function columnSum(x: Tensor): Tensor {
  const [rows, C] = x.shape;
  const overrides = launch(x.device, "reduce");
  const pass = (from: Tensor, n: number, parts: number, y: Tensor) =>
    k.run(
      "columns",
      { x: from, y },
      { ...zero, rows: n, C, step: Math.ceil(n / parts) },
      [Math.ceil(C / overrides.WG), parts],
      { overrides },
    );
  const { parts } = launch(x.device, "reduce.columns", { rows });
  const y = x.like([C]);
  if (parts === 1) {
    pass(x, rows, 1, y);
    return y;
  }
  const partial = x.like([parts, C]);
  pass(x, rows, parts, partial);
  pass(partial, parts, 1, y);
  return y;
}

/**
 * Mean over the real frames.   x (B, T, C)   mask (B, T) u32, 1 = real   →   y (B, C)
 *
 * A sample without a real frame gives zeros.
 */
export function maskedMean(x: Tensor, mask: Tensor): Tensor {
  checkShape("maskedMean", "x", x.shape, [-1, -1, -1]);
  const [B, T, C] = x.shape;
  checkShape("maskedMean", "mask", mask.shape, [B, T]);
  const overrides = launch(x.device, "reduce");
  const grid = [Math.ceil(C / overrides.WG), B] as const;
  const dims = { ...zero, B, T, C };
  const y = x.like([B, C]);
  k.run("mean_time", { x, mask, y }, dims, grid, { overrides });
  return record("maskedMean", [x], y, [mask], (dy) => {
    const dx = x.like();
    k.run("spread", { x: dy, mask, y: dx }, dims, grid, { overrides });
    return [dx];
  });
}

/** Σ a·b over all elements, in a fixed order.   a, b (…) → () */
export function dot(a: Tensor, b: Tensor): Tensor {
  checkShape("dot", "b", b.shape, a.shape);
  const overrides = launch(a.device, "reduce");
  const rows = a.size;
  const { parts } = launch(a.device, "reduce.dots", { size: rows });
  const partial = a.like([parts, 1]);
  const dims = { ...zero, rows, step: Math.ceil(rows / parts) };
  k.run("dots", { x: a, m: b, y: partial }, dims, [parts], { overrides });
  const y = columnSum(partial).reshaped([]);
  return record(
    "dot",
    [a, b],
    y,
    [a, b],
    noGradient("dot", "its gradient is its other factor; start from that"),
  );
}

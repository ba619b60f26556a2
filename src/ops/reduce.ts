import { twin } from "../gpu/kernel.ts";
import { checkShape } from "../tensor/shape.ts";
import { noGradient, record } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";

const k = twin("reduce");

const width = (x: Tensor) => (x.device.info.cpu ? 8 : 64);
const zero = { rows: 0, C: 0, step: 0, B: 0, T: 0 };

/**
 * Sum over rows, in a fixed order: many rows go in two passes.   x (rows, C) → y (C)
 *
 * Used inside backwards; has no gradient of its own.
 */
export function columnSum(x: Tensor): Tensor {
  const [rows, C] = x.shape;
  const WG = width(x);
  const pass = (from: Tensor, n: number, splits: number, y: Tensor) =>
    k.run(
      "columns",
      { x: from, y },
      { ...zero, rows: n, C, step: Math.ceil(n / splits) },
      [Math.ceil(C / WG), splits],
      { overrides: { WG } },
    );
  const splits = rows > 256 ? Math.min(64, Math.ceil(rows / 64)) : 1;
  const y = x.like([C]);
  if (splits === 1) {
    pass(x, rows, 1, y);
    return y;
  }
  const partial = x.like([splits, C]);
  pass(x, rows, splits, partial);
  pass(partial, splits, 1, y);
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
  const WG = width(x);
  const dims = { ...zero, B, T, C };
  const y = x.like([B, C]);
  k.run("mean_time", { x, mask, y }, dims, [Math.ceil(C / WG), B], { overrides: { WG } });
  return record("maskedMean", [x], y, [mask], (dy) => {
    const dx = x.like();
    k.run("spread", { x: dy, mask, y: dx }, dims, [Math.ceil(C / WG), B], { overrides: { WG } });
    return [dx];
  });
}

/** Σ a·b over all elements, in a fixed order.   a, b (…) → () */
export function dot(a: Tensor, b: Tensor): Tensor {
  checkShape("dot", "b", b.shape, a.shape);
  const WG = width(a);
  const rows = a.size;
  const splits = Math.max(1, Math.min(256, Math.ceil(rows / 4096)));
  const partial = a.like([splits, 1]);
  k.run("dots", { x: a, m: b, y: partial }, { ...zero, rows, step: Math.ceil(rows / splits) }, [splits], {
    overrides: { WG },
  });
  const y = columnSum(partial).reshaped([]);
  return record(
    "dot",
    [a, b],
    y,
    [a, b],
    noGradient("dot", "its gradient is its other factor; start from that"),
  );
}

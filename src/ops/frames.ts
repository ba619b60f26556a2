/** Ops that move or mask whole rows: the twin of kernels/frames.wgsl. */
import { describeValue } from "../io/checks.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape, rowsOf, sameShape, showShape, sizeOf } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { elementFlags, type Tensor, type WeightDType } from "../tensor/tensor.ts";
import { full } from "./elementwise.ts";
import { columnSum } from "./reduce.ts";

const k = twin("frames", {
  choose: ({ dims: { hasFill }, bytes }) => ({
    flops: 0,
    bytes: moved(bytes, "x", "keep", "y") + (hasFill ? bytes("fill") : 0),
  }),
  rejected: ({ bytes }) => ({ flops: 0, bytes: moved(bytes, "x", "keep", "y") }),
  // One part of y, or of x.
  concat: ({ bytes }) => ({ flops: 0, bytes: 2 * bytes("x") }),
  slice: ({ bytes }) => ({ flops: 0, bytes: 2 * bytes("y") }),
});

function run(
  entry: string,
  buffers: Record<string, Tensor>,
  size: number,
  dims: { C?: number; Cy?: number; start?: number; hasFill?: number },
): void {
  const overrides = launch(buffers.y.device, "frames");
  const all = { size, C: 1, Cy: 1, start: 0, hasFill: 0, ...dims };
  const flags = elementFlags(buffers.y);
  k.run(entry, buffers, all, gridFor(size, overrides.WG), { flags, overrides });
}

/**
 * Rows of x where `keep` is 1; elsewhere `fill`, or zeros.   x (…, C)   keep (…) u32   fill (C)   →   y (…, C)
 */
export function maskRows(x: Tensor, keep: Tensor, fill?: Tensor): Tensor {
  checkShape("maskRows", "keep", keep.shape, x.shape.slice(0, -1));
  const C = x.shape.at(-1) ?? 1;
  if (fill) checkShape("maskRows", "fill", fill.shape, [C]);
  const y = x.like(x.shape, x.dtype);
  run("choose", { x, keep, fill: fill ?? x, y }, x.size, { C, hasFill: fill ? 1 : 0 });
  return record("maskRows", fill ? [x, fill] : [x], y, [keep], (dy, needs) => {
    const dx = needs[0] ? maskRows(dy, keep) : undefined;
    if (!fill) return [dx];
    if (!needs[1]) return [dx, undefined];
    const rejected = dy.like([rowsOf(dy.shape), C], dy.dtype);
    run("rejected", { x: dy, keep, y: rejected }, dy.size, { C });
    return [dx, columnSum(rejected, fill.dtype)];
  });
}

/** Parts side by side along the last axis.   (…, C1), (…, C2), … → (…, C1 + C2 + …) */
export function concat(parts: readonly Tensor[]): Tensor {
  if (!Array.isArray(parts) || parts.length === 0)
    throw new TypeError(
      `Cannot run concat: parts are ${describeValue(parts)} but should be an array of one tensor or more`,
    );
  const lead = parts[0].shape.slice(0, -1);
  for (const p of parts) {
    if (!sameShape(p.shape.slice(0, -1), lead))
      throw new TypeError(
        `Cannot run concat: ${showShape(p.shape)} stands beside ${showShape(parts[0].shape)}`,
      );
  }
  const widths = parts.map((p) => p.shape.at(-1) ?? 1);
  const Cy = widths.reduce((a, b) => a + b, 0);
  const y = parts[0].like([...lead, Cy], parts[0].dtype);
  const starts = widths.map((_, i) => widths.slice(0, i).reduce((a, b) => a + b, 0));
  for (const [i, x] of parts.entries())
    run("concat", { x, y }, x.size, { C: widths[i], Cy, start: starts[i] });
  return record("concat", parts, y, [], (dy, needs) =>
    widths.map((w, i) => (needs[i] ? slice(dy, starts[i], w) : undefined)),
  );
}

/** Columns start … start + width − 1 of the last axis.   (…, C) → (…, width) */
export function slice(x: Tensor, start: number, width: number): Tensor {
  const C = x.shape.at(-1) ?? 1;
  if (start < 0 || start + width > C)
    throw new RangeError(`Cannot run slice: columns ${start} to ${start + width} of ${showShape(x.shape)}`);
  const shape = [...x.shape.slice(0, -1), width];
  const y = x.like(shape, x.dtype);
  run("slice", { x, y }, sizeOf(shape), { C, Cy: width, start });
  return record("slice", [x], y, [], (dy) => {
    const zeros = (columns: number) =>
      full(dy.device, [...shape.slice(0, -1), columns], 0, dy.dtype as WeightDType);
    return [concat([zeros(start), dy, zeros(C - start - width)].filter((t) => t.size > 0))];
  });
}

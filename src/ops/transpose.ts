/** Rows and columns exchanged: the twin of kernels/transpose.wgsl. */
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { record } from "../tensor/tape.ts";
import { elementFlags, type Tensor } from "../tensor/tensor.ts";

/** Rows of x that a thread takes. */
const ROWS = 16;

const k = twin("transpose", { forward: ({ bytes }) => ({ flops: 0, bytes: moved(bytes, "x", "y") }) });

/** Rows of x, in elements, and of its transpose: of Ry columns, where zeros follow the R that x has rows. */
type Rows = {
  readonly R: number;
  readonly C: number;
  readonly Ry: number;
  readonly xRowStride: number;
  readonly xBatchStride: number;
};

/** Each of B matrices in x with rows and columns exchanged   →   (B, C, Ry). Has no gradient. */
export function transposed(x: Tensor, B: number, rows: Rows): Tensor {
  const { C, Ry, xRowStride, xBatchStride } = rows;
  const y = x.like([B, C, Ry], x.dtype);
  const vec = [C, Ry, xRowStride, xBatchStride].every((n) => n % 4 === 0);
  const overrides = launch(x.device, "transpose");
  const size = B * Math.ceil(Ry / ROWS) * Math.ceil(C / 4);
  const flags = { vec, ROWS, ...elementFlags(x) };
  k.run("forward", { x, y }, { size, ...rows }, gridFor(size, overrides.WG), { flags, overrides });
  return y;
}

/** The last two axes exchanged.   (B, R, C) → (B, C, R) */
export function transpose(x: Tensor): Tensor {
  checkShape("transpose", "x", x.shape, [-1, -1, -1]);
  const [B, R, C] = x.shape;
  const y = transposed(x, B, { R, C, Ry: R, xRowStride: C, xBatchStride: R * C });
  return record("transpose", [x], y, [], (dy) => [transpose(dy)]);
}

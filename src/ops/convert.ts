import { checkChoice } from "../io/checks.ts";
import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { notDifferentiable, record } from "../tensor/tape.ts";
import { checkF32, checkFloat, Tensor, type WeightDType } from "../tensor/tensor.ts";

const k = twin("convert", { forward: pointwise(0, "x", "y") });
/** Storage types of a checkpoint that the GPU converts itself. */
export type GpuStoredDType = "BF16" | "F16" | "F32";

const FROM: readonly GpuStoredDType[] = ["BF16", "F16", "F32"];

/**
 * The values of `raw` as f32 or f16.   raw: a tensor over the file's bytes   →   y (shape)
 *
 * f16 keeps 11 bits and overflows beyond 65504.
 */
export function convert(
  raw: Tensor,
  from: GpuStoredDType,
  shape: readonly number[],
  to: WeightDType,
): Tensor {
  checkChoice("run convert", "from", from, FROM);
  checkChoice("run convert", "to", to, ["f32", "f16"]);
  const reason = "it reads stored bytes; cast() and halved() have a gradient";
  return record("convert", [raw], run(raw, from, shape, to), [], notDifferentiable("convert", reason));
}

function run(raw: Tensor, from: GpuStoredDType, shape: readonly number[], to: WeightDType): Tensor {
  const y = Tensor.empty(raw.device, shape, to);
  const quads = Math.ceil(y.size / 4);
  const flags = { half: from !== "F32", to16: to === "f16" };
  const { grid, variant } = overQuads(quads, launch(y.device, "convert", { quads }), flags);
  k.run("forward", { x: raw, y }, { quads, kind: from === "F16" ? 1 : 0 }, grid, variant);
  return y;
}

/** An f16 copy of an f32 weight for products; its gradient, which stays f32, is the weight's. */
export function halved(w: Tensor): Tensor {
  checkF32("halved", { w });
  return record("halved", [w], run(w, "F32", w.shape, "f16"), [], (dy) => [dy]);
}

/**
 * x in f32 or f16; its gradient comes back in x's own dtype.   x (…) → y (…)
 *
 * f16 keeps 11 bits and overflows beyond 65504. What is of the dtype already is returned as it is.
 */
export function cast(x: Tensor, dtype: WeightDType): Tensor {
  checkFloat("cast", { x });
  checkChoice("run cast", "dtype", dtype, ["f32", "f16"]);
  if (x.dtype === dtype) return x;
  const [from, back] = dtype === "f16" ? (["F32", "F16"] as const) : (["F16", "F32"] as const);
  const own = x.dtype as WeightDType;
  return record("cast", [x], run(x, from, x.shape, dtype), [], (dy) => [run(dy, back, x.shape, own)]);
}

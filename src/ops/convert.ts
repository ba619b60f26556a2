import { checkChoice } from "../io/checks.ts";
import { pointwise } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { notDifferentiable, record } from "../tensor/tape.ts";
import { checkF32, Tensor, type WeightDType } from "../tensor/tensor.ts";

const k = twin("convert", { forward: pointwise(0, "x", "y") });
/** Storage types of a checkpoint that the GPU converts itself. */
export type GpuStoredDType = "BF16" | "F16" | "F32";

const kinds: Readonly<Record<GpuStoredDType, number>> = { BF16: 0, F16: 1, F32: 2 };

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
  checkChoice("run convert", "from", from, Object.keys(kinds));
  checkChoice("run convert", "to", to, ["f32", "f16"]);
  const reason = "it reads stored bytes; halved() has a gradient";
  return record("convert", [raw], run(raw, from, shape, to), [], notDifferentiable("convert", reason));
}

function run(raw: Tensor, from: GpuStoredDType, shape: readonly number[], to: WeightDType): Tensor {
  const y = Tensor.empty(raw.device, shape, to);
  const pairs = Math.ceil(y.size / 2);
  const overrides = launch(y.device, "convert");
  k.run(
    "forward",
    { x: raw, y },
    { pairs, kind: kinds[from], to16: to === "f16" ? 1 : 0 },
    gridFor(pairs, overrides.WG),
    { overrides },
  );
  return y;
}

/** An f16 copy of an f32 weight for products; its gradient, which stays f32, is the weight's. */
export function halved(w: Tensor): Tensor {
  checkF32("halved", { w });
  return record("halved", [w], run(w, "F32", w.shape, "f16"), [], (dy) => [dy]);
}

/** Gradients through the tape, and a kernel that leaves no record on it. */
import { twin } from "../src/gpu/kernel.ts";
import { full } from "../src/ops/elementwise.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { FLAGS } from "./elementwise_flags.ts";

/** vjp() with a cotangent of ones; the values of the gradients, undefined where there is none. */
export async function gradients(
  inputs: readonly Tensor[],
  body: () => Tensor,
): Promise<(number | undefined)[]> {
  const { device: on } = inputs[0];
  const result = scope(on, () =>
    vjp(on, inputs, () => ({ outputs: [body()], cotangents: [full(on, [3], 1)] })),
  );
  const found = await Promise.all(inputs.map(async (t) => (await result.gradients.get(t)?.read())?.[0]));
  if (!inputs.includes(result.outputs[0])) result.outputs[0].release();
  for (const g of new Set(result.gradients.values())) g.release();
  return found;
}

/** 2·t by a kernel, and no record. */
export function bare(t: Tensor): Tensor {
  const y = t.like();
  const dims = { quads: Math.ceil(t.size / 4), alpha: 2, beta: 1 };
  twin("elementwise", {}).run("scale", { a: t, y }, dims, [1], { flags: FLAGS });
  return y;
}
export const cutBy = (kernel: string, shape = "(3)") => ({
  message: `Cannot differentiate ${kernel}: it made a tensor of shape ${shape} from a tracked one without a record; record() its backward, or notDifferentiable()`,
});

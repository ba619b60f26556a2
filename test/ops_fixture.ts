/** Runs an op on the GPU, forward and backward, on inputs that no record has. */
import assert from "node:assert/strict";
import type { Device } from "../src/gpu/device.ts";
import { relativeL2 } from "../src/records/float64.ts";
import { describe, type Ran, runOperator } from "../src/records/run.ts";
import { scope } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { normal } from "./reference.ts";

export interface Given {
  readonly shape: Shape;
  readonly data: Float32Array;
}

export const given = (shape: Shape, seed: number, scale = 1): Given => ({
  shape,
  data: normal(sizeOf(shape), seed, scale),
});

/** Runs `op` with and without a tape. Fails if an input gets no gradient, or if a live byte is left in the pool. */
export async function run(
  device: Device,
  inputs: readonly Given[],
  op: (...tensors: Tensor[]) => Tensor,
): Promise<Ran & { readonly gradients: readonly Float32Array[] }> {
  const ran = await runOperator(device, () => {
    const leaves = inputs.map(({ shape, data }) => Tensor.from(device, data, shape));
    return { leaves, call: () => op(...leaves) };
  });
  assert.equal(ran.leaked, 0, "bytes are left alive in the pool");
  const gradients = ran.gradients.map((g, i) => {
    assert.ok(g, `input ${i} has no gradient`);
    return g;
  });
  return { ...ran, gradients };
}

/** The output of `op` alone. */
export async function forward(
  device: Device,
  inputs: readonly Given[],
  op: (...tensors: Tensor[]) => Tensor,
): Promise<Float32Array> {
  const y = scope(device, () => op(...inputs.map(({ shape, data }) => Tensor.from(device, data, shape))));
  const values = await y.read();
  y.release();
  return values;
}

/** Fails if ‖got − want‖ / ‖want‖ exceeds `limit`. */
export function near(got: ArrayLike<number>, want: ArrayLike<number>, limit: number, what: string): void {
  const deviation = { what, relL2: relativeL2(got, want), tolerance: limit, got, want };
  assert.ok(deviation.relL2 <= limit, describe(deviation));
}

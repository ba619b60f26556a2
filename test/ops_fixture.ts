/** Runs an op on the GPU, forward and backward, and measures how far it is from float64. */
import assert from "node:assert/strict";
import type { Device } from "../src/gpu/device.ts";
import { scope } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { normal, relativeL2 } from "./reference.ts";

export interface Given {
  readonly shape: Shape;
  readonly data: Float32Array;
}

export const given = (shape: Shape, seed: number, scale = 1): Given => ({
  shape,
  data: normal(sizeOf(shape), seed, scale),
});

export interface Ran {
  /** The output where nothing is recorded: fused forwards show here. */
  readonly y: Float32Array;
  /** The output on a tape. */
  readonly recorded: Float32Array;
  readonly shape: Shape;
  /** The weights of the loss Σ y·dy. */
  readonly dy: Float32Array;
  /** Gradient of each input, in their order. */
  readonly gradients: Float32Array[];
}

/** Runs `op` with and without a tape. Fails if it leaves a live byte in the pool. */
export async function run(
  device: Device,
  inputs: readonly Given[],
  op: (...tensors: Tensor[]) => Tensor,
): Promise<Ran> {
  const { live } = device.pool.statistics;
  const upload = () => inputs.map(({ shape, data }) => Tensor.from(device, data, shape));
  const plain = scope(device, () => op(...upload()));
  const { shape } = plain;
  const dy = normal(plain.size, 991);
  const { output, gradients } = scope(device, () => {
    const inputs = upload();
    const result = vjp(device, inputs, () => ({
      outputs: [op(...inputs)],
      cotangents: [Tensor.from(device, dy, shape)],
    }));
    return { output: result.outputs[0], gradients: inputs.map((t) => result.gradients.get(t)) };
  });
  const ran: Ran = {
    y: await plain.read(),
    recorded: await output.read(),
    shape,
    dy,
    gradients: await Promise.all(
      gradients.map((g, i) => {
        assert.ok(g, `input ${i} has no gradient`);
        return g.read();
      }),
    ),
  };
  for (const t of [plain, output, ...gradients]) t?.release();
  assert.equal(device.pool.statistics.live, live, "bytes are left alive in the pool");
  return ran;
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
  const distance = relativeL2(got, want);
  let worst = 0;
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i] - want[i]) <= Math.abs(got[worst] - want[worst]))) worst = i;
  assert.ok(
    distance <= limit,
    `${what} is ${distance} from float64, limit ${limit}; at ${worst} of ${want.length}: ${got[worst]}, reference ${want[worst]}`,
  );
}

/** Forward, recorded forward and gradients against float64. */
export function agree(
  ran: Ran,
  want: { y: ArrayLike<number>; gradients: readonly ArrayLike<number>[] },
  limit = 2e-6,
  gradientLimit = limit,
): void {
  near(ran.y, want.y, limit, "y");
  near(ran.recorded, want.y, limit, "the recorded y");
  assert.equal(ran.gradients.length, want.gradients.length);
  for (const [i, g] of want.gradients.entries()) near(ran.gradients[i], g, gradientLimit, `gradient ${i}`);
}

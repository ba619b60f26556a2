/** Gradients against directional finite differences, for any op. */
import assert from "node:assert/strict";
import type { Device } from "../src/gpu/device.ts";
import { scope } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { normal } from "./reference.ts";

/** An input: its shape, filled with normal numbers, or its values too. */
export type CheckedInput = Shape | { readonly shape: Shape; readonly data: Float32Array };

export interface GradcheckOptions {
  /** Length of a step in units of the random direction; 0.01 by default. */
  step?: number;
  /** Largest error relative to the norm of the gradient; 2e-3 by default, as f32 outputs are noisy. */
  tolerance?: number;
  /** Random directions for each input; 2 by default. */
  directions?: number;
  seed?: number;
}

interface Filled {
  readonly shape: Shape;
  readonly data: Float32Array;
}

/**
 * Checks every input's gradient of L = Σ out·c, c random and fixed.
 *
 * Along a unit direction v, the gradient's g·v must be (8(L(+h) − L(−h)) − (L(+2h) − L(−2h))) / 12h. The sum runs in
 * float64 on the CPU. Throws an AssertionError that names the input.
 */
export async function checkGradients(
  device: Device,
  op: (...inputs: Tensor[]) => Tensor,
  inputs: readonly CheckedInput[],
  options: GradcheckOptions = {},
): Promise<void> {
  const { step = 0.01, tolerance = 2e-3, directions = 2, seed = 1 } = options;
  const filled = inputs.map(
    (x, i): Filled => ("data" in x ? x : { shape: x, data: normal(sizeOf(x), seed + 1000 * i) }),
  );
  const upload = (given: readonly Filled[]) =>
    given.map(({ shape, data }) => Tensor.from(device, data, shape));
  const shape = scope(device, () => [...op(...upload(filled)).shape]);
  const cotangent = normal(sizeOf(shape), seed + 77);

  const gradients = scope(device, () => {
    const leaves = upload(filled);
    const result = vjp(device, leaves, () => ({
      outputs: [op(...leaves)],
      cotangents: [Tensor.from(device, cotangent, shape)],
    }));
    return leaves.map((leaf) => result.gradients.get(leaf));
  });

  const evaluate = async (given: readonly Filled[]): Promise<number> => {
    const out = scope(device, () => op(...upload(given)));
    const values = await out.read();
    out.release();
    return values.reduce((sum, v, i) => sum + v * cotangent[i], 0);
  };
  for (const [i, input] of filled.entries()) {
    const gradient = await gradients[i]?.read();
    assert.ok(gradient, `input ${i} has no gradient`);
    gradients[i]?.release();
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    for (let n = 0; n < directions; n++) {
      const v = normal(input.data.length, seed + 31 * n + 7 * i + 5);
      const length = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
      // A step as long as `step` in each coordinate, on average; the difference is divided by what it really was.
      const at = (h: number) =>
        evaluate(filled.map((x, j) => (j === i ? { ...x, data: x.data.map((y, e) => y + h * v[e]) } : x)));
      const measured =
        (8 * ((await at(step)) - (await at(-step))) - ((await at(2 * step)) - (await at(-2 * step)))) /
        (12 * step * length);
      const claimed = gradient.reduce((sum, g, e) => sum + g * v[e], 0) / length;
      const error = Math.abs(measured - claimed);
      assert.ok(
        error <= tolerance * norm,
        `input ${i}, direction ${n}: the gradient says ${claimed}, differences say ${measured}; norm ${norm}, tolerance ${tolerance}`,
      );
    }
  }
}

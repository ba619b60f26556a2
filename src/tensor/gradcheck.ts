/** A check of gradients for those who write operators and losses of their own, as torch.autograd.gradcheck. */
import type { Device } from "../gpu/device.ts";
import { type Differentiable, valueAndGrad } from "./autograd.ts";
import { scope } from "./scope.ts";
import { Tensor } from "./tensor.ts";

/** How closely gradients are compared. */
export interface GradcheckOptions {
  /** Length of the step along a direction, in all elements of a parameter together; 0.01 by default. */
  readonly eps?: number;
  /** Largest relative difference; 0.01 by default. */
  readonly tolerance?: number;
  /** Random directions that are tried of each parameter; 3 by default. */
  readonly directions?: number;
}

/** What can be moved along a direction: a tensor or a Parameter. */
export type Movable = Differentiable & { write(values: Float32Array): void };

/** Bits of f32 in the loss: a difference of two losses is known to so much of them. */
const ROUNDING = 1e-6;

/**
 * Compares the gradients of a loss by `parameters` with central differences along random directions. Returns the largest
 * relative difference, less what rounding explains: the loss is f32, and one that is large beside its changes hides small
 * gradients. Throws an Error that says by which parameter, and how far, they differ, or that rounding
 * hides what was to be compared.
 *
 * `loss` must give the same each time; the parameters are as before afterwards.
 *
 * @example
 * ```ts
 * const x = Tensor.from(device, Float32Array.of(0.3, -0.7), [2]);
 * const off = await gradcheck(device, [x], () => ops.mean(ops.sigmoid(x)));
 * console.log(off < 1e-2); // true
 *
 * const wrong = () => ops.sum(record("wrong", [x], ops.relu(x), [], (dy) => [ops.scale(dy, 3)]));
 * const refusal = await gradcheck(device, [x], wrong).catch((error: Error) => error.message);
 * console.log(String(refusal).startsWith("Cannot confirm the gradient by parameter 0")); // true
 * ```
 */
export async function gradcheck(
  device: Device,
  parameters: readonly Movable[],
  loss: () => Tensor,
  { eps = 1e-2, tolerance = 1e-2, directions = 3 }: GradcheckOptions = {},
): Promise<number> {
  const { value, gradients } = scope(device, () => valueAndGrad(device, parameters, loss));
  const size = Math.abs(await value.item());
  value.release();
  const rounding = (ROUNDING * size) / eps;
  const hidden = (by: string, change: number) =>
    new Error(
      `Cannot confirm the gradient by ${by}: along a direction it is at most ${change.toPrecision(4)}, and rounding of the loss, ${size.toPrecision(4)}, hides up to ${rounding.toPrecision(4)}`,
    );
  let worst = 0;
  let most = 0;
  try {
    for (const [place, parameter] of parameters.entries()) {
      const gradient = await gradients.get(parameter)?.read();
      const tensor = parameter instanceof Tensor ? parameter : parameter.value;
      const values = await tensor.read();
      let largest = 0;
      for (let n = 0; n < directions; n++) {
        const step = eps / Math.sqrt(values.length);
        const signs = values.map((_, i) => (bit(i, place, n) ? step : -step));
        const along = signs.reduce((sum, s, i) => sum + (s * (gradient?.[i] ?? 0)) / eps, 0);
        const difference = ((await lossAt(signs, 1)) - (await lossAt(signs, -1))) / (2 * eps);
        const scale = Math.max(Math.abs(along), Math.abs(difference));
        const beyond = Math.max(0, Math.abs(along - difference) - rounding);
        largest = Math.max(largest, scale);
        if (!(beyond <= tolerance * scale))
          throw new Error(
            `Cannot confirm the gradient by ${nameOf(parameter, place)}: along a direction it is ${along.toPrecision(4)}, central differences give ${difference.toPrecision(4)}`,
          );
        if (beyond > 0) worst = Math.max(worst, beyond / scale);
      }
      most = Math.max(most, largest);
      if (largest <= rounding && rounding > tolerance) throw hidden(nameOf(parameter, place), largest);

      async function lossAt(signs: Float32Array, sign: number): Promise<number> {
        try {
          parameter.write(values.map((v, i) => v + sign * signs[i]));
          using moved = scope(device, loss);
          return await moved.item();
        } finally {
          parameter.write(values);
        }
      }
    }
  } finally {
    for (const gradient of gradients.values()) gradient.release();
  }
  // A small gradient beside others is none of the model's faults; nothing but small ones were not checked at all.
  if (most > 0 && most <= rounding) throw hidden("any parameter", most);
  return worst;
}

/** A coin that falls the same way each time. */
function bit(i: number, place: number, n: number): boolean {
  let h = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(place + 1, 0x85ebca6b) ^ Math.imul(n + 1, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) & 1) === 1;
}

const nameOf = (parameter: Movable, place: number): string =>
  "key" in parameter ? String(parameter.key) : `parameter ${place}`;

/** What an optimiser refuses: arguments, rates and gradients that would train nothing, or something else than is meant. */
import type { Device } from "../gpu/device.ts";
import { Parameter } from "../nn/parameter.ts";
import { sameShape, showShape } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { ByKey } from "./optimizer.ts";

/** Whether a number is finite and not negative. */
export const fromZero = (x: number): boolean => x >= 0 && x < Number.POSITIVE_INFINITY;

/** Throws for what is no number from 0: the weights would become NaN, or climb the loss. */
export function rateOf(value: ByKey, name: string, key: string): number {
  const own = typeof value === "function" ? value(key) : value;
  if (typeof own !== "number" || !fromZero(own))
    throw new RangeError(`Cannot train ${key}: its ${name} is ${own}, a finite number from 0 expected`);
  return own;
}

/** Throws where these are not what an optimiser is made of: the arguments in another order, a Weights, tensors. */
export function checkArguments(action: string, device: Device, parameters: readonly Parameter[]): void {
  if (!Array.isArray(parameters))
    throw new TypeError(
      `Cannot ${action}: its second argument should be a list of parameters, as weights.parameters`,
    );
  if (!device?.pool)
    throw new TypeError(`Cannot ${action}: its first argument should be a device, before the parameters`);
  const seen = new Set<unknown>();
  for (const [i, each] of parameters.entries()) {
    if (!(each instanceof Parameter))
      throw new TypeError(
        `Cannot ${action}: parameter ${i} is ${each instanceof Tensor ? "a tensor" : `${each}`}, not a Parameter of Weights`,
      );
    if (seen.has(each)) throw new TypeError(`Cannot ${action}: ${each.key} is there twice`);
    seen.add(each);
  }
}

/**
 * Throws unless all gradients are of an optimiser's own parameters and of their shapes; those of `frozen` may be there.
 */
export function checkGradients(
  gradients: ReadonlyMap<Parameter, Tensor>,
  own: { has(parameter: Parameter): boolean },
  frozen: ReadonlySet<Parameter>,
): void {
  const refuse = (why: string): never => {
    throw new TypeError(`Cannot take gradients: ${why}`);
  };
  if (!(gradients instanceof Map))
    refuse("they are no Map by parameter; valueAndGrad() returns one as `gradients`");
  for (const [parameter, gradient] of gradients) {
    if (frozen.has(parameter)) continue;
    if (!(parameter instanceof Parameter))
      refuse("one is of a tensor, not of a Parameter; give valueAndGrad() this optimiser's `parameters`");
    const { key, shape } = parameter;
    if (!own.has(parameter)) refuse(`${key} is none of this optimiser's parameters`);
    if (!(gradient instanceof Tensor)) refuse(`that of ${key} is no tensor`);
    if (gradient.dtype !== "f32") refuse(`that of ${key} is ${gradient.dtype} but should be f32`);
    if (!sameShape(gradient.shape, shape))
      refuse(`that of ${key} is ${showShape(gradient.shape)} but should be ${showShape(shape)}`);
  }
}

import { twin } from "../gpu/kernel.ts";
import { gridFor, launch } from "../gpu/launch.ts";
import { record } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";

const k = twin("activation");

const codes = { gelu: 1, gelu_tanh: 2, tanh: 3, relu: 4, sigmoid: 5 } as const;

/** `gelu` is x·Φ(x) by the error function; `gelu_tanh` its approximation. */
export type ActivationKind = keyof typeof codes;

/** The number by which the kernels know a function; 0 is none. */
export const activationCode = (kind?: ActivationKind): number => (kind ? codes[kind] : 0);

/** y = f(x), pointwise.   x (…) → y (…) */
export function activation(x: Tensor, kind: ActivationKind): Tensor {
  const quads = Math.ceil(x.size / 4);
  const dims = { quads, kind: codes[kind] };
  const y = x.like();
  const overrides = launch(x.device, "activation");
  const grid = gridFor(quads, overrides.WG);
  k.run("forward", { x, y }, dims, grid, { overrides });
  return record(kind, [x], y, [x], (dy) => {
    const dx = x.like();
    k.run("backward", { x, dy, dx }, dims, grid, { overrides });
    return [dx];
  });
}

export const gelu = (x: Tensor): Tensor => activation(x, "gelu");
export const sigmoid = (x: Tensor): Tensor => activation(x, "sigmoid");
export const tanh = (x: Tensor): Tensor => activation(x, "tanh");

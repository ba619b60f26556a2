import { checkChoice } from "../io/checks.ts";
import { pointwise } from "../gpu/cost.ts";
import { twin, type Variant } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { record } from "../tensor/tape.ts";
import { checkFloat, elementFlags, type Tensor } from "../tensor/tensor.ts";
import { div, mul } from "./elementwise.ts";

/** `gelu` is x·Φ(x) by the error function; `gelu_tanh` its approximation. */
export type ActivationKind = "gelu" | "gelu_tanh" | "tanh" | "relu" | "sigmoid";

const codes: Readonly<Record<ActivationKind, number>> = {
  gelu: 1,
  gelu_tanh: 2,
  tanh: 3,
  relu: 4,
  sigmoid: 5,
};

/**
 * FLOPs of an element by code, forward and backward: gelu ½·x·(1 + erf(x/√2)) takes 5, its slope Φ(x) + x·φ(x) 9;
 * gelu_tanh x·σ(u(x)) 9 and 17; tanh 1, its slope 2; relu a comparison; a sigmoid exp, + and /, its slope 2 more.
 */
const FLOPS: readonly (readonly [forward: number, backward: number])[] = [
  [0, 0],
  [5, 9],
  [9, 17],
  [1, 3],
  [1, 1],
  [3, 5],
];

/** FLOPs of an element of the function that the kernels know by `code`. */
export const activationFlops = (code: number): number => FLOPS[code][0];

/** FLOPs of an element of its slope. */
export const slopeFlops = (code: number): number => FLOPS[code][1];

/** The code that a kernel was generated for. */
export const codeOfFlag = ({ flags }: Variant): number => Number(flags?.ACTIVATION);

const k = twin("activation", {
  forward: (given) => pointwise(activationFlops(codeOfFlag(given.variant)), "x", "y")(given),
  // The slope, times dy.
  backward: (given) => pointwise(slopeFlops(codeOfFlag(given.variant)) + 1, "x", "dy", "dx")(given),
  exponential: pointwise(1, "x", "y"),
  logarithm: pointwise(1, "x", "y"),
});

/** The number by which the kernels know a function; 0 is none. Throws for one that there is not. */
export function activationCode(op: string, kind?: ActivationKind): number {
  if (kind === undefined) return 0;
  const code = codes[kind];
  if (code === undefined) checkChoice(`run ${op}`, "activation", kind, Object.keys(codes));
  return code;
}

function run(entry: string, x: Tensor, buffers: Record<string, Tensor>, code = 0): void {
  const quads = Math.ceil(x.size / 4);
  const flags = { ACTIVATION: code, ...elementFlags(x) };
  const { grid, variant } = overQuads(quads, launch(x.device, "activation", { quads }), flags);
  k.run(entry, { x, ...buffers }, { quads }, grid, variant);
}

/** y = f(x), pointwise.   x (…) → y (…) */
export function activation(x: Tensor, kind: ActivationKind): Tensor {
  const code = activationCode("activation", kind);
  checkFloat(kind, { x });
  const y = x.like(x.shape, x.dtype);
  run("forward", x, { y }, code);
  return record(kind, [x], y, [x], (dy) => {
    const dx = x.like(x.shape, x.dtype);
    run("backward", x, { dy, dx }, code);
    return [dx];
  });
}

/** y = eˣ.   x (…) → y (…) */
export function exp(x: Tensor): Tensor {
  checkFloat("exp", { x });
  const y = x.like(x.shape, x.dtype);
  run("exponential", x, { y });
  return record("exp", [x], y, [y], (dy) => [mul(dy, y)]);
}

/** y = ln x: −∞ at 0, NaN below.   x (…) → y (…) */
export function log(x: Tensor): Tensor {
  checkFloat("log", { x });
  const y = x.like(x.shape, x.dtype);
  run("logarithm", x, { y });
  return record("log", [x], y, [x], (dy) => [div(dy, x)]);
}

/** max(x, 0); its slope at 0 is 0.   x (…) → y (…) */
export const relu = (x: Tensor): Tensor => activation(x, "relu");
/** x·Φ(x), by the error function.   x (…) → y (…) */
export const gelu = (x: Tensor): Tensor => activation(x, "gelu");
/** 1/(1 + e⁻ˣ).   x (…) → y (…) */
export const sigmoid = (x: Tensor): Tensor => activation(x, "sigmoid");
/** The hyperbolic tangent.   x (…) → y (…) */
export const tanh = (x: Tensor): Tensor => activation(x, "tanh");

/** Steps of an optimiser on single tensors: the twin of kernels/optimizer.wgsl. They have no gradient. */
import type { Device } from "../gpu/device.ts";
import { varies } from "../gpu/capture.ts";
import { moved } from "../gpu/cost.ts";
import { twin, type Variant } from "../gpu/kernel.ts";
import { launch, overQuads } from "../gpu/launch.ts";
import { Tensor } from "../tensor/tensor.ts";

/** What is updated in place is read and written. */
const k = twin("optimizer", {
  // Clipping 1, decay 2, the moments 3 and 4, the update 6.
  adam: ({ bytes, size }) => ({
    flops: 16 * size("p"),
    bytes: moved(bytes, "g", "clip", "p", "m", "v", "p", "m", "v"),
  }),
  // Clipping 1, decay 2, momentum 2, the update 2.
  sgd: ({ bytes, size }) => ({ flops: 7 * size("p"), bytes: moved(bytes, "g", "clip", "p", "m", "p", "m") }),
  squares: ({ dims: { N }, grid: [parts], bytes }) => ({
    flops: 2 * N,
    bytes: bytes("gradient") + 4 * parts,
  }),
  settle: ({ dims: { count }, bytes }) => ({ flops: count + 5, bytes: moved(bytes, "summed", "clipOut") }),
  scale: ({ bytes, size }) => ({ flops: size("p"), bytes: moved(bytes, "g", "clip", "p") }),
});
const none = {
  N: 0,
  quads: 0,
  rounds: 1,
  slot: 0,
  count: 0,
  first: 0,
  decoupled: 0,
  rate: 0,
  beta1: 0,
  beta2: 0,
  eps: 0,
  decay: 0,
  rest1: 0,
  rest2: 0,
  correction1: 1,
  correction2: 1,
  maxNorm: 0,
  unscale: 1,
};

/** Grid and variant of a step on `quads` quads, and the rounds that its threads go. */
function stepOf(device: Device, quads: number) {
  const { rounds, ...tile } = launch(device, "optimizer", { quads });
  const { vec } = launch(device, "optimizer.squares", { quads });
  return { rounds, ...overQuads(Math.ceil(quads / rounds), tile, { vec }) };
}

/** [scale, norm, 1 if all finite]: what a step multiplies gradients by. Stays on the GPU. */
export type Clip = Tensor;

/**
 * The global norm of some gradients and the factor that clips it to `maxNorm`, as torch's clip_grad_norm_.
 *
 * The gradients may carry a loss scale; `unscale`, its inverse, becomes part of the factor. Sums are in a fixed order.
 */
export function clipNorm(
  device: Device,
  gradients: readonly Tensor[],
  maxNorm = Number.POSITIVE_INFINITY,
  unscale = 1,
): Clip {
  const splits = gradients.map(({ size }) => {
    const quads = Math.ceil(size / 4);
    return { quads, ...launch(device, "optimizer.squares", { quads }) };
  });
  const count = splits.reduce((sum, { parts }) => sum + parts, 0);
  const sums = Tensor.empty(device, [Math.max(1, count)]);
  const { WG, vec } = launch(device, "optimizer.squares", { quads: 0 });
  const variant: Variant = { flags: { QUADS: 1, vec }, overrides: { WG } };
  let slot = 0;
  for (const [i, gradient] of gradients.entries()) {
    const { parts, quads } = splits[i];
    k.run("squares", { gradient, sums }, { ...none, N: gradient.size, quads, slot }, [parts], variant);
    slot += parts;
  }
  const clipOut = Tensor.empty(device, [3]);
  const dims = { ...none, count, maxNorm: Math.min(maxNorm, 3e38), unscale };
  k.run("settle", { summed: sums, clipOut }, dims, [1], variant);
  return clipOut;
}

/** The gradient after clipping.   (…) → (…) */
export function clipped(gradient: Tensor, clip: Clip): Tensor {
  const y = gradient.like();
  const quads = Math.ceil(gradient.size / 4);
  const { rounds, grid, variant } = stepOf(gradient.device, quads);
  k.run("scale", { g: gradient, clip, p: y }, { ...none, quads, rounds }, grid, variant);
  return y;
}

export interface AdamStep {
  readonly rate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly decay: number;
  /** Number of this step, from 1. */
  readonly step: number;
  /** True: AdamW. False: the decay joins the gradient, as torch's Adam. */
  readonly decoupled: boolean;
}

/** What changes from step to step. */
export type Progress = Pick<AdamStep, "rate" | "step">;

/**
 * One Adam or AdamW step in place, as torch defines it. p, m, v and g have one shape. Where the step is captured, a replay
 * asks `now` how far it is.
 */
export function adamStep(
  p: Tensor,
  g: Tensor,
  m: Tensor,
  v: Tensor,
  clip: Clip,
  s: AdamStep,
  now?: () => Progress,
): void {
  const quads = Math.ceil(p.size / 4);
  const { rounds, grid, variant } = stepOf(p.device, quads);
  const { rate, beta1, beta2, eps, decay, step } = s;
  const corrections = { correction1: 1 - beta1 ** step, correction2: 1 - beta2 ** step };
  const dims = {
    ...none,
    quads,
    rounds,
    decoupled: s.decoupled ? 1 : 0,
    rate,
    beta1,
    beta2,
    rest1: 1 - beta1,
    rest2: 1 - beta2,
    eps,
    decay,
    ...corrections,
  };
  if (now)
    varies(p.device, dims, {
      rate: () => now().rate,
      correction1: () => 1 - beta1 ** now().step,
      correction2: () => 1 - beta2 ** now().step,
    });
  k.run("adam", { g, clip, p, m, v }, dims, grid, variant);
}

/** One step of SGD with momentum in place, as torch defines it (dampening 0). `now` as for adamStep(). */
export function sgdStep(
  p: Tensor,
  g: Tensor,
  m: Tensor,
  clip: Clip,
  s: { rate: number; momentum: number; decay: number; step: number },
  now?: () => Progress,
): void {
  const quads = Math.ceil(p.size / 4);
  const { rounds, grid, variant } = stepOf(p.device, quads);
  const dims = {
    ...none,
    quads,
    rounds,
    first: s.step === 1 ? 1 : 0,
    rate: s.rate,
    beta1: s.momentum,
    decay: s.decay,
  };
  if (now) varies(p.device, dims, { rate: () => now().rate, first: () => (now().step === 1 ? 1 : 0) });
  k.run("sgd", { g, clip, p, m }, dims, grid, variant);
}

import { checkChoice, checkOptions } from "../io/checks.ts";
import type { Device } from "../gpu/device.ts";
import { moved } from "../gpu/cost.ts";
import { twin } from "../gpu/kernel.ts";
import { launch } from "../gpu/launch.ts";
import { checkShape } from "../tensor/shape.ts";
import { isTracked, record } from "../tensor/tape.ts";
import { elementFlags, Tensor } from "../tensor/tensor.ts";

/**
 * A state of a walk takes 5: its three predecessors added, and the emission, exp and /, multiplied on. Padded frames and states
 * count as others: what is on the GPU of their number is not known here.
 */
const k = twin("ctc", {
  // max, −, exp and + of a class.
  measure: ({ dims: { B, T, V }, bytes }) => ({
    flops: 4 * B * T * V,
    bytes: moved(bytes, "logits", "framesOut"),
  }),
  // Of a frame's logits those of the labels and the blank.
  lattice: ({ dims: { B, T, V, S, L }, grid: [, walks], bytes }) => ({
    flops: 5 * B * T * S * walks,
    bytes:
      4 * B * T * Math.min(V, L + 1) +
      moved(bytes, "frames", "samples", "labels", "nllOut", "alphaOut", "betaOut"),
  }),
  reduce: ({ dims: { B }, bytes }) => ({ flops: 2 * B, bytes: moved(bytes, "nll", "samples", "loss") }),
  weigh: ({ dims: { B }, bytes }) => ({ flops: B, bytes: moved(bytes, "nll", "samples", "dy", "dnllOut") }),
  // alpha·beta and its sum of a state; exp, /, − and · of a class.
  gradient: ({ dims: { B, T, V, S }, bytes }) => ({
    flops: B * T * (2 * S + 4 * V),
    bytes: moved(bytes, "logits", "frames", "samples", "labels", "alpha", "beta", "dnll", "dlogits"),
  }),
});

/** What is made of the losses of a batch: their mean, their sum, or all of them. */
export type Reduction = "mean" | "sum" | "none";
export const REDUCTIONS: readonly Reduction[] = ["mean", "sum", "none"];

/** As torch.nn.functional.ctc_loss's. */
export interface CtcOptions {
  /** Class of the blank; 0 by default. */
  readonly blank?: number;
  /** "mean" divides each loss by its target's length (at least 1), then averages over the batch; the default. */
  readonly reduction?: Reduction;
  /** Count a target that no path of its frames can spell as 0, with no gradient, instead of infinity and NaN. */
  readonly zeroInfinity?: boolean;
}

const OPTIONS: readonly (keyof CtcOptions)[] = ["blank", "reduction", "zeroInfinity"];

/**
 * Connectionist temporal classification: −log P(target | softmax(logits)), as PyTorch's ctc_loss after log_softmax.
 *
 *   logits (B, T, V) f32 or f16   targets: B lists of class ids   inputLengths: B frame counts   →   loss () or (B)
 *
 * Frames from a sample's length on are not read; their gradient is 0. Same bits every run; loss and gradient are within
 * 1e-6 of the exact ones at any length and however peaked the logits. A NaN in a sample's frames makes its loss NaN.
 * Throws where ids or lengths are out of range.
 *
 * @example
 * ```ts
 * const logits = Tensor.from(device, new Float32Array(2 * 5 * 4), [2, 5, 4]); // all classes are as likely
 * const targets = [[1, 2], [3]];
 * const frames = [5, 4]; // of the second sample, the fifth is padding
 * console.log(await ops.ctcLoss(logits, targets, frames, { reduction: "none" }).read()); // [3.376, 3.243]
 * ```
 */
export function ctcLoss(
  logits: Tensor,
  targets: readonly (readonly number[])[],
  inputLengths: readonly number[],
  options: CtcOptions = {},
): Tensor {
  checkOptions("run ctcLoss", options, OPTIONS);
  const { blank = 0, reduction = "mean", zeroInfinity = false } = options;
  checkChoice("run ctcLoss", "reduction", reduction, REDUCTIONS);
  checkShape("ctcLoss", "logits", logits.shape, [-1, -1, -1]);
  const [B, T, V] = logits.shape;
  checkTargets(targets, inputLengths, B, T, V, blank);
  const { device } = logits;
  const L = Math.max(1, ...targets.map((target) => target.length));
  const S = 2 * L + 1;
  const dims = { B, T, V, S, L, blank, dyStride: reduction === "none" ? 1 : 0 };
  const tracked = isTracked(logits);
  const { HELD, overrides: walkers } = launch(device, "ctc.lattice", { S });
  const CAP = capacity(device, S + 2, walkers.WG);
  const flags = { tracked, HELD: 0, half: logits.dtype === "f16", ...elementFlags(logits) };
  const variant = { flags, overrides: { ...launch(device, "ctc"), CAP } };
  const walk = { flags: { ...flags, HELD }, overrides: { ...walkers, CAP } };
  const weigh = (labels: number) => (reduction === "mean" ? 1 / (B * Math.max(1, labels)) : 1);
  const samples = packSamples(device, targets, inputLengths, weigh, zeroInfinity);
  const labels = packLabels(device, targets, L);
  const frames = logits.like([B, T, 4]);
  const nll = logits.like([B]);

  const kept = tracked
    ? { alphaOut: logits.like([B, T, S, 2]), betaOut: logits.like([B, T, S, 2]) }
    : undefined;
  k.run("measure", { logits, framesOut: frames }, dims, [T, B], variant);
  k.run(
    "lattice",
    { logits, frames, samples, labels, nllOut: nll, ...kept },
    dims,
    [B, tracked ? 2 : 1],
    walk,
  );
  const loss = reduction === "none" ? nll : logits.like([]);
  if (loss !== nll) k.run("reduce", { nll, samples, loss }, dims, [1], variant);
  if (!kept) return loss;

  const { alphaOut: alpha, betaOut: beta } = kept;
  return record("ctcLoss", [logits], loss, [logits, frames, samples, labels, nll, alpha, beta], (dy) => {
    const dnll = nll.like();
    const dlogits = logits.like(logits.shape, logits.dtype);
    k.run("weigh", { nll, samples, dy, dnllOut: dnll }, dims, [Math.ceil(B / variant.overrides.WG)], variant);
    k.run("gradient", { logits, frames, samples, labels, alpha, beta, dnll, dlogits }, dims, [T, B], variant);
    return [dlogits];
  });
}

function checkTargets(
  targets: readonly (readonly number[])[],
  lengths: readonly number[],
  B: number,
  T: number,
  V: number,
  blank: number,
): void {
  const fail = (what: string, Kind: typeof TypeError | typeof RangeError = RangeError) => {
    throw new Kind(`Cannot run ctcLoss: ${what}`);
  };
  if (targets.length !== B)
    fail(`there are ${targets.length} targets, expected ${B}, one for each sample`, TypeError);
  if (lengths.length !== B)
    fail(`there are ${lengths.length} input lengths, expected ${B}, one for each sample`, TypeError);
  if (!Number.isInteger(blank) || blank < 0 || blank >= V)
    fail(`the blank is ${blank}, expected a class from 0 to ${V - 1}`);
  lengths.forEach((length, b) => {
    if (!Number.isInteger(length) || length < 0 || length > T)
      fail(`input length ${b} is ${length}, expected 0 to ${T}`);
  });
  targets.forEach((target, b) => {
    if (target.length > 65535) fail(`target ${b} has ${target.length} labels, at most 65535 are possible`);
    target.forEach((id, j) => {
      if (!Number.isInteger(id) || id < 0 || id >= V)
        fail(`label ${j} of target ${b} is ${id}, expected a class from 0 to ${V - 1}`);
      if (id === blank) fail(`label ${j} of target ${b} is the blank, ${blank}`);
    });
  });
}

/** States that a workgroup has room for: two rows of 8 bytes a state, beside what the reductions take a thread. */
function capacity(device: Device, states: number, threads: number): number {
  const most = Math.floor((device.limits.maxComputeWorkgroupStorageSize - 8 * threads) / 16);
  if (states > most) {
    const labels = (n: number) => Math.floor((n - 3) / 2);
    throw new RangeError(
      `Cannot run ctcLoss: a target has ${labels(states)} labels, ${device.info.name} has room for ${labels(most)}`,
    );
  }
  // Few values, as each is a pipeline; the first fits wherever WebGPU runs.
  return states <= 896 ? 896 : most;
}

// As in kernels/ctc.wgsl.
const FATE = { possible: 0, infinite: 1, zeroed: 2 } as const;
const FIRST = 0x80000000;
const SAME_BEFORE = 0x40000000;
const SAME_AFTER = 0x20000000;

/** One `Sample` each: frames, labels, weight in the loss, fate. */
function packSamples(
  device: Device,
  targets: readonly (readonly number[])[],
  lengths: readonly number[],
  weigh: (labels: number) => number,
  zeroInfinity: boolean,
): Tensor {
  const words = new Uint32Array(4 * targets.length);
  const weights = new Float32Array(words.buffer);
  targets.forEach((target, b) => {
    // Equal neighbours need a blank between them.
    const needed = target.length + target.filter((id, j) => id === target[j - 1]).length;
    const fate = needed <= lengths[b] ? FATE.possible : zeroInfinity ? FATE.zeroed : FATE.infinite;
    words.set([lengths[b], target.length, 0, fate], 4 * b);
    weights[4 * b + 2] = weigh(target.length);
  });
  return Tensor.from(device, words, [targets.length, 4]);
}

/** One `Label` each: its id, and its links to the labels that are equal to it. */
function packLabels(device: Device, targets: readonly (readonly number[])[], L: number): Tensor {
  const words = new Uint32Array(2 * L * targets.length);
  targets.forEach((target, b) => {
    const following = new Map<number, number>();
    for (let j = target.length - 1; j >= 0; j--) {
      const id = target[j];
      const same = (target[j - 1] === id ? SAME_BEFORE : 0) | (target[j + 1] === id ? SAME_AFTER : 0);
      const first = target.indexOf(id) === j ? FIRST : 0;
      words.set([id, first | same | (following.get(id) ?? 0)], 2 * (b * L + j));
      following.set(id, j + 1);
    }
  });
  return Tensor.from(device, words, [targets.length, L, 2]);
}

/** Which recordings go through the model together. */
import type { Device } from "../gpu/device.ts";
import { convFrames } from "../ops/conv1d.ts";
import type { HubertConfig } from "./config.ts";

/**
 * Bytes of the largest tensor that `samples` samples become and that must be in one piece. With a group norm that is
 * the first convolution's output, 2 KB for every 5 samples in the published models; with layer norms the convolutions
 * go by stretches (FeatureExtractor), and the inside of a feed-forward is the largest.
 */
export function largestBytes(config: HubertConfig, samples: number): number {
  const { convDim, convKernel, convStride, featExtractNorm, hiddenSize, intermediateSize } = config;
  let [frames, most] = [samples, 0];
  convDim.forEach((C, i) => {
    frames = convFrames(frames, convKernel[i], convStride[i]);
    if (featExtractNorm === "group") most = Math.max(most, frames * C);
  });
  return 4 * Math.max(most, frames * Math.max(intermediateSize, 3 * hiddenSize));
}

/**
 * Where padding changes nothing but masked frames, recordings of any length may share a batch. A group norm looks over
 * the whole of time, padding included, so there only equal lengths may.
 */
export const mayPad = (config: HubertConfig): boolean => config.featExtractNorm === "layer";

/** A batch whose largest tensor is this large fills any GPU; a larger one only takes memory. */
const MOST_BATCH_BYTES = 512 * 2 ** 20;

/** Bytes of the largest tensor that the device binds. */
export const bindableBytes = ({ limits }: Device): number =>
  Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);

/** Bytes that the largest tensor of a batch should have at most. */
export const batchBytes = (device: Device): number => Math.min(bindableBytes(device), MOST_BATCH_BYTES);

export interface BatchLimits {
  /** Most recordings in a batch. */
  readonly batch: number;
  /** Most bytes of one tensor. */
  readonly bytes: number;
}

/** Most padding of a recording, as a share of its batch's length: padding costs as much as speech does. */
const MOST_PADDING = 0.25;

/**
 * Cuts recordings into batches, as indices, longest first. A recording that exceeds the bytes by itself is left to a
 * batch of its own.
 */
export function planBatches(
  lengths: readonly number[],
  config: HubertConfig,
  limits: BatchLimits,
): number[][] {
  const shortest = mayPad(config) ? 1 - MOST_PADDING : 1;
  const order = lengths.map((_, i) => i).sort((a, b) => lengths[b] - lengths[a]);
  const batches: number[][] = [];
  for (const i of order) {
    const current = batches.at(-1);
    const longest = current && lengths[current[0]];
    const joins =
      current !== undefined &&
      longest !== undefined &&
      current.length < limits.batch &&
      (current.length + 1) * largestBytes(config, longest) <= limits.bytes &&
      lengths[i] >= shortest * longest;
    if (joins) current.push(i);
    else batches.push([i]);
  }
  return batches;
}

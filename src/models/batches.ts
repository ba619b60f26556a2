/** Batches of inference: which recordings go through the model together. */
import type { Device } from "../gpu/device.ts";
import { convFrames } from "../ops/conv1d.ts";
import type { HubertConfig } from "./config.ts";

/** What batches are planned by: the frames of a speech encoder, and how wide it is. */
export type EncoderSizes = Pick<
  HubertConfig,
  "convDim" | "convKernel" | "convStride" | "featExtractNorm" | "hiddenSize" | "intermediateSize"
>;

/**
 * Bytes of the largest tensor in a forward pass on `samples` samples. With a group norm that is the output of the first
 * convolution, 2 KB for every 5 samples in the published models; with layer norms the convolutions run in chunks
 * (FeatureExtractor), and it is the hidden layer of a feed-forward.
 */
export function largestBytes(config: EncoderSizes, samples: number): number {
  const { convDim, convKernel, convStride, featExtractNorm, hiddenSize, intermediateSize } = config;
  let [frames, largest] = [samples, 0];
  convDim.forEach((C, i) => {
    frames = convFrames(frames, convKernel[i], convStride[i]);
    if (featExtractNorm === "group") largest = Math.max(largest, frames * C);
  });
  return 4 * Math.max(largest, frames * Math.max(intermediateSize, 3 * hiddenSize));
}

/** Whether recordings of different lengths may share a batch: not with a group norm, whose statistics include padding. */
export const mayPad = (config: EncoderSizes): boolean => config.featExtractNorm === "layer";

/** A batch whose largest tensor is as large as this occupies any GPU; a larger one only takes more memory. */
const MAX_BATCH_BYTES = 512 * 2 ** 20;

/** Bytes of the largest tensor that the device can bind. */
export const bindableBytes = ({ limits }: Device): number =>
  Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);

/** Bytes that the largest tensor of a batch should have at most. */
export const batchBytes = (device: Device): number => Math.min(bindableBytes(device), MAX_BATCH_BYTES);

/** Limits of a batch. */
export interface BatchLimits {
  /** Most recordings. */
  readonly batch: number;
  /** Most bytes of its largest tensor. */
  readonly bytes: number;
}

/** Most padding of a recording, as a share of the length of its batch: padding costs as much as speech. */
const MAX_PADDING = 0.25;

/**
 * Divides recordings into batches, as indices into `lengths` (in samples), longest first. One that exceeds the bytes by itself
 * is a batch of its own.
 */
export function planBatches(
  lengths: readonly number[],
  config: EncoderSizes,
  limits: BatchLimits,
): number[][] {
  const shortest = mayPad(config) ? 1 - MAX_PADDING : 1;
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

/** Loads a model from a folder in Hugging Face's format: config.json, and tensors in one safetensors file or in shards. */
import type { Device } from "../gpu/device.ts";
import { readJson } from "../io/config.ts";
import { openCheckpoint } from "../io/checkpoint.ts";
import { type WeightScope, Weights, type WeightsOptions } from "../nn/weights.ts";
import { mayIgnore, spellings } from "./keys.ts";

/** A model with its weights. */
export interface Pretrained<M> {
  /** The layers. */
  readonly model: M;
  /** Their parameters; dispose() frees them. */
  readonly weights: Weights;
}

/** Options of fromPretrained(), see WeightsOptions. */
export type PretrainedOptions = Pick<WeightsOptions, "dtype" | "seed" | "mayDraw">;

/** Builds a model and loads its weights. Throws one line that names the tensor that is missing, has another shape or is unused. */
export async function fromPretrained<M>(
  device: Device,
  folder: string,
  build: (root: WeightScope, config: Record<string, unknown>, source: string) => M,
  options: PretrainedOptions = {},
): Promise<Pretrained<M>> {
  const source = `${folder}/config.json`;
  const config = await readJson(device.host, source);
  const file = await openCheckpoint(device.host, folder);
  const weights = new Weights(device, { file, path: folder, spellings, mayIgnore, ...options });
  try {
    const model = build(weights.root, config, source);
    await weights.initialize();
    return { model, weights };
  } catch (error) {
    weights.dispose();
    throw error;
  } finally {
    await file.close();
  }
}

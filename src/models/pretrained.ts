/** A model from a Hugging Face folder: config.json, and its tensors in one safetensors file or in shards. */
import type { Device } from "../gpu/device.ts";
import { readJson } from "../io/config.ts";
import { openSafetensors } from "../io/safetensors.ts";
import { type WeightScope, Weights, type WeightsOptions } from "../nn/weights.ts";
import { mayIgnore, spellings } from "./keys.ts";

export interface Pretrained<M> {
  readonly model: M;
  /** Its parameters, and what is to be disposed of. */
  readonly weights: Weights;
}

export type PretrainedOptions = Pick<WeightsOptions, "dtype" | "seed" | "mayDraw">;

/** Throws one line that names the file: of what is missing, of another shape, or of no place in the model. */
export async function fromPretrained<M>(
  device: Device,
  folder: string,
  build: (root: WeightScope, config: Record<string, unknown>, source: string) => M,
  options: PretrainedOptions = {},
): Promise<Pretrained<M>> {
  const source = `${folder}/config.json`;
  const config = await readJson(device.host, source);
  const file = await openSafetensors(device.host, folder);
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

/**
 * Units for masked prediction: the cluster of every frame, by MFCC in the first iteration and by the features of a layer of the
 * model before in the second (Hsu et al. 2021, section II-A). The units of a recording are a function of its samples, of the
 * centroids and of that model alone, so that a run that goes on has those that it began with.
 */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { MFCC_HOP, MFCC_SIZE, MFCC_WINDOW, mfcc } from "../../io/mfcc.ts";
import { openSafetensors, readF32 } from "../../io/safetensors.ts";
import { writeSafetensors } from "../../io/safetensors_writer.ts";
import type { HubertConfig } from "../../models/config.ts";
import {
  type FrameGeometry,
  frameCount,
  frameStride,
  HubertModel,
  receptiveField,
} from "../../models/hubert.ts";
import type { Pretrained } from "../../models/pretrained.ts";
import { shuffled } from "../../nn/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { uniformStream } from "../../train/seeds.ts";
import { roundLength } from "./batches.ts";
import { assign, kMeans, type Points } from "./kmeans.ts";

/** File of the centroids in a model folder: `centroids` (clusters, size), and of what in its metadata. */
export const UNITS_FILE = "units.safetensors";

/** What frames are clustered by. */
export interface FrameFeatures {
  /** As units.safetensors names it: "mfcc", or "layer 2 of runs/a/model". */
  readonly name: string;
  /** Features of a recording, a row for each frame of the encoder. */
  of(samples: Float32Array): Promise<Points>;
}

/** MFCC and their differences, of the 25 ms around the middle of each frame of an encoder. */
export const mfccFeatures = (encoder: FrameGeometry): FrameFeatures => ({
  name: "mfcc",
  async of(samples) {
    const all = mfcc(samples);
    const last = all.length / MFCC_SIZE - 1;
    const frames = frameCount(encoder, samples.length);
    const values = new Float32Array(frames * MFCC_SIZE);
    const lead = (receptiveField(encoder) - MFCC_WINDOW) / 2;
    for (let t = 0; t < frames; t++) {
      const at = Math.round((t * frameStride(encoder) + lead) / MFCC_HOP);
      const row = Math.min(last, Math.max(0, at)) * MFCC_SIZE;
      values.set(all.subarray(row, row + MFCC_SIZE), t * MFCC_SIZE);
    }
    return { values, size: MFCC_SIZE };
  },
});

/**
 * The output of layer `layer` of a trained encoder, `hidden_states[layer]` of transformers. Each recording runs alone, padded to
 * a length of roundLength(), since how kernels round may depend on the batch.
 */
export function layerFeatures(
  { model, weights }: Pretrained<HubertModel>,
  layer: number,
  name: string,
): FrameFeatures {
  const { device } = weights;
  const { config } = model;
  return {
    name,
    async of(samples) {
      const padded = new Float32Array(roundLength(samples.length));
      padded.set(samples);
      const state = scope(device, () => {
        const audio = Tensor.from(device, padded, [1, padded.length]);
        let found: Tensor | undefined;
        model.forward({ audio, lengths: [samples.length] }, {}, (index, each) => {
          if (index === layer) found = each;
        });
        return found as Tensor;
      });
      const values = await state.read();
      state.release();
      const size = config.hiddenSize;
      return { values: values.subarray(0, frameCount(config, samples.length) * size), size };
    },
  };
}

/** Opens the model whose layer gives the features. Throws one line where it has no such layer, or other frames than `encoder`. */
export async function openTeacher(
  device: Device,
  folder: string,
  layer: number,
  encoder: HubertConfig,
): Promise<Pretrained<HubertModel>> {
  const teacher = await HubertModel.fromPretrained(device, folder);
  const { config } = teacher.model;
  const [theirs, ours] = [config, encoder].map(
    (each) => `${frameStride(each)} after ${receptiveField(each)}`,
  );
  if (layer <= config.layers && theirs === ours) return teacher;
  teacher.weights.dispose();
  throw new RangeError(
    layer > config.layers
      ? `Cannot cluster by layer ${layer} of ${folder}: it has ${config.layers} layers`
      : `Cannot cluster by ${folder}: its frames are every ${theirs} samples, those of the model to train every ${ours}`,
  );
}

/** Units of recordings, computed once each. */
export class Units {
  readonly #features: FrameFeatures;
  readonly #centroids: Float32Array;
  readonly #size: number;
  readonly #known = new Map<string, Uint16Array>();

  /** `centroids` (clusters, size) of these features. */
  constructor(features: FrameFeatures, centroids: Float32Array, size: number) {
    this.#features = features;
    this.#centroids = centroids;
    this.#size = size;
  }

  /** Number of different units. */
  get clusters(): number {
    return this.#centroids.length / this.#size;
  }

  /** The units of recording `id`, one for each frame of the encoder. */
  async of(id: string, samples: () => Float32Array): Promise<Uint16Array> {
    const known = this.#known.get(id);
    if (known) return known;
    const units = assign(await this.#features.of(samples()), this.#centroids);
    this.#known.set(id, units);
    return units;
  }

  /** Writes the centroids into a model folder. */
  save(host: Host, folder: string): Promise<void> {
    const { buffer, byteOffset, byteLength } = this.#centroids;
    return writeSafetensors(
      host,
      `${folder}/${UNITS_FILE}`,
      [
        {
          ...{ key: "centroids", dtype: "F32", shape: [this.clusters, this.#size] },
          data: new Uint8Array(buffer, byteOffset, byteLength),
        },
      ],
      { features: this.#features.name },
    );
  }

  /** A hash of the centroids. */
  digest(host: Host): string {
    const { buffer, byteOffset, byteLength } = this.#centroids;
    const digest = host.sha256();
    digest.update(new Uint8Array(buffer, byteOffset, byteLength));
    return digest.hex();
  }

  /** Reads the centroids of a checkpoint. */
  static async open(host: Host, folder: string, features: FrameFeatures): Promise<Units> {
    const path = `${folder}/${UNITS_FILE}`;
    const file = await openSafetensors(host, path);
    try {
      const shape = file.tensors.get("centroids")?.shape;
      if (shape?.length !== 2)
        throw new Error(`Cannot use ${path}: it holds no centroids (clusters, features)`);
      return new Units(features, await readF32(file, "centroids"), shape[1]);
    } finally {
      await file.close();
    }
  }
}

/** Recordings to cluster, in order, and how each is read; undefined for one that cannot be read. */
export interface ClusteredRecordings {
  readonly count: number;
  read(index: number): Promise<Float32Array | undefined>;
}

/** Options of fitUnits(). */
export interface FitOptions {
  readonly clusters: number;
  /** About how many frames are clustered: of recordings in random order, until there are enough. */
  readonly frames: number;
  readonly iterations: number;
  readonly seed: number;
  /** Told what is clustered. */
  readonly onNote?: (line: string) => void;
  /** Where aborted, its reason is thrown. */
  readonly signal?: AbortSignal;
}

/** Clusters frames of the recordings by k-means. */
export async function fitUnits(
  features: FrameFeatures,
  recordings: ClusteredRecordings,
  { clusters, frames, iterations, seed, onNote, signal }: FitOptions,
): Promise<Units> {
  const order = shuffled(
    Array.from({ length: recordings.count }, (_, i) => i),
    uniformStream("units", seed),
  );
  const parts: Float32Array[] = [];
  let [count, size] = [0, 0];
  for (const index of order) {
    if (count >= frames) break;
    signal?.throwIfAborted();
    const samples = await recordings.read(index);
    if (!samples) continue;
    const points = await features.of(samples);
    size = points.size;
    parts.push(points.values);
    count += points.values.length / size;
  }
  const values = new Float32Array(count * size);
  let at = 0;
  for (const part of parts) {
    values.set(part, at);
    at += part.length;
  }
  onNote?.(
    `units: ${clusters} clusters of ${count} frames of ${parts.length} recordings, by ${features.name}`,
  );
  const centroids = await kMeans(
    { values, size },
    {
      ...{ clusters, iterations, next: uniformStream("k-means", seed) },
      async onIteration() {
        await new Promise((resume) => setTimeout(resume, 0));
        signal?.throwIfAborted();
      },
    },
  );
  return new Units(features, centroids, size);
}

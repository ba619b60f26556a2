/** What tasks that learn from recordings have in common: their batches, and HuBERT's input with SpecAugment. */
import type { Device } from "../../gpu/device.ts";
import type { HubertConfig } from "../../models/config.ts";
import { frameCount, type HubertInput } from "../../models/hubert.ts";
import type { Mode } from "../../nn/mode.ts";
import type { Parameter } from "../../nn/parameter.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { uniformStream } from "../../train/seeds.ts";
import type { SavePoint, Task } from "../../train/task.ts";
import type { Utterance } from "../corpora/corpus.ts";
import { type Augmentation, augmented, misspelled } from "./augment.ts";
import { type BatchSize, planEpoch, planInOrder } from "./batches.ts";
import { type Batch, type Reader, readBatch } from "./examples.ts";
import { specAugment } from "./spec_augment.ts";

/** Options that tasks of recordings share. */
export interface SpeechTaskOptions {
  readonly parameters: readonly Parameter[];
  readonly reader: Reader;
  readonly train: readonly Utterance[];
  readonly dev: readonly Utterance[];
  readonly batch: BatchSize;
  readonly seed: number;
  /** Of the recordings that are learnt from; none where left out. */
  readonly augment?: Augmentation;
  readonly save: Task<unknown>["save"];
}

/** The part of a Task that is the same for all that learn from utterances, in batches by their seconds. */
export abstract class SpeechTask<O extends SpeechTaskOptions> {
  readonly items = "utterances";
  protected readonly options: O;

  constructor(options: O) {
    this.options = options;
  }

  get parameters(): readonly Parameter[] {
    return this.options.parameters;
  }

  /** By which batches are made. */
  protected lengths(utterances: readonly Utterance[]): number[] {
    return utterances.map((u) => u.seconds ?? 0);
  }

  protected get batchSize(): BatchSize {
    return this.options.batch;
  }

  plan(epoch: number): readonly (readonly number[])[] {
    const { train, seed } = this.options;
    return planEpoch(this.lengths(train), this.batchSize, seed, epoch);
  }

  load(indices: readonly number[], epoch: number): Promise<Batch | undefined> {
    const { reader, train, augment, seed } = this.options;
    const wordErrors = augment?.wordErrors ?? 0;
    return readBatch(
      reader,
      indices.map((i) => train[i]),
      {
        samples:
          augment &&
          ((samples, id) => augmented(samples, augment, uniformStream("augment", seed, epoch, id))),
        words:
          wordErrors > 0
            ? (words, id) => misspelled(words, wordErrors, uniformStream("word errors", seed, epoch, id))
            : undefined,
      },
    );
  }

  /** The batches of the dev set that can be read. Throws where `signal` is aborted. */
  protected async *devBatches(signal?: AbortSignal): AsyncGenerator<Batch> {
    const { dev, reader } = this.options;
    for (const indices of planInOrder(this.lengths(dev), this.batchSize)) {
      signal?.throwIfAborted();
      const batch = await readBatch(
        reader,
        indices.map((i) => dev[i]),
      );
      if (batch) yield batch;
    }
  }

  size(batch: Batch): number {
    return batch.lengths.length;
  }

  amount(batch: Batch): number {
    return batch.seconds;
  }

  save(folder: string, at?: SavePoint): Promise<void> {
    return this.options.save(folder, at);
  }
}

/** The recordings of a batch; in training with SpecAugment by HuBERT's config, where there is one. */
export function speechInput(
  device: Device,
  config: HubertConfig | undefined,
  { audio, samples, lengths }: Batch,
  { training }: Mode,
): HubertInput {
  const B = lengths.length;
  const input = { audio: Tensor.from(device, audio, [B, samples]), lengths };
  if (!training || !config) return input;
  const T = frameCount(config, samples);
  const frames = lengths.map((n) => frameCount(config, n));
  const { keepFrames, keepFeatures } = specAugment(config, frames, T, () => training.next() / 2 ** 32);
  return {
    ...input,
    keepFrames: keepFrames && Tensor.from(device, keepFrames, [B, T]),
    keepFeatures: keepFeatures && Tensor.from(device, keepFeatures, [B, config.hiddenSize]),
  };
}

/** The task of pretraining by transcripts alone: characters from speech by CTC, no emotions. */
import type { Utterance } from "../corpora/corpus.ts";
import type { Device } from "../../gpu/device.ts";
import { decodeGreedy } from "../../io/decode.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import { frameCount, type HubertForCTC, secondsPerFrame } from "../../models/hubert.ts";
import type { Mode } from "../../nn/mode.ts";
import type { Parameter } from "../../nn/parameter.ts";
import { ctcLoss, type Reduction } from "../../ops/ctc.ts";
import { logSoftmax } from "../../ops/softmax.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { uniformStream } from "../../train/seeds.ts";
import { type DevResult, type Losses, refuseTooFew, type SavePoint, type Task } from "../../train/task.ts";
import { type Edits, totalEdits, wer, wordEdits } from "../metrics/wer.ts";
import { type Augmentation, augmented } from "./augment.ts";
import { type BatchSize, planEpoch, planInOrder } from "./batches.ts";
import { type Batch, boundTargets, type Reader, readBatch } from "./examples.ts";
import { specAugment } from "./spec_augment.ts";

/** Options of CtcTask. */
export interface CtcTaskOptions {
  readonly device: Device;
  readonly model: HubertForCTC;
  readonly parameters: readonly Parameter[];
  readonly reader: Reader & { readonly vocabulary: CtcVocabulary };
  readonly train: readonly Utterance[];
  readonly dev: readonly Utterance[];
  readonly batch: BatchSize;
  readonly seed: number;
  readonly ctcReduction: Reduction & ("mean" | "sum");
  readonly augment: Augmentation;
  readonly save: Task<unknown>["save"];
}

/** Trains a HubertForCTC. */
export class CtcTask implements Task<Batch> {
  readonly items = "utterances";
  readonly #o: CtcTaskOptions;

  constructor(options: CtcTaskOptions) {
    this.#o = options;
  }

  get parameters(): readonly Parameter[] {
    return this.#o.parameters;
  }

  plan(epoch: number): readonly (readonly number[])[] {
    const { train, batch, seed } = this.#o;
    return planEpoch(secondsOf(train), batch, seed, epoch);
  }

  load(indices: readonly number[], epoch: number): Promise<Batch | undefined> {
    const { reader, train, augment, seed } = this.#o;
    return readBatch(
      reader,
      indices.map((i) => train[i]),
      (samples, id) => augmented(samples, augment, uniformStream("augment", seed, epoch, id)),
    );
  }

  size(batch: Batch): number {
    return batch.lengths.length;
  }

  amount(batch: Batch): number {
    return batch.seconds;
  }

  losses(batch: Batch, mode: Mode): Losses {
    return { loss: this.#forward(batch, mode, this.#o.ctcReduction).loss, parts: {} };
  }

  #forward({ audio, samples, lengths, targets }: Batch, mode: Mode, reduction: Reduction) {
    const { device, model, reader } = this.#o;
    const { config } = model.hubert;
    const [B, T] = [lengths.length, frameCount(config, samples)];
    const { training } = mode;
    const real = lengths.map((n) => frameCount(config, n));
    const masks = training ? specAugment(config, real, T, () => training.next() / 2 ** 32) : {};
    const { keepFrames, keepFeatures } = masks;
    const { logits, frames } = model.forward(
      {
        ...{ audio: Tensor.from(device, audio, [B, samples]), lengths },
        keepFrames: keepFrames && Tensor.from(device, keepFrames, [B, T]),
        keepFeatures: keepFeatures && Tensor.from(device, keepFeatures, [B, config.hiddenSize]),
      },
      mode,
    );
    const loss = device.at({ part: "losses" }, () =>
      ctcLoss(logits, boundTargets(targets, frames), frames, {
        ...{ blank: reader.vocabulary.blank, reduction, zeroInfinity: true },
      }),
    );
    return { logits, frames, loss };
  }

  async evaluate(signal?: AbortSignal): Promise<DevResult | undefined> {
    const { device, dev, reader, batch: size, model } = this.#o;
    if (dev.length === 0) return undefined;
    const { config } = model.hubert;
    const found: Edits[] = [];
    let loss = 0;
    for (const indices of planInOrder(secondsOf(dev), size)) {
      signal?.throwIfAborted();
      const batch = await readBatch(
        reader,
        indices.map((i) => dev[i]),
      );
      if (!batch) continue;
      const output = scope(device, () => {
        const { logits, frames, loss } = this.#forward(batch, {}, "mean");
        return { logProbs: logSoftmax(logits), frames, loss };
      });
      const [values, [own]] = await Promise.all([output.logProbs.read(), output.loss.read()]);
      const [, T, V] = output.logProbs.shape;
      output.logProbs.release();
      output.loss.release();
      for (const [b, n] of output.frames.entries()) {
        const row = values.subarray(b * T * V, (b * T + n) * V);
        const { text } = decodeGreedy(row, reader.vocabulary, { secondsPerFrame: secondsPerFrame(config) });
        found.push(wordEdits({ reference: batch.utterances[b].words, hypothesis: text }));
      }
      loss += own * batch.utterances.length;
    }
    refuseTooFew(dev.length - found.length, dev.length, "the dev set", this.items);
    return {
      ...{ loss: loss / found.length, wer: wer(totalEdits(found)) },
      ...{ utterances: found.length, of: dev.length },
    };
  }

  save(folder: string, at?: SavePoint): Promise<void> {
    return this.#o.save(folder, at);
  }
}

const secondsOf = (utterances: readonly Utterance[]): number[] => utterances.map((u) => u.seconds ?? 0);

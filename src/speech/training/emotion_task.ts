/** The task of stages 1 and 2: characters and emotion from speech, then from speech and words. */
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import { argmax, score } from "../metrics/metrics.ts";
import { totalEdits, wer } from "../metrics/wer.ts";
import type { EmotionRecognizer, EncodedSpeech } from "../system/emotion.ts";
import { frameCount, type HubertInput } from "../../models/hubert.ts";
import type { Mode } from "../../nn/mode.ts";
import type { Parameter } from "../../nn/parameter.ts";
import { crossEntropy } from "../../ops/cross_entropy.ts";
import { ctcLoss, type Reduction } from "../../ops/ctc.ts";
import { add } from "../../ops/elementwise.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { Inference } from "../system/inference.ts";
import { editsOf, type UtteranceAnswer, utteranceAnswer } from "../metrics/answer.ts";
import { type BatchSize, planEpoch, planInOrder } from "./batches.ts";
import { type Augmentation, augmented } from "./augment.ts";
import { type Batch, boundTargets, type Reader, readBatch } from "./examples.ts";
import { uniformStream } from "../../train/seeds.ts";
import { specAugment } from "./spec_augment.ts";
import { type DevResult, type Losses, refuseTooFew, type Task } from "../../train/task.ts";

/** Options of EmotionTask. */
export interface EmotionTaskOptions {
  readonly system: EmotionRecognizer;
  readonly parameters: readonly Parameter[];
  readonly reader: Reader;
  readonly train: readonly Utterance[];
  readonly dev: readonly Utterance[];
  readonly batch: BatchSize;
  readonly seed: number;
  /** α in L = α·L_CTC + (1 − α)·L_E. */
  readonly alpha: number;
  readonly ctcReduction: Reduction & ("mean" | "sum");
  readonly labelSmoothing: number;
  readonly augment: Augmentation;
  readonly save: (folder: string) => Promise<void>;
}

/** Trains an EmotionRecognizer with L = α·L_CTC + (1 − α)·L_E. */
export class EmotionTask implements Task<Batch> {
  readonly items = "utterances";
  readonly #o: EmotionTaskOptions;
  readonly #seconds: readonly number[];

  constructor(options: EmotionTaskOptions) {
    this.#o = options;
    this.#seconds = options.train.map((u) => u.seconds ?? 0);
  }

  get parameters(): readonly Parameter[] {
    return this.#o.parameters;
  }

  plan(epoch: number): readonly (readonly number[])[] {
    return planEpoch(this.#seconds, this.#o.batch, this.#o.seed, epoch);
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
    const { system, alpha, labelSmoothing, ctcReduction } = this.#o;
    const speech = system.hubert && system.encodeSpeech(this.#input(batch, mode), mode);
    const { logits } = system.classify(speech, batch.words, mode);
    return system.device.at({ part: "losses" }, (): Losses => {
      const emotion = crossEntropy(logits, batch.labels, { labelSmoothing });
      const ctc = speech && this.#ctc(speech, batch, ctcReduction);
      if (!ctc) return { loss: emotion, parts: { emotion } };
      return { loss: add(ctc, emotion, alpha, 1 - alpha), parts: { ctc, emotion } };
    });
  }

  /** Undefined where the system has no CTC head. */
  #ctc({ ctcLogits, frames }: EncodedSpeech, { targets }: Batch, reduction: Reduction): Tensor | undefined {
    return (
      ctcLogits &&
      ctcLoss(ctcLogits, boundTargets(targets, frames), frames, {
        ...{ blank: this.#o.system.config.hubert?.blank, reduction },
        // An utterance with too few frames for its transcript has no CTC loss, but an emotion.
        zeroInfinity: true,
      })
    );
  }

  #input({ audio, samples, lengths }: Batch, { training }: Mode): HubertInput {
    const { device } = this.#o.system;
    const B = lengths.length;
    const input = { audio: Tensor.from(device, audio, [B, samples]), lengths };
    const config = this.#o.system.config.hubert;
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

  async evaluate(signal?: AbortSignal): Promise<DevResult | undefined> {
    const { dev, batch, reader, system, alpha } = this.#o;
    if (dev.length === 0) return undefined;
    const { hubert } = system.config;
    const inference = new Inference(system, reader);
    const answers: UtteranceAnswer[] = [];
    let [ctc, emotion] = [0, 0];
    for (const indices of planInOrder(
      dev.map((u) => u.seconds ?? 0),
      batch,
    )) {
      signal?.throwIfAborted();
      const read = await readBatch(
        reader,
        indices.map((i) => dev[i]),
      );
      if (!read) continue;
      const { transcripts, probabilities, losses } = await inference.run(
        { speech: hubert && read, words: read.words },
        {
          losses: {
            ctc: (speech) => this.#ctc(speech, read, "mean"),
            emotion: (logits) => crossEntropy(logits, read.labels),
          },
        },
      );
      for (const [b, utterance] of read.utterances.entries())
        answers.push(
          utteranceAnswer(utterance, { transcript: transcripts?.[b], probabilities: probabilities?.[b] }),
        );
      emotion += (losses.emotion ?? 0) * read.utterances.length;
      ctc += (losses.ctc ?? 0) * read.utterances.length;
    }
    refuseTooFew(dev.length - answers.length, dev.length, "the dev set", this.items);
    const { wer, ...accuracies } = devScores(answers);
    emotion /= answers.length;
    ctc /= answers.length;
    const recognises = answers[0].hypothesis !== undefined;
    const loss = recognises ? alpha * ctc + (1 - alpha) * emotion : emotion;
    const counts = { utterances: answers.length, of: dev.length };
    return { loss, emotion, ...accuracies, ...(wer === undefined ? {} : { wer, ctc }), ...counts };
  }

  save(folder: string): Promise<void> {
    return this.#o.save(folder);
  }
}

/** UA and WA of the labelled answers; WER, a share of the reference's words, where every answer has words. */
function devScores(answers: readonly UtteranceAnswer[]): { ua: number; wa: number; wer?: number } {
  const labelled = answers.filter((a) => a.utterance.label !== undefined);
  const truth = labelled.map((a) => LABELS.indexOf(a.utterance.label!));
  const predicted = labelled.map((a) => argmax(a.probabilities));
  const { ua, wa } = score(truth, predicted, LABELS.length);
  const edits = editsOf(answers);
  return edits ? { ua, wa, wer: wer(totalEdits(edits)) } : { ua, wa };
}

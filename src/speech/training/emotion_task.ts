/** The task of stages 1 and 2: characters and emotion from speech, then from speech and words. */
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import { argmax, score } from "../metrics/metrics.ts";
import { totalEdits, wer } from "../metrics/wer.ts";
import type { EmotionSystem, EncodedSpeech } from "../system/emotion.ts";
import type { Mode } from "../../nn/mode.ts";
import { crossEntropy } from "../../ops/cross_entropy.ts";
import { ctcLoss, type Reduction } from "../../ops/ctc.ts";
import { add } from "../../ops/elementwise.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { Inference } from "../system/inference.ts";
import { editsOf, type UtteranceAnswer, utteranceAnswer } from "../metrics/answer.ts";
import { SpeechTask, type SpeechTaskOptions, speechInput } from "./speech_task.ts";
import type { BatchSize } from "./batches.ts";
import type { Augmentation } from "./augment.ts";
import { type Batch, boundTargets } from "./examples.ts";
import { type DevResult, type Losses, refuseTooFew, type Task } from "../../train/task.ts";

/** Options of EmotionTask. */
export interface EmotionTaskOptions extends SpeechTaskOptions {
  readonly system: EmotionSystem;
  /** α in L = α·L_CTC + (1 − α)·L_E, where L_CTC may be the loss of an attention decoder. */
  readonly alpha: number;
  readonly ctcReduction: Reduction & ("mean" | "sum");
  readonly labelSmoothing: number;
  /** What a class counts in L_E of training, in the order of LABELS; equally where left out. The dev loss does not weigh them. */
  readonly classWeights?: readonly number[];
  /** "recognised": BERT learns from the words that the system recognises at that time. The true ones where left out. */
  readonly words?: "true" | "recognised";
  readonly augment: Augmentation;
}

/** Trains an EmotionSystem with L = α·L_CTC + (1 − α)·L_E, or with the loss of its attention decoder in place of L_CTC. */
export class EmotionTask extends SpeechTask<EmotionTaskOptions> implements Task<Batch> {
  /** Seconds of speech, or characters where no speech is read. */
  protected override lengths(utterances: readonly Utterance[]): number[] {
    return this.options.system.config.speech
      ? super.lengths(utterances)
      : utterances.map((u) => u.words.length);
  }

  protected override get batchSize(): BatchSize {
    const { batch, system } = this.options;
    return system.config.speech ? batch : { items: batch.items };
  }

  /** The batch with the words that the system recognises in it, where BERT is to learn from these. */
  async prepare(batch: Batch, { activations }: Pick<Mode, "activations">): Promise<Batch> {
    const { system, reader, words } = this.options;
    if (words !== "recognised") return batch;
    const recognised = await new Inference(system, reader).recognisedWords(batch, { activations });
    return { ...batch, words: recognised ?? batch.words };
  }

  losses(batch: Batch, mode: Mode): Losses {
    const { system, alpha, labelSmoothing, classWeights, ctcReduction } = this.options;
    const speech =
      system.config.speech &&
      system.encodeSpeech(speechInput(system.device, system.config.hubert, batch, mode), mode);
    const spelling = speech && system.spells ? system.spell?.(speech, batch.targets, mode) : undefined;
    const { logits } = system.classify(speech, batch.words, mode, spelling);
    return system.device.at({ part: "losses" }, (): Losses => {
      const weight =
        classWeights && Tensor.from(system.device, Float32Array.from(classWeights), [classWeights.length]);
      const emotion = crossEntropy(logits, batch.labels, { labelSmoothing, weight });
      const spelled = spelling && system.spellingLoss?.(spelling, batch.targets, labelSmoothing);
      if (spelled)
        return { loss: add(spelled, emotion, alpha, 1 - alpha), parts: { characters: spelled, emotion } };
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
        ...{ blank: this.options.system.config.blank, reduction },
        // An utterance with too few frames for its transcript has no CTC loss, but an emotion.
        zeroInfinity: true,
      })
    );
  }

  /** The dev loss of the recogniser, by CTC or by the characters of its decoder. */
  #recognition(speech: EncodedSpeech, batch: Batch): Tensor | undefined {
    const { system } = this.options;
    const spelling = system.spells ? system.spell?.(speech, batch.targets) : undefined;
    return spelling ? system.spellingLoss?.(spelling, batch.targets) : this.#ctc(speech, batch, "mean");
  }

  async evaluate(signal?: AbortSignal): Promise<DevResult | undefined> {
    const { dev, reader, system, alpha } = this.options;
    if (dev.length === 0) return undefined;
    const inference = new Inference(system, reader);
    const answers: UtteranceAnswer[] = [];
    let [ctc, emotion] = [0, 0];
    for await (const read of this.devBatches(signal)) {
      const { transcripts, probabilities, losses } = await inference.run(
        { speech: system.config.speech && read, words: system.config.asr ? undefined : read.words },
        {
          losses: {
            ctc: (speech) => this.#recognition(speech, read),
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
    return {
      loss,
      emotion,
      ...accuracies,
      ...(wer === undefined ? {} : { wer, [system.spells ? "characters" : "ctc"]: ctc }),
      ...counts,
    };
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

/** What classes count so that each counts as much as the others: n / (classes · its number). 1 for a class that does not occur. */
export function balancedWeights(utterances: readonly Utterance[]): number[] {
  const labels = utterances.flatMap(({ label }) => label ?? []);
  return LABELS.map((label) => {
    const count = labels.filter((each) => each === label).length;
    return count === 0 ? 1 : labels.length / (LABELS.length * count);
  });
}

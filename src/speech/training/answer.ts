/** A system's answers to utterances as in use: words from the speech itself, emotions from both. */
import { LABELS, type Utterance } from "../corpora/corpus.ts";
import { decodeGreedy } from "../../io/decode.ts";
import type { EmotionRecognizer, EncodedSpeech } from "../system/emotion.ts";
import { readWords } from "../system/words.ts";
import { crossEntropy } from "../../ops/cross_entropy.ts";
import { ctcLoss } from "../../ops/ctc.ts";
import { softmax } from "../../ops/softmax.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { type Batch, boundTargets, type Reader } from "./examples.ts";

export interface UtteranceAnswer {
  readonly utterance: Utterance;
  /** One for each of LABELS, adding up to 1. */
  readonly probabilities: readonly number[];
  /** Recognised words; absent where the system recognises none. */
  readonly hypothesis?: string;
}

export interface BatchAnswer {
  readonly answers: readonly UtteranceAnswer[];
  /** Mean cross-entropy of the emotions, and of the characters where the system recognises words. */
  readonly losses: { readonly emotion: number; readonly ctc?: number };
}

/**
 * Answers a batch in two synchronous halves around one read: speech → characters, then words and frames → emotion.
 *
 * A system that reads text alone is given the true words. Its labels are LABELS, in any order.
 */
export async function answerBatch(
  system: EmotionRecognizer,
  batch: Batch,
  reader: Reader,
): Promise<BatchAnswer> {
  const { vocabulary, tokenizer } = reader;
  const encoded = system.hubert && encode(system, batch);
  let hypotheses: string[] | undefined;
  let ctc: number | undefined;
  if (encoded?.speech.ctcLogits && encoded.ctc && vocabulary) {
    const { ctcLogits, frames } = encoded.speech;
    const [, T, V] = ctcLogits.shape;
    const values = await ctcLogits.read();
    [ctc] = await encoded.ctc.read();
    // References are capitals; a vocabulary may have small letters.
    hypotheses = frames.map((n, b) =>
      decodeGreedy(values.subarray(b * T * V, (b * T + n) * V), vocabulary).text.toUpperCase(),
    );
  }
  const words =
    hypotheses && system.bert && tokenizer
      ? await readWords(tokenizer, hypotheses, reader.maxTokens)
      : batch.words;
  const { device, config } = system;
  const places = LABELS.map((label) => config.labels.indexOf(label));
  const classified = scope(device, () => {
    const { logits } = system.classify(encoded?.speech, words);
    const truth = batch.labels.map((label) => places[label] ?? label);
    return { probabilities: softmax(logits), ce: crossEntropy(logits, truth) };
  });
  const probabilities = await classified.probabilities.read();
  const [emotion] = await classified.ce.read();
  for (const t of [classified.probabilities, classified.ce, ...(encoded?.tensors ?? [])]) t.release();
  return {
    answers: batch.utterances.map((utterance, b) => ({
      utterance,
      probabilities: places.map((place) => probabilities[b * places.length + place]),
      hypothesis: hypotheses?.[b],
    })),
    losses: { emotion, ctc },
  };
}

function encode(
  system: EmotionRecognizer,
  batch: Batch,
): { speech: EncodedSpeech; ctc: Tensor | undefined; tensors: Tensor[] } {
  const { device } = system;
  const kept = scope(device, () => {
    const audio = Tensor.from(device, batch.audio, [batch.lengths.length, batch.samples]);
    const speech = system.encodeSpeech({ audio, lengths: batch.lengths });
    const ctc =
      speech.ctcLogits &&
      ctcLoss(speech.ctcLogits, boundTargets(batch.targets, speech.frames), speech.frames, {
        blank: system.config.hubert?.blank,
        zeroInfinity: true,
      });
    return { ...speech, ctc };
  });
  const { ctc, ...speech } = kept;
  return {
    speech,
    ctc,
    tensors: [speech.hidden, speech.mask, speech.ctcLogits, ctc].filter((t) => t !== undefined),
  };
}

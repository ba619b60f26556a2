/** A model's answers to the utterances of a test set. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { readWav } from "../../io/audio.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import { ArgumentError } from "../../io/argument_error.ts";
import { batchBytes, planBatches } from "../../models/batches.ts";
import { receptiveField } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import { Weights } from "../../nn/weights.ts";
import { LABELS, type Problem, type Utterance } from "../corpora/corpus.ts";
import type { EmotionConfig } from "../system/emotion.ts";
import { emotionSystem } from "../system/emotion_system.ts";
import { type ModelFolder, openModelFolder } from "../system/folder.ts";
import { Inference } from "../system/inference.ts";
import { openRecognizer, type Recognizer } from "../system/recognizer.ts";
import { tokenizeWords } from "../system/words.ts";
import { utteranceAnswer } from "../metrics/answer.ts";
import { planInOrder } from "../training/batches.ts";
import type { Answer } from "./report.ts";

/** A model folder whose emotions are LABELS, in any order. */
export type EmotionModel = ModelFolder & { readonly emotion: EmotionConfig };

/** Opens a model folder; the caller closes `weights`. Throws one line where it names other emotions, or none. */
export async function openEmotionModel(host: Host, path: string): Promise<EmotionModel> {
  const model = await openModelFolder(host, path);
  const { emotion } = model;
  try {
    if (model.classifier)
      throw new Error(
        `Cannot evaluate ${path}: it is a published classifier with labels of its own, ${model.classifier.labels.join(", ")}; predict runs it`,
      );
    if (!emotion) throw new Error(`Cannot evaluate ${path}: a plain CTC model names no emotions`);
    const { labels } = emotion;
    if (labels.length !== LABELS.length || LABELS.some((label) => !labels.includes(label)))
      throw new RangeError(
        `Cannot evaluate ${path}: its labels are ${labels.join(", ")}, expected ${LABELS.join(", ")} in any order`,
      );
    return { ...model, emotion };
  } catch (error) {
    await model.weights.close();
    throw error;
  }
}

/** Options of evaluateModel(). */
export interface EvaluateOptions {
  /** The words that the system reads; by default as wordsRead() says. */
  readonly words?: Words;
  /** Most utterances in a batch. 8 by default. */
  readonly batch?: number;
  /** Told of every utterance that is left out, and of silent ones. */
  readonly onProblem?: (problem: Problem) => void;
  /** Told how many utterances are finished. */
  readonly onProgress?: (done: number) => void;
}

/** Which words a system reads in a test: those of the transcripts, or those that it recognises itself. */
export type Words = "true" | "recognised";

/**
 * The words that a test of the model reads: those wanted, else those that it recognises, else the true ones; undefined where it
 * reads none. Throws an ArgumentError for words that it does not read.
 */
export function wordsRead({ path, emotion }: EmotionModel, wanted?: Words): Words | undefined {
  const refuse = (why: string) => new ArgumentError(`Cannot evaluate ${path} on ${wanted} words: ${why}`);
  if (emotion.modalities === "acoustic") {
    if (wanted !== undefined) throw refuse("it reads none");
    return undefined;
  }
  if (wanted === "recognised" && !emotion.asr) throw refuse("it recognises none");
  return wanted ?? (emotion.asr ? "recognised" : "true");
}

type Labelled = Answer["utterance"];

/**
 * The answers to all utterances that have a label and can be used, in their order. Silent recordings are scored like others,
 * since they have labels. Closes the model's weights.
 */
export async function evaluateModel(
  host: Host,
  device: Device,
  model: EmotionModel,
  test: readonly Utterance[],
  options: EvaluateOptions = {},
): Promise<Answer[]> {
  const words = wordsRead(model, options.words);
  const labelled = test.filter((utterance): utterance is Labelled => utterance.label !== undefined);
  const answers = model.speech
    ? await answerSpeech(host, device, model, labelled, { ...options, words })
    : await answerTexts(device, model, labelled, options);
  return labelled.flatMap((utterance) => answers.get(utterance) ?? []);
}

type Answers = Map<Labelled, Answer>;

async function answerSpeech(
  host: Host,
  device: Device,
  model: EmotionModel,
  test: readonly Labelled[],
  { words, batch = 8, onProblem, onProgress }: EvaluateOptions,
): Promise<Answers> {
  const answers: Answers = new Map();
  const problem = ({ id }: Labelled, kind: Problem["kind"], handled: string) =>
    onProblem?.({ id, kind, handled });
  const recognizer = await openRecognizer(host, device, model);
  const { speech } = recognizer.model;
  const minSamples = receptiveField(speech);
  try {
    const fitting = test.filter((utterance) => {
      const error = lengthError(recognizer, samplesOf(utterance));
      if (error !== undefined) problem(utterance, "long clip", `left out: ${error}`);
      return error === undefined;
    });
    const limits = { batch, bytes: batchBytes(device) };
    let done = test.length - fitting.length;
    // Batches are planned here rather than by recognize(), so that only the clips of one are in memory.
    for (const indices of planBatches(fitting.map(samplesOf), speech, limits)) {
      const clips: { utterance: Labelled; samples: Float32Array }[] = [];
      for (const utterance of indices.map((i) => fitting[i])) {
        try {
          const { samples } = await readWav(host, utterance.wav, { minSamples });
          clips.push({ utterance, samples });
        } catch (error) {
          problem(utterance, "unreadable wav", `left out: ${(error as Error).message}`);
        }
      }
      const found = await recognizer.recognize(
        clips.map(({ samples }) => samples),
        {
          batch,
          skipSilence: false,
          words: words === "true" ? clips.map((c) => c.utterance.words) : undefined,
        },
      );
      for (const [i, { utterance }] of clips.entries()) {
        if (found[i].silent)
          problem(
            utterance,
            "silent clip",
            "kept: scored by what the model says, where predict says nothing",
          );
        answers.set(utterance, utteranceAnswer(utterance, found[i]));
      }
      done += indices.length;
      onProgress?.(done);
    }
    return answers;
  } finally {
    recognizer.dispose();
  }
}

/** Length of the recording at 16 kHz. */
const samplesOf = ({ seconds = 0 }: Utterance): number => Math.round(seconds * SAMPLE_RATE);

/** Why a recording of so many samples cannot be recognised; undefined where it can. */
function lengthError(recognizer: Recognizer, samples: number): string | undefined {
  try {
    recognizer.check(samples);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

async function answerTexts(
  device: Device,
  { weights: file, path, emotion, tokenizer }: EmotionModel,
  test: readonly Labelled[],
  { batch = 8, onProgress }: EvaluateOptions,
): Promise<Answers> {
  const answers: Answers = new Map();
  const { bert } = emotion;
  if (!bert || !tokenizer) throw new Error(`Cannot evaluate ${path}: it takes neither recordings nor words`);
  const weights = new Weights(device, { file, path, spellings, mayIgnore });
  try {
    const inference = new Inference(emotionSystem(weights.root, emotion), { tokenizer });
    await weights.initialize();
    await file.close();
    const lengths = test.map(({ words }) => words.length);
    let done = 0;
    for (const indices of planInOrder(lengths, { items: batch })) {
      const utterances = indices.map((i) => test[i]);
      const texts = utterances.map(({ words }) => words);
      const { probabilities } = await inference.run({
        words: await tokenizeWords(tokenizer, texts, bert.maxPositions),
      });
      for (const [b, utterance] of utterances.entries())
        answers.set(utterance, utteranceAnswer(utterance, { probabilities: probabilities?.[b] }));
      done += indices.length;
      onProgress?.(done);
    }
    return answers;
  } finally {
    weights.dispose();
    await file.close();
  }
}

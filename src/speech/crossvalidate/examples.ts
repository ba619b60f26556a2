/** Utterances to look at: chosen by a rule, with their sound, and the gates of CmGI over time. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { readWav } from "../../io/audio.ts";
import { base64 } from "../../io/encoding.ts";
import { wav16Bytes } from "../../io/wav.ts";
import { receptiveField, secondsPerFrame } from "../../models/hubert.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { LABELS } from "../corpora/corpus.ts";
import type { Answer } from "../evaluate/report.ts";
import { openEmotionModel } from "../evaluate/evaluate.ts";
import { openRecognizer, type Recognizer } from "../system/recognizer.ts";
import { truncateTokens } from "../system/words.ts";
import { isRight } from "../evaluate/summands.ts";

/** Longer recordings are not chosen, since each is stored in the page. */
const MAX_SECONDS = 6;

/**
 * Of each emotion the first utterance that is answered right and the first that is answered wrong, by id, of those of at most
 * six seconds.
 */
export function chooseExamples(answers: readonly Answer[]): Answer[] {
  const short = answers
    .filter(({ utterance: { seconds = 0 } }) => seconds <= MAX_SECONDS)
    .sort((a, b) => (a.utterance.id < b.utterance.id ? -1 : 1));
  return LABELS.flatMap((label) => {
    const own = short.filter(({ utterance }) => utterance.label === label);
    return [own.find(isRight), own.find((answer) => !isRight(answer))].filter((one) => one !== undefined);
  });
}

/** An utterance to look at. */
export interface Example {
  readonly id: string;
  readonly label: string;
  /** In the order of LABELS. */
  readonly probabilities: readonly number[];
  /** The true words. */
  readonly reference: string;
  /** The recognised words with their times; absent where the system recognises none. */
  readonly words?: readonly { readonly text: string; readonly start: number; readonly end: number }[];
  readonly seconds: number;
  readonly secondsPerFrame: number;
  /** The recording, 16 bits at 16 kHz, as a data URI. */
  readonly wav: string;
  /**
   * Weights of the own modality against the other, each the mean over the gate's values; absent where the system has no gates.
   * One number where the gate is one for the utterance.
   */
  readonly gates?: {
    /** Of every frame. */
    readonly acoustic: readonly number[];
    /** Of every subword. */
    readonly text: readonly number[];
    /** The subwords that BERT read. */
    readonly tokens: readonly string[];
  };
}

/**
 * Runs the model of a folder on answers that chooseExamples() chose, each alone; BERT reads the recognised words, or the true ones
 * where the system recognises none. Empty for a system that takes no recordings.
 */
export async function observeExamples(
  host: Host,
  device: Device,
  folder: string,
  chosen: readonly Answer[],
): Promise<Example[]> {
  const model = await openEmotionModel(host, folder);
  if (!model.speech) {
    await model.weights.close();
    return [];
  }
  const recognizer = await openRecognizer(host, device, model);
  try {
    const examples: Example[] = [];
    for (const answer of chosen) examples.push(await observe(host, recognizer, answer));
    return examples;
  } finally {
    recognizer.dispose();
  }
}

async function observe(host: Host, recognizer: Recognizer, answer: Answer): Promise<Example> {
  const { utterance, probabilities } = answer;
  const { speech, emotion, tokenizer } = recognizer.model;
  const { samples, seconds } = await readWav(host, utterance.wav, { minSamples: receptiveField(speech) });
  const gates: Record<string, Tensor> = {};
  try {
    const [{ transcript }] = await recognizer.recognize([samples], {
      skipSilence: false,
      words: tokenizer && !emotion?.asr ? [utterance.words] : undefined,
      observe: (name, tensor) => {
        const side = /^cmgi\.gate_([st])$/.exec(name)?.[1];
        if (side !== undefined) gates[side] = tensor.keep();
      },
    });
    const acoustic = gates.s && (await overTime(gates.s));
    const text = gates.t && (await overTime(gates.t));
    const read = transcript?.text ?? utterance.words;
    const encoded = await tokenizer?.encode(read.toLowerCase());
    const tokens = encoded && truncateTokens(encoded.tokens, emotion?.maxTokens ?? 512);
    return {
      ...{ id: utterance.id, label: utterance.label, probabilities, reference: utterance.words, seconds },
      words: transcript?.words.map(({ text, start, end }) => ({ text, start, end })),
      secondsPerFrame: secondsPerFrame(speech),
      wav: `data:audio/wav;base64,${base64(wav16Bytes(samples))}`,
      ...(acoustic && text && tokens ? { gates: { acoustic, text, tokens } } : {}),
    };
  } finally {
    for (const tensor of Object.values(gates)) tensor.release();
  }
}

/** Means over the last axis of (1, T, d), to four decimals. */
async function overTime(gate: Tensor): Promise<number[]> {
  const [, T, d] = gate.shape;
  const values = await gate.read();
  const mean = (row: Float32Array) => row.reduce((a, b) => a + b, 0) / d;
  return Array.from({ length: T }, (_, t) => Number(mean(values.subarray(t * d, (t + 1) * d)).toFixed(4)));
}

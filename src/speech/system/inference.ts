/**
 * The one path from speech to words and an emotion: predict, evaluate and the dev figures of training take it. Two
 * synchronous halves around one read: speech → characters, then words and frames → emotion.
 */
import type { Device } from "../../gpu/device.ts";
import { decodeBeam, decodeGreedy, type Transcript } from "../../io/decode.ts";
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import type { BertInput } from "../../models/bert.ts";
import { type HubertInput, secondsPerFrame } from "../../models/hubert.ts";
import type { Mode } from "../../nn/mode.ts";
import { reshape } from "../../ops/elementwise.ts";
import { maskedMean } from "../../ops/reduce.ts";
import { logSoftmax, softmax } from "../../ops/softmax.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import type { EmotionConfig, EmotionRecognizer, EncodedSpeech } from "./emotion.ts";
import { tokenizeWords } from "./words.ts";

/** The layers of a system: an EmotionRecognizer, or a HubertForCTC, which names no emotion. */
export interface SystemLayers {
  readonly device: Device;
  readonly config: Pick<EmotionConfig, "hubert" | "bert"> & Partial<Pick<EmotionConfig, "labels">>;
  encodeSpeech(input: HubertInput, mode: Mode): EncodedSpeech;
  readonly classify?: EmotionRecognizer["classify"];
}

/** What stands at both ends of the words. */
export interface WordCodecs {
  /** Present where the system writes words. */
  readonly vocabulary?: CtcVocabulary;
  /** Present where the system reads words. */
  readonly tokenizer?: BertTokenizer;
}

/** Recordings of one batch. */
export interface PaddedSpeech {
  /** (B, samples): each recording, then zeros. */
  readonly audio: Float32Array;
  readonly samples: number;
  /** Real samples of each recording. Left out: everything is signal. */
  readonly lengths?: readonly number[];
}

/** Lays recordings into one array, each padded with zeros to `samples`, by default the longest. */
export function padSpeech(
  recordings: readonly Float32Array[],
  samples = Math.max(...recordings.map(({ length }) => length)),
): Required<PaddedSpeech> {
  const audio = new Float32Array(recordings.length * samples);
  for (const [b, recording] of recordings.entries()) audio.set(recording, b * samples);
  return { audio, samples, lengths: recordings.map(({ length }) => length) };
}

export interface InferenceInput {
  /** Left out for a system that reads only. */
  readonly speech?: PaddedSpeech;
  /** The true words, for a system that reads words and recognises none. */
  readonly words?: BertInput;
}

export interface InferenceOptions {
  /** Width of the prefix beam search; greedy where left out. */
  readonly beam?: number;
  readonly observe?: Mode["observe"];
  /** Scalars that are computed on the same forward, and read with it. */
  readonly losses?: {
    readonly ctc: (speech: EncodedSpeech) => Tensor | undefined;
    readonly emotion: (logits: Tensor) => Tensor;
  };
}

/** Of every recording or text of a batch, in its order. */
export interface InferenceResult {
  /** Where the system writes words. */
  readonly transcripts?: readonly Transcript[];
  /** Where the system names an emotion: the probability of every label. */
  readonly probabilities?: readonly Readonly<Record<string, number>>[];
  /** Where there are gates: their mean over real frames, and over subwords. */
  readonly gates?: readonly { readonly acoustic: number; readonly text: number }[];
  /** Those that were asked for and that the system has. */
  readonly losses: { readonly ctc?: number; readonly emotion?: number };
}

export class Inference {
  readonly #layers: SystemLayers;
  readonly #codecs: WordCodecs;

  constructor(layers: SystemLayers, codecs: WordCodecs) {
    this.#layers = layers;
    this.#codecs = codecs;
  }

  /** Leaves no tensor behind, whether it returns or throws. Throws where a logit or a probability is not finite. */
  async run(
    { speech, words: given }: InferenceInput,
    options: InferenceOptions = {},
  ): Promise<InferenceResult> {
    const { device } = this.#layers;
    const encoded = speech && scope(device, () => this.#encode(speech, options));
    const held = Object.values(encoded ?? {}).filter((value) => value instanceof Tensor);
    try {
      const transcripts = encoded && (await this.#decode(encoded, options.beam));
      const words = (transcripts && (await this.#read(transcripts))) ?? given;
      const classified = scope(device, () => this.#classify(encoded, words, options));
      held.push(...Object.values(classified).filter((value) => value !== undefined));
      const { probabilities, acoustic, text, emotion } = classified;
      const [p, s, t, ctc, ce] = await Promise.all(
        [probabilities, acoustic, text, encoded?.ctc, emotion].map((tensor) => tensor?.read()),
      );
      if (p && !p.every(Number.isFinite))
        throw new Error("Cannot classify: the model's probabilities are not finite");
      const B = speech ? speech.audio.length / speech.samples : (words?.ids.length ?? 0);
      const [acousticGates, textGates] = [s, t].map((values) => values && rowsOf(values, B).map(mean));
      return {
        ...{ transcripts, probabilities: p && rowsOf(p, B).map((row) => this.#named(row)) },
        gates: textGates && acousticGates?.map((own, b) => ({ acoustic: own, text: textGates[b] })),
        losses: { ctc: ctc?.[0], emotion: ce?.[0] },
      };
    } finally {
      for (const tensor of held) tensor.release();
    }
  }

  #encode({ audio, samples, lengths }: PaddedSpeech, { observe, losses }: InferenceOptions) {
    const layers = this.#layers;
    const input = Tensor.from(layers.device, audio, [audio.length / samples, samples]);
    observe?.("input_values", input);
    const speech = layers.encodeSpeech({ audio: input, lengths }, { observe });
    const { hidden, mask, frames, ctcLogits } = speech;
    return { hidden, mask, frames, logProbs: ctcLogits && logSoftmax(ctcLogits), ctc: losses?.ctc(speech) };
  }

  async #decode(
    { logProbs, frames }: { readonly logProbs?: Tensor; readonly frames: readonly number[] },
    beam: number | undefined,
  ): Promise<Transcript[] | undefined> {
    const { vocabulary } = this.#codecs;
    const { hubert } = this.#layers.config;
    if (!logProbs || !vocabulary || !hubert) return undefined;
    const [, T, V] = logProbs.shape;
    const values = await logProbs.read();
    if (values.some(Number.isNaN)) throw new Error("Cannot decode: the model's logits are not finite");
    const times = { secondsPerFrame: secondsPerFrame(hubert) };
    return frames.map((n, b) => {
      const own = values.subarray(b * T * V, (b * T + n) * V);
      return beam
        ? decodeBeam(own, vocabulary, { ...times, beamWidth: beam })
        : decodeGreedy(own, vocabulary, times);
    });
  }

  /** The words that BERT reads; undefined where the system reads none. */
  async #read(transcripts: readonly Transcript[]): Promise<BertInput | undefined> {
    const { tokenizer } = this.#codecs;
    const { bert } = this.#layers.config;
    if (!tokenizer || !bert) return undefined;
    return await tokenizeWords(
      tokenizer,
      transcripts.map(({ text }) => text),
      bert.maxPositions,
    );
  }

  /** Frames and words → probabilities (B, classes), the gates' means over time (B, d), and the loss. */
  #classify(
    speech: EncodedSpeech | undefined,
    words: BertInput | undefined,
    { observe, losses }: InferenceOptions,
  ): Partial<Record<"probabilities" | "acoustic" | "text" | "emotion", Tensor>> {
    const layers = this.#layers;
    if (!layers.classify) return {};
    const { logits, gates } = layers.classify(speech, words, { observe });
    const probabilities = softmax(logits);
    observe?.("probabilities", probabilities);
    return {
      probabilities,
      acoustic: gates && meanOverTime(gates.s, speech?.mask),
      text: gates && meanOverTime(gates.t, words?.mask && flags(layers.device, words.mask)),
      emotion: losses?.emotion(logits),
    };
  }

  #named(row: Float32Array): Record<string, number> {
    const { labels = [] } = this.#layers.config;
    return Object.fromEntries(labels.map((label, i) => [label, row[i]]));
  }
}

/** (B, T, d) → (B, d); a pooled gate has a T of 1 and no padding. */
function meanOverTime(gate: Tensor, mask: Tensor | undefined): Tensor {
  const [B, T, d] = gate.shape;
  if (T === 1) return reshape(gate, [B, d]);
  return maskedMean(gate, mask ?? flags(gate.device, Array(B).fill(Array(T).fill(1))));
}

/** A mask (B, T). */
const flags = (device: Device, rows: readonly (readonly number[])[]) =>
  Tensor.from(device, Uint32Array.from(rows.flat()), [rows.length, rows[0].length]);

/** The rows of (B, n). */
const rowsOf = (values: Float32Array, B: number): Float32Array[] =>
  Array.from({ length: B }, (_, b) =>
    values.subarray((b * values.length) / B, ((b + 1) * values.length) / B),
  );

const mean = (values: Float32Array): number => values.reduce((a, v) => a + v, 0) / values.length;

/**
 * Inference of a batch, shared by prediction, evaluation and the dev scores of training. Two synchronous passes around one
 * read: speech → characters, then words and frames → emotion.
 */
import type { Device } from "../../gpu/device.ts";
import { decodeBeam, decodeGreedy, type Transcript } from "../../io/decode.ts";
import type { LanguageModel } from "../../io/language_model.ts";
import type { BertTokenizer } from "../../io/tokenizer.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import type { BertInput } from "../../models/bert.ts";
import { type HubertInput, secondsPerFrame } from "../../models/hubert.ts";
import type { Mode } from "../../nn/mode.ts";
import { cast } from "../../ops/convert.ts";
import { reshape } from "../../ops/elementwise.ts";
import { maskedMean } from "../../ops/reduce.ts";
import { logSoftmax, softmax } from "../../ops/softmax.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import type { EmotionConfig, EmotionSystem, EncodedSpeech } from "./emotion.ts";
import { tokenizeWords } from "./words.ts";

/** The layers of a system: an EmotionSystem, a classifier of recordings, or a HubertForCTC, which has no classify(). */
export interface SystemLayers {
  readonly device: Device;
  readonly config: Pick<EmotionConfig, "speech" | "maxTokens"> & Partial<Pick<EmotionConfig, "labels">>;
  encodeSpeech(input: HubertInput, mode: Mode): EncodedSpeech;
  readonly classify?: EmotionSystem["classify"];
  readonly spells?: EmotionSystem["spells"];
  readonly readsSpelling?: EmotionSystem["readsSpelling"];
  readonly spell?: EmotionSystem["spell"];
  readonly transcribe?: EmotionSystem["transcribe"];
}

/** How the words of a system are decoded and encoded. */
export interface WordCodecs {
  /** Of the CTC head; absent where no words are recognised. */
  readonly vocabulary?: CtcVocabulary;
  /** Weighed in where a CTC head writes the words. */
  readonly languageModel?: LanguageModel;
  /** Of BERT; absent where no words are read. */
  readonly tokenizer?: BertTokenizer;
}

/** The recordings of a batch. */
export interface PaddedSpeech {
  /** (B, samples), each recording padded with zeros. */
  readonly audio: Float32Array;
  readonly samples: number;
  /** Samples of each recording without padding. Left out: nothing is padding. */
  readonly lengths?: readonly number[];
}

/** Recordings in one array, each padded with zeros to `samples`, by default the length of the longest. */
export function padSpeech(
  recordings: readonly Float32Array[],
  samples = Math.max(...recordings.map(({ length }) => length)),
): Required<PaddedSpeech> {
  const audio = new Float32Array(recordings.length * samples);
  for (const [b, recording] of recordings.entries()) audio.set(recording, b * samples);
  return { audio, samples, lengths: recordings.map(({ length }) => length) };
}

/** Input of Inference.run(). */
export interface InferenceInput {
  /** Left out for a system without a speech encoder. */
  readonly speech?: PaddedSpeech;
  /** The words to read, as the true ones. Left out: those that the system recognises. */
  readonly words?: BertInput;
}

/** Options of Inference.run(). */
export interface InferenceOptions {
  /** Width of the prefix beam search, or of the decoder's beam. Left out: greedy decoding; with a language model 32. */
  readonly beam?: number;
  /** False: the language model is not weighed in. Default true. */
  readonly languageModel?: boolean;
  /** False: speech follows, and the language model takes neither the last word nor the sentence for whole. Default true. */
  readonly isEnd?: boolean;
  /** Told of every intermediate tensor, see Mode. */
  readonly observe?: Mode["observe"];
  /** As Mode's. */
  readonly activations?: Mode["activations"];
  /** Whether the last hidden states of speech are read: of every frame, or their mean. */
  readonly embeddings?: "frame" | "utterance";
  /** Losses to compute in the same forward pass. */
  readonly losses?: {
    readonly ctc: (speech: EncodedSpeech) => Tensor | undefined;
    readonly emotion: (logits: Tensor) => Tensor;
  };
}

/** Last hidden states (frames, size) of a recording, or their mean (1, size). */
export interface SpeechEmbedding {
  /** (frames, size). */
  readonly values: Float32Array;
  /** Rows; 1 where they are the mean. */
  readonly frames: number;
  /** Of the hidden states. */
  readonly size: number;
  /** Begin of the first frame, in seconds from that of the recording. */
  readonly start: number;
  /** Time between frames. */
  readonly secondsPerFrame: number;
}

/** The result of Inference.run(), for each recording or text in the order of the batch. */
export interface InferenceResult {
  /** Absent where the system recognises no words. */
  readonly transcripts?: readonly Transcript[];
  /** Probabilities by label; absent where the system recognises no emotion. */
  readonly probabilities?: readonly Readonly<Record<string, number>>[];
  /** Means of the gates over real frames and subwords; absent where there are no gates. */
  readonly gates?: readonly { readonly acoustic: number; readonly text: number }[];
  /** Where the options ask for them. */
  readonly embeddings?: readonly SpeechEmbedding[];
  /** Those of the options that the system has. */
  readonly losses: { readonly ctc?: number; readonly emotion?: number };
}

/** Runs batches through a system. */
export class Inference {
  readonly #layers: SystemLayers;
  readonly #codecs: WordCodecs;

  constructor(layers: SystemLayers, codecs: WordCodecs) {
    this.#layers = layers;
    this.#codecs = codecs;
  }

  /** Runs one batch. Frees every tensor, also where it throws. Throws where a logit or a probability is not finite. */
  async run(
    { speech, words: given }: InferenceInput,
    options: InferenceOptions = {},
  ): Promise<InferenceResult> {
    const { device } = this.#layers;
    const encoded = speech && scope(device, () => this.#encode(speech, options));
    const owned = Object.values(encoded ?? {}).filter((value) => value instanceof Tensor);
    try {
      const transcripts = encoded && (await this.#decode(encoded, options));
      const words = given ?? (transcripts && (await this.#read(transcripts)));
      const classified = scope(device, () => this.#classify(encoded, words, options, transcripts));
      owned.push(...Object.values(classified).filter((value) => value !== undefined));
      const { probabilities, acoustic, text, emotion } = classified;
      const [p, s, t, ctc, ce] = await Promise.all(
        [probabilities, acoustic, text, encoded?.ctc, emotion].map((tensor) => tensor?.read()),
      );
      if (p && !p.every(Number.isFinite)) throw notFinite("classify", "probabilities", options);
      const embeddings = encoded && (await this.#embeddings(encoded, options));
      const B = speech ? speech.audio.length / speech.samples : (words?.ids.length ?? 0);
      const [acousticGates, textGates] = [s, t].map((values) => values && rowsOf(values, B).map(mean));
      return {
        ...{ transcripts, probabilities: p && rowsOf(p, B).map((row) => this.#named(row)) },
        gates: textGates && acousticGates?.map((own, b) => ({ acoustic: own, text: textGates[b] })),
        ...(embeddings ? { embeddings } : {}),
        losses: { ctc: ctc?.[0], emotion: ce?.[0] },
      };
    } finally {
      for (const tensor of owned) tensor.release();
    }
  }

  /**
   * Compiles the kernels of a recording of so many samples and of as many tokens, while the weights are read: nothing is
   * computed. Those of a decoder that spells are left to its first word.
   */
  async precompile(samples: number, tokens: number, { activations }: Pick<InferenceOptions, "activations">) {
    const { device, classify, spells, readsSpelling, config } = this.#layers;
    const words: BertInput = { ids: [new Array(tokens).fill(0)], mask: [new Array(tokens).fill(1)] };
    await device.precompile(() => {
      const encoded = this.#encode({ audio: new Float32Array(samples), samples }, { activations });
      if (classify && !spells && !readsSpelling)
        this.#classify(encoded, config.maxTokens === undefined ? undefined : words, { activations });
    });
  }

  /**
   * The words that the system recognises in recordings, by greedy decoding, as input of BERT; undefined where it recognises or
   * reads none.
   */
  async recognisedWords(
    speech: PaddedSpeech,
    options: Pick<InferenceOptions, "activations"> = {},
  ): Promise<BertInput | undefined> {
    const encoded = scope(this.#layers.device, () => this.#encode(speech, options));
    try {
      const transcripts = await this.#decode(encoded, options);
      return transcripts && (await this.#read(transcripts));
    } finally {
      for (const value of Object.values(encoded)) if (value instanceof Tensor) value.release();
    }
  }

  #encode({ audio, samples, lengths }: PaddedSpeech, { observe, activations, losses }: InferenceOptions) {
    const layers = this.#layers;
    const input = Tensor.from(layers.device, audio, [audio.length / samples, samples]);
    observe?.("input_values", input);
    const speech = layers.encodeSpeech({ audio: input, lengths }, { observe, activations });
    const { hidden, mask, frames, ctcLogits, pooled } = speech;
    const logProbs = layers.device.at({ part: "CTC head" }, () => ctcLogits && logSoftmax(ctcLogits));
    return { hidden, mask, frames, pooled, logProbs, ctc: losses?.ctc(speech) };
  }

  async #decode(
    speech: EncodedSpeech & { readonly logProbs?: Tensor },
    options: InferenceOptions,
  ): Promise<Transcript[] | undefined> {
    const { logProbs, frames } = speech;
    const { vocabulary } = this.#codecs;
    const languageModel = options.languageModel === false ? undefined : this.#codecs.languageModel;
    const layers = this.#layers;
    if (vocabulary && layers.spells) return await layers.transcribe?.(speech, vocabulary, options);
    const { speech: sizes } = layers.config;
    if (!logProbs || !vocabulary || !sizes) return undefined;
    const [, T, V] = logProbs.shape;
    const values = await logProbs.read();
    if (values.some(Number.isNaN)) throw notFinite("decode", "logits", options);
    const { beam, isEnd } = options;
    const times = { secondsPerFrame: secondsPerFrame(sizes) };
    return frames.map((n, b) => {
      const own = values.subarray(b * T * V, (b * T + n) * V);
      return beam || languageModel
        ? decodeBeam(own, vocabulary, { ...times, beamWidth: beam, languageModel, isEnd })
        : decodeGreedy(own, vocabulary, times);
    });
  }

  async #embeddings(
    { hidden, frames }: EncodedSpeech,
    { embeddings }: InferenceOptions,
  ): Promise<SpeechEmbedding[] | undefined> {
    const { speech: sizes } = this.#layers.config;
    if (!embeddings || !sizes) return undefined;
    const [, T, size] = hidden.shape;
    const f32 = hidden.dtype === "f32" ? undefined : scope(hidden.device, () => cast(hidden, "f32"));
    const values = await (f32 ?? hidden).read();
    f32?.release();
    const place = { size, start: 0, secondsPerFrame: secondsPerFrame(sizes) };
    return frames.map((n, b) => {
      const own = values.subarray(b * T * size, (b * T + n) * size);
      return embeddings === "frame"
        ? { ...place, values: own.slice(), frames: n }
        : { ...place, values: meanOfRows(own, size), frames: 1 };
    });
  }

  /** The transcripts as input of BERT; undefined where the system reads no words. */
  async #read(transcripts: readonly Transcript[]): Promise<BertInput | undefined> {
    const { tokenizer } = this.#codecs;
    const { maxTokens } = this.#layers.config;
    if (!tokenizer || maxTokens === undefined) return undefined;
    return await tokenizeWords(
      tokenizer,
      transcripts.map(({ text }) => text),
      maxTokens,
    );
  }

  /** Frames and words → probabilities (B, classes), means of the gates over time (B, d), and the loss of the emotion. */
  #classify(
    speech: EncodedSpeech | undefined,
    words: BertInput | undefined,
    { observe, activations, losses }: InferenceOptions,
    transcripts?: readonly Transcript[],
  ): Partial<Record<"probabilities" | "acoustic" | "text" | "emotion", Tensor>> {
    const layers = this.#layers;
    if (!layers.classify) return {};
    const mode = { observe, activations };
    const texts = transcripts?.map(({ ids }) => ids);
    const spelling =
      speech && texts && layers.readsSpelling ? layers.spell?.(speech, texts, mode) : undefined;
    const { logits, gates } = layers.classify(speech, words, mode, spelling);
    return layers.device.at({ part: "answer" }, () => {
      const probabilities = softmax(logits);
      observe?.("probabilities", probabilities);
      return {
        probabilities,
        acoustic: gates && meanOverTime(gates.s, speech?.mask),
        text: gates && meanOverTime(gates.t, words?.mask && maskTensor(layers.device, words.mask)),
        emotion: losses?.emotion(logits),
      };
    });
  }

  #named(row: Float32Array): Record<string, number> {
    const { labels = [] } = this.#layers.config;
    return Object.fromEntries(labels.map((label, i) => [label, row[i]]));
  }
}

const notFinite = (verb: string, what: string, { activations }: InferenceOptions): Error =>
  new Error(
    `Cannot ${verb}: the model's ${what} are not finite${activations === "f16" ? "; f16 activations end at 65504, use f32" : ""}`,
  );

/** (B, T, d) → (B, d), f32. A pooled gate has T = 1 and no padding. */
function meanOverTime(gate: Tensor, mask: Tensor | undefined): Tensor {
  const [B, T, d] = gate.shape;
  const mean =
    T === 1
      ? reshape(gate, [B, d])
      : maskedMean(gate, mask ?? maskTensor(gate.device, Array(B).fill(Array(T).fill(1))));
  return cast(mean, "f32");
}

/** (N, size) → (size), summed in float64. */
function meanOfRows(rows: Float32Array, size: number): Float32Array {
  const sums = new Float64Array(size);
  for (let i = 0; i < rows.length; i++) sums[i % size] += rows[i];
  return Float32Array.from(sums, (sum) => (sum * size) / rows.length);
}

/** A mask (B, T). */
const maskTensor = (device: Device, rows: readonly (readonly number[])[]) =>
  Tensor.from(device, Uint32Array.from(rows.flat()), [rows.length, rows[0].length]);

/** The rows of (B, n). */
const rowsOf = (values: Float32Array, B: number): Float32Array[] =>
  Array.from({ length: B }, (_, b) =>
    values.subarray((b * values.length) / B, ((b + 1) * values.length) / B),
  );

const mean = (values: Float32Array): number => values.reduce((a, v) => a + v, 0) / values.length;

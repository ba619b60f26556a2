/** Recognises words and emotion in recordings with a model folder: normalises them, plans batches and runs Inference. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { isSilent, normalize, requireFinite, SAMPLE_RATE } from "../../io/samples.ts";
import type { Transcript } from "../../io/decode.ts";
import type { LanguageModel } from "../../io/language_model.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import { activationsOf, type Mode } from "../../nn/mode.ts";
import { Weights } from "../../nn/weights.ts";
import { batchBytes, bindableBytes, largestBytes, mayPad, planBatches } from "../../models/batches.ts";
import type { HubertConfig } from "../../models/config.ts";
import { EmotionRecognizer } from "./emotion.ts";
import { type SpeechModel, type ModelFolder, openModelFolder } from "./folder.ts";
import { requireOwnWords, requireSpeechEncoder } from "./folder.ts";
import { checkLength, HubertForCTC } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import type { SequenceClassificationConfig } from "../../models/sequence_classification.ts";
import { Inference, padSpeech, type SpeechEmbedding, type SystemLayers } from "./inference.ts";
import { tokenizeWords } from "./words.ts";

/** What was recognised in a recording. */
export interface Recognition {
  /** Length of the recording. */
  readonly seconds: number;
  /** Present where the recording is silent: then nothing else is, unless `skipSilence` is false. */
  readonly silent?: true;
  /** Absent where the model recognises no words. */
  readonly transcript?: Transcript;
  /** The likeliest label; absent where the model recognises no emotion. */
  readonly emotion?: string;
  /** Probability of every label. */
  readonly probabilities?: Readonly<Record<string, number>>;
  /** Means of the gates over real frames and subwords, the weight of the own modality against the other: 0 to 1 if bounded. */
  readonly gates?: { readonly acoustic: number; readonly text: number };
  /** Where asked for. */
  readonly embedding?: SpeechEmbedding;
}

/** Options of openRecognizer(). */
export interface RecognizerOptions {
  /**
   * Storage of the weights. f16 halves the bytes of most, and needs the adapter's shader-f16; where that has subgroup matrices,
   * products round activations to f16 too. Default f32.
   */
  readonly dtype?: "f32" | "f16";
  /**
   * What layers hand on to each other, see Mode. f16 halves the memory of a recording, and needs the adapter's shader-f16; where
   * a value goes beyond 65504, recognising throws. Default f32.
   */
  readonly activations?: "f32" | "f16";
  /** A model whose CTC head writes the words, where the first writes none: its folder, or open. */
  readonly words?: string | ModelFolder;
  /** Told how many bytes of the weights are loaded. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Options of Recognizer.recognize(). */
export interface RecognizeOptions {
  /** Width of the prefix beam search, or of a decoder's beam. Left out: greedy decoding; with a language model 32. */
  readonly beam?: number;
  /** False: the language model of the model folder is not weighed in. Default true. */
  readonly languageModel?: boolean;
  /** False: speech follows, and the language model takes neither the last word nor the sentence for whole. Default true. */
  readonly isEnd?: boolean;
  /** The true words of each recording, to be read in place of those that are recognised; needed where none are. */
  readonly words?: readonly string[];
  /** Most recordings in a batch. Default 8. */
  readonly batch?: number;
  /** Told of every intermediate tensor of every batch, see Mode, and of `input_values` and `probabilities`. */
  readonly observe?: Mode["observe"];
  /** What the speech encoder makes of each recording: of every frame, or the mean over them. Left out: not read. */
  readonly embeddings?: "frame" | "utterance";
  /** False: silent recordings go through the model as well. Default true. */
  readonly skipSilence?: boolean;
  /** Told how many recordings are finished. */
  readonly onProgress?: (done: number) => void;
}

/**
 * Loads a model folder, given by its path or open, and with `words` a second one; closes their weights. Throws one line that names
 * what is missing or wrong.
 */
export async function openRecognizer(
  host: Host,
  device: Device,
  folder: string | ModelFolder,
  { words, ...options }: RecognizerOptions = {},
): Promise<Recognizer> {
  const model = await opened(host, folder);
  if (words === undefined) return await load(host, device, model, options);
  let [other, writer]: [ModelFolder?, Recognizer?] = [];
  try {
    other = await opened(host, words);
    writer = await load(host, device, joinedWords(model, other), options);
    return await load(host, device, model, options, writer);
  } catch (error) {
    writer?.dispose();
    throw error;
  } finally {
    await model.weights.close();
    await other?.weights.close();
  }
}

const opened = async (host: Host, folder: string | ModelFolder): Promise<ModelFolder> =>
  typeof folder === "string" ? await openModelFolder(host, folder) : folder;

/** Builds and fills the layers of an open folder; closes its weights. */
async function load(
  host: Host,
  device: Device,
  model: ModelFolder,
  { dtype, activations, onProgress }: RecognizerOptions,
  words?: Recognizer,
): Promise<Recognizer> {
  let weights: Weights | undefined;
  try {
    requireSpeechEncoder(model);
    activationsOf(device, { activations });
    const languageModel = await languageModelFor(host, model);
    weights = new Weights(device, { file: model.weights, path: model.path, spellings, mayIgnore, dtype });
    const layers = await layersOf(weights, model);
    const recognizer = new Recognizer(weights, model, layers, { activations, words, languageModel });
    // Side by side; and where one fails the other still uses the device.
    const [filled, compiled] = await Promise.allSettled([
      weights.initialize(onProgress),
      recognizer.precompile(),
    ]);
    if (filled.status === "rejected") throw filled.reason;
    if (compiled.status === "rejected") throw compiled.reason;
    return recognizer;
  } catch (error) {
    weights?.dispose();
    throw error;
  } finally {
    await model.weights.close();
  }
}

async function languageModelFor(host: Host, model: ModelFolder): Promise<LanguageModel | undefined> {
  const { path, languageModel: files, vocabulary } = model;
  if (!files || !vocabulary) return undefined;
  const { readLanguageModel } = await import("../../io/language_model.ts");
  try {
    const read = await readLanguageModel(host, files);
    read.scorer(vocabulary); // whether they fit
    return read;
  } catch (cause) {
    const own = files.path.startsWith(`${path}/language_model/`);
    const way = own ? "; predict and evaluate --lm none decode without it" : "";
    throw new Error(`${(cause as Error).message}${way}`, { cause });
  }
}

/** A recording whose kernels are compiled early: others need few more, as products choose their tiles by the number of rows. */
const USUAL_SECONDS = 4;
const USUAL_TOKENS = 16;

/** What a Recognizer may have besides a model. */
interface RecognizerParts {
  readonly activations?: RecognizerOptions["activations"];
  readonly words?: Recognizer;
  readonly languageModel?: LanguageModel;
}

/** A model folder on a device. */
export class Recognizer {
  /** The model folder, whose `weights` are closed. */
  readonly model: SpeechModel;
  /** Where the model runs. */
  readonly device: Device;
  readonly #weights: Weights;
  readonly #inference: Inference;
  readonly #activations: RecognizerOptions["activations"];
  readonly #words: Recognizer | undefined;

  /** For openRecognizer(). `words` writes the words; it goes with this. */
  constructor(
    weights: Weights,
    model: SpeechModel,
    layers: SystemLayers,
    { activations, words, languageModel }: RecognizerParts = {},
  ) {
    this.model = model;
    this.#words = words;
    this.#activations = activations;
    this.device = weights.device;
    this.#weights = weights;
    this.#inference = new Inference(layers, { ...model, languageModel });
  }

  /** Compiles what a recording of a few seconds needs; openRecognizer() does so while it reads the weights. */
  async precompile(): Promise<void> {
    await this.#inference.precompile(USUAL_SECONDS * SAMPLE_RATE, USUAL_TOKENS, {
      activations: this.#activations,
    });
  }

  /** The characters of the words; undefined where none are recognised. */
  get vocabulary(): CtcVocabulary | undefined {
    return this.#words?.vocabulary ?? this.model.vocabulary;
  }

  /** Seconds of the longest recording whose tensors the adapter can bind. */
  get longest(): number {
    // Measured on an hour, of which the frames lost at the end are a negligible part.
    const perSecond = largestBytes(this.model.speech, 3600 * SAMPLE_RATE) / 3600;
    const own = Math.floor((10 * bindableBytes(this.device)) / perSecond) / 10;
    return Math.min(own, this.#words?.longest ?? own);
  }

  /**
   * Recognises recordings, each mono at 16 kHz and not normalised; the results are in the same order. Throws a RangeError
   * that names the first recording that is too short, too long or not finite, and an Error where words that the model reads are
   * neither recognised nor given.
   */
  async recognize(audios: readonly Float32Array[], options: RecognizeOptions = {}): Promise<Recognition[]> {
    if (!this.#words) return await this.#recognize(audios, options);
    const quiet = {
      ...options,
      ...{ words: undefined, observe: undefined, onProgress: undefined, embeddings: undefined },
    };
    const written = await this.#words.recognize(audios, quiet);
    const words =
      options.words ??
      (this.model.tokenizer ? written.map(({ transcript }) => transcript?.text ?? "") : undefined);
    const found = await this.#recognize(audios, { ...options, words });
    return found.map((own, i) => {
      const { transcript } = written[i];
      return transcript ? { ...own, transcript } : own;
    });
  }

  async #recognize(
    audios: readonly Float32Array[],
    { words, batch = 8, skipSilence = true, onProgress, ...options }: RecognizeOptions,
  ): Promise<Recognition[]> {
    if (words === undefined) requireOwnWords(this.model);
    else if (words.length !== audios.length)
      throw new RangeError(
        `Cannot recognise: there are words of ${words.length} recordings, expected ${audios.length}`,
      );
    else if (!this.model.tokenizer)
      throw new Error(`Cannot recognise with ${this.model.path}: words are given, but it reads none`);
    for (const [i, audio] of audios.entries()) {
      const what = audios.length > 1 ? `recording ${i}` : undefined;
      this.check(audio.length, what);
      requireFinite(audio, `Cannot use ${what ?? "the recording"}: `);
    }
    const silent = audios.map(isSilent);
    const results: Recognition[] = audios.map(({ length }) => ({
      seconds: length / SAMPLE_RATE,
      silent: true,
    }));
    const chosen = audios.flatMap((_, i) => (silent[i] && skipSilence ? [] : [i]));
    const lengths = chosen.map((i) => audios[i].length);
    let done = audios.length - chosen.length;
    const bytes = batchBytes(this.device);
    for (const planned of planBatches(lengths, this.model.speech, { batch, bytes })) {
      const indices = planned.map((k) => chosen[k]);
      const found = await this.#batch(
        indices.map((i) => audios[i]),
        { ...options, words: words && indices.map((i) => words[i]) },
      );
      for (const [k, i] of indices.entries())
        results[i] = silent[i] ? { ...results[i], ...found[k] } : found[k];
      done += indices.length;
      onProgress?.(done);
    }
    return results;
  }

  /** Throws a RangeError for a recording of so many samples that is too short or too long; `what` names it in the message. */
  check(samples: number, what?: string): void {
    checkLength(this.model.speech, samples, what ?? "a recording");
    const seconds = (samples / SAMPLE_RATE).toFixed(1);
    if (largestBytes(this.model.speech, samples) > bindableBytes(this.device))
      throw new RangeError(
        `Cannot use ${what ? `${what}, ` : ""}${seconds} s at once: ${this.device.info.name} takes at most ${this.longest} s with this model`,
      );
    this.#words?.check(samples, what);
  }

  async #batch(
    audios: readonly Float32Array[],
    { words, ...options }: Omit<RecognizeOptions, "batch" | "skipSilence" | "onProgress">,
  ): Promise<Recognition[]> {
    const speech = padSpeech(audios.map((audio) => (this.model.normalize ? normalize(audio) : audio)));
    const padded = speech.lengths.some((n) => n < speech.samples);
    if (padded && !mayPad(this.model.speech))
      throw new Error(
        "Cannot use recordings of several lengths at once: this model's group norm sees padding",
      );
    const { tokenizer, emotion } = this.model;
    const given = words && tokenizer && (await tokenizeWords(tokenizer, words, emotion?.maxTokens ?? 512));
    const found = await this.#inference.run(
      { speech: padded ? speech : { ...speech, lengths: undefined }, words: given },
      { ...options, activations: this.#activations },
    );
    const { transcripts, probabilities, gates } = found;
    return audios.map((audio, b) => ({
      seconds: audio.length / SAMPLE_RATE,
      ...(transcripts ? { transcript: transcripts[b] } : {}),
      ...(probabilities ? { emotion: likeliest(probabilities[b]), probabilities: probabilities[b] } : {}),
      ...(gates ? { gates: gates[b] } : {}),
      ...(found.embeddings ? { embedding: found.embeddings[b] } : {}),
    }));
  }

  /** Frees the weights. */
  dispose(): void {
    this.#weights.dispose();
    this.#words?.dispose();
  }

  /** As dispose(). */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * The speech encoder and the CTC head of `words`, to write the words for `model`. Throws where `model` writes words itself, and
 * where `words` writes none.
 */
export function joinedWords(model: ModelFolder, words: ModelFolder): ModelFolder {
  const cannot = `Cannot take the words of ${words.path} for ${model.path}`;
  if (model.vocabulary) throw new Error(`${cannot}: that writes words itself`);
  if (!words.vocabulary || !words.hubert) throw new Error(`${cannot}: it has no CTC head, and writes none`);
  return { ...words, emotion: undefined, classifier: undefined, tokenizer: undefined };
}

/** The layers of a model, whose code is loaded with the first that needs it: most need neither LSTMs nor a published classifier's. */
async function layersOf(
  weights: Weights,
  { hubert, emotion, classifier }: SpeechModel,
): Promise<SystemLayers> {
  if (emotion?.lstm) {
    const { LstmEmotionRecognizer } = await import("./lstm.ts");
    return new LstmEmotionRecognizer(weights.root, emotion);
  }
  if (emotion) return new EmotionRecognizer(weights.root, emotion);
  if (!hubert) throw new TypeError("Cannot build a published model: it has no config of HuBERT");
  return classifier ? await classifierLayers(weights, hubert, classifier) : ctcLayers(weights, hubert);
}

/** A plain CTC model as a system without an emotion. */
function ctcLayers({ device, root }: Weights, hubert: HubertConfig): SystemLayers {
  const ctc = new HubertForCTC(root, hubert);
  return {
    ...{ device, config: { speech: hubert } },
    encodeSpeech(input, mode) {
      const { logits, ...speech } = ctc.forward(input, mode);
      return { ...speech, ctcLogits: logits };
    },
  };
}

/** A published classifier as a system that recognises no words. */
async function classifierLayers(
  { device, root }: Weights,
  hubert: HubertConfig,
  config: SequenceClassificationConfig,
): Promise<SystemLayers> {
  const { HubertForSequenceClassification } = await import("../../models/sequence_classification.ts");
  const model = new HubertForSequenceClassification(root, hubert, config);
  return {
    ...{ device, config: { speech: hubert, labels: config.labels } },
    encodeSpeech: (input, mode) => model.encode(input, mode),
    classify(speech, _words, mode) {
      if (!speech?.pooled) throw new Error("Cannot classify: no speech was given");
      const { pooled } = speech;
      const logits = device.at({ part: "classifier" }, () => model.classify(pooled));
      mode?.observe?.("logits", logits);
      return { logits };
    },
  };
}

/** The label of greatest probability, the first of equal ones. */
const likeliest = (p: Readonly<Record<string, number>>): string =>
  Object.keys(p).reduce((best, label) => (p[label] > p[best] ? label : best));

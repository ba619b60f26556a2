/**
 * Recordings in; words and an emotion out. One object for a whole model folder: it normalises, plans batches and gives
 * them to Inference.
 */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { isSilent, normalize, requireFinite, SAMPLE_RATE } from "../../io/audio.ts";
import type { Transcript } from "../../io/decode.ts";
import type { Mode } from "../../nn/mode.ts";
import { Weights } from "../../nn/weights.ts";
import { batchBytes, bindableBytes, largestBytes, mayPad, planBatches } from "../../models/batches.ts";
import type { HubertConfig } from "../../models/config.ts";
import { EmotionRecognizer } from "./emotion.ts";
import { type SpeechModel, type ModelFolder, openModelFolder, requireSpeechEncoder } from "./folder.ts";
import { checkLength, HubertForCTC } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import { Inference, padSpeech, type SystemLayers } from "./inference.ts";

export interface Recognition {
  readonly seconds: number;
  /** Present where nothing can be heard: then there are no words, no emotion and no gates, unless `skipSilence` is false. */
  readonly silent?: true;
  /** Where the model writes words. */
  readonly transcript?: Transcript;
  /** Where the model names an emotion: its label and the probability of every label. */
  readonly emotion?: string;
  readonly probabilities?: Readonly<Record<string, number>>;
  /** Mean of the gate over real frames, and over subwords: how much counts what is the modality's own. */
  readonly gates?: { readonly acoustic: number; readonly text: number };
}

export interface RecognizerOptions {
  /** f16 halves the bytes of most weights; needs the adapter's shader-f16. */
  readonly dtype?: "f32" | "f16";
  readonly onProgress?: (done: number, total: number) => void;
}

export interface RecognizeOptions {
  /** Width of the prefix beam search; greedy where left out. */
  readonly beam?: number;
  /** Most recordings in a batch. 8 by default. */
  readonly batch?: number;
  /** Shown every stage of every batch, as Mode.observe is, and `input_values` and `probabilities` besides. */
  readonly observe?: Mode["observe"];
  /** False: silent recordings go through the model as well, and its answer stands beside `silent`. True by default. */
  readonly skipSilence?: boolean;
  readonly onProgress?: (done: number) => void;
}

/**
 * Loads a model folder, given by its path or already opened, and closes its weights. Throws one line that names what is
 * missing or wrong.
 */
export async function openRecognizer(
  host: Host,
  device: Device,
  folder: string | ModelFolder,
  { dtype, onProgress }: RecognizerOptions = {},
): Promise<Recognizer> {
  const model = typeof folder === "string" ? await openModelFolder(host, folder) : folder;
  let weights: Weights | undefined;
  try {
    requireSpeechEncoder(model);
    weights = new Weights(device, { file: model.weights, path: model.path, spellings, mayIgnore, dtype });
    const recognizer = new Recognizer(weights, model);
    await weights.initialize(onProgress);
    return recognizer;
  } catch (error) {
    weights?.dispose();
    throw error;
  } finally {
    await model.weights.close();
  }
}

export class Recognizer {
  readonly model: SpeechModel;
  readonly device: Device;
  readonly #weights: Weights;
  readonly #inference: Inference;

  /** Builds the layers; the caller loads the weights. */
  constructor(weights: Weights, model: SpeechModel) {
    this.model = model;
    this.device = weights.device;
    this.#weights = weights;
    const layers = model.emotion
      ? new EmotionRecognizer(weights.root, model.emotion)
      : ctcLayers(weights, model.hubert);
    this.#inference = new Inference(layers, model);
  }

  /** Seconds of the longest recording whose tensors this adapter binds. */
  get longest(): number {
    // Over an hour, so that the frames lost at the end do not count.
    const perSecond = largestBytes(this.model.hubert, 3600 * SAMPLE_RATE) / 3600;
    return Math.floor((10 * bindableBytes(this.device)) / perSecond) / 10;
  }

  /**
   * Recognises recordings: mono, 16 kHz, not yet normalised. Results stand in the order of `audios`. Throws a RangeError
   * that names the first recording that is too short, too long or not finite.
   */
  async recognize(
    audios: readonly Float32Array[],
    { beam, batch = 8, observe, skipSilence = true, onProgress }: RecognizeOptions = {},
  ): Promise<Recognition[]> {
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
    const heard = audios.flatMap((_, i) => (silent[i] && skipSilence ? [] : [i]));
    const lengths = heard.map((i) => audios[i].length);
    let done = audios.length - heard.length;
    const bytes = batchBytes(this.device);
    for (const places of planBatches(lengths, this.model.hubert, { batch, bytes })) {
      const indices = places.map((place) => heard[place]);
      const found = await this.#batch(
        indices.map((i) => audios[i]),
        { beam, observe },
      );
      for (const [k, i] of indices.entries())
        results[i] = silent[i] ? { ...results[i], ...found[k] } : found[k];
      done += indices.length;
      onProgress?.(done);
    }
    return results;
  }

  /** Throws a RangeError if so many samples make no frame, or are more than the adapter takes at once; `what` names them. */
  check(samples: number, what?: string): void {
    checkLength(this.model.hubert, samples, what ?? "a recording");
    const seconds = (samples / SAMPLE_RATE).toFixed(1);
    if (largestBytes(this.model.hubert, samples) > bindableBytes(this.device))
      throw new RangeError(
        `Cannot use ${what ? `${what}, ` : ""}${seconds} s at once: ${this.device.info.name} takes at most ${this.longest} s with this model`,
      );
  }

  async #batch(
    audios: readonly Float32Array[],
    { beam, observe }: Pick<RecognizeOptions, "beam" | "observe">,
  ): Promise<Recognition[]> {
    const speech = padSpeech(audios.map((audio) => (this.model.normalize ? normalize(audio) : audio)));
    const padded = speech.lengths.some((n) => n < speech.samples);
    if (padded && !mayPad(this.model.hubert))
      throw new Error(
        "Cannot use recordings of several lengths at once: this model's group norm sees padding",
      );
    const { transcripts, probabilities, gates } = await this.#inference.run(
      { speech: padded ? speech : { ...speech, lengths: undefined } },
      { beam, observe },
    );
    return audios.map((audio, b) => ({
      seconds: audio.length / SAMPLE_RATE,
      ...(transcripts ? { transcript: transcripts[b] } : {}),
      ...(probabilities ? { emotion: likeliest(probabilities[b]), probabilities: probabilities[b] } : {}),
      ...(gates ? { gates: gates[b] } : {}),
    }));
  }

  dispose(): void {
    this.#weights.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A plain CTC model as a system that names no emotion. */
function ctcLayers({ device, root }: Weights, hubert: HubertConfig): SystemLayers {
  const ctc = new HubertForCTC(root, hubert);
  return {
    ...{ device, config: { hubert } },
    encodeSpeech(input, mode) {
      const { logits, ...speech } = ctc.forward(input, mode);
      return { ...speech, ctcLogits: logits };
    },
  };
}

/** The likeliest label, the first where several are. */
const likeliest = (p: Readonly<Record<string, number>>): string =>
  Object.keys(p).reduce((best, label) => (p[label] > p[best] ? label : best));

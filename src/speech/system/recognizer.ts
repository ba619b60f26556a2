/**
 * Recordings in; words and an emotion out. One object for a whole model folder: it normalises, pads, encodes, decodes, reads
 * the words back in and classifies.
 */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { isSilent, normalize, requireFinite, SAMPLE_RATE } from "../../io/audio.ts";
import { decodeBeam, decodeGreedy, type Transcript } from "../../io/decode.ts";
import type { Mode } from "../../nn/mode.ts";
import { Weights } from "../../nn/weights.ts";
import { reshape } from "../../ops/elementwise.ts";
import { maskedMean } from "../../ops/reduce.ts";
import { logSoftmax, softmax } from "../../ops/softmax.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { batchBytes, bindableBytes, largestBytes, mayPad, planBatches } from "../../models/batches.ts";
import type { BertInput } from "../../models/bert.ts";
import { EmotionRecognizer, type EncodedSpeech } from "./emotion.ts";
import { type SpeechModel, type ModelFolder, openModelFolder, requireSpeechEncoder } from "./folder.ts";
import { checkLength, HubertForCTC, type HubertInput } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import { readWords } from "./words.ts";

export interface Recognition {
  readonly seconds: number;
  /** Present where nothing can be heard: then there are no words, no emotion and no gates. */
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
  readonly #encode: (input: HubertInput, mode: Mode) => EncodedSpeech;
  readonly #classify: EmotionRecognizer["classify"] | undefined;

  /** Builds the layers; the caller loads the weights. */
  constructor(weights: Weights, model: SpeechModel) {
    this.model = model;
    this.device = weights.device;
    this.#weights = weights;
    if (model.emotion) {
      const system = new EmotionRecognizer(weights.root, model.emotion);
      this.#encode = (input, mode) => system.encodeSpeech(input, mode);
      this.#classify = (speech, words, mode) => system.classify(speech, words, mode);
    } else {
      const ctc = new HubertForCTC(weights.root, model.hubert);
      this.#encode = (input, mode) => {
        const { logits, ...speech } = ctc.forward(input, mode);
        return { ...speech, ctcLogits: logits };
      };
    }
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
    { beam, batch = 8, observe, onProgress }: RecognizeOptions = {},
  ): Promise<Recognition[]> {
    for (const [i, audio] of audios.entries()) {
      const what = audios.length > 1 ? `recording ${i}` : undefined;
      this.check(audio.length, what);
      requireFinite(audio, `Cannot use ${what ?? "the recording"}: `);
    }
    const results: Recognition[] = audios.map(({ length }) => ({
      seconds: length / SAMPLE_RATE,
      silent: true,
    }));
    const loud = audios.flatMap((audio, i) => (isSilent(audio) ? [] : [i]));
    const lengths = loud.map((i) => audios[i].length);
    let done = audios.length - loud.length;
    const bytes = batchBytes(this.device);
    for (const places of planBatches(lengths, this.model.hubert, { batch, bytes })) {
      const indices = places.map((place) => loud[place]);
      const own = indices.map((i) => audios[i]);
      const found = await this.#batch(own, beam, { observe });
      for (const [k, i] of indices.entries()) results[i] = found[k];
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
    beam: number | undefined,
    mode: Mode,
  ): Promise<Recognition[]> {
    const { device } = this;
    const speech = scope(device, () => {
      const input = this.#pad(audios);
      mode.observe?.("input_values", input.audio);
      const { hidden, mask, frames, ctcLogits } = this.#encode(input, mode);
      return { hidden, mask, frames, logProbs: ctcLogits && logSoftmax(ctcLogits) };
    });
    try {
      const transcripts = await this.#decode(speech.logProbs, speech.frames, beam);
      const words = transcripts && (await this.#words(transcripts));
      const classified = scope(device, () => this.#emotions(speech, words, mode));
      const [probabilities, gateS, gateT] = await Promise.all(
        [classified?.probabilities, classified?.gateS, classified?.gateT].map(take),
      );
      const labels = this.model.emotion?.labels ?? [];
      return audios.map((audio, b) => ({
        seconds: audio.length / SAMPLE_RATE,
        ...(transcripts ? { transcript: transcripts[b] } : {}),
        ...(probabilities ? named(labels, row(probabilities, b, audios.length)) : {}),
        ...(gateS && gateT
          ? {
              gates: {
                acoustic: mean(row(gateS, b, audios.length)),
                text: mean(row(gateT, b, audios.length)),
              },
            }
          : {}),
      }));
    } finally {
      for (const t of [speech.hidden, speech.mask, speech.logProbs]) t?.release();
    }
  }

  #pad(audios: readonly Float32Array[]): HubertInput {
    const lengths = audios.map((a) => a.length);
    const longest = Math.max(...lengths);
    const all = new Float32Array(audios.length * longest);
    audios.forEach((audio, b) => {
      all.set(this.model.normalize ? normalize(audio) : audio, b * longest);
    });
    const padded = lengths.some((n) => n < longest);
    if (padded && !mayPad(this.model.hubert))
      throw new Error(
        "Cannot use recordings of several lengths at once: this model's group norm sees padding",
      );
    return {
      audio: Tensor.from(this.device, all, [audios.length, longest]),
      lengths: padded ? lengths : undefined,
    };
  }

  async #decode(
    logProbs: Tensor | undefined,
    frames: readonly number[],
    beam: number | undefined,
  ): Promise<Transcript[] | undefined> {
    const { vocabulary } = this.model;
    if (!logProbs || !vocabulary) return undefined;
    const [, T, V] = logProbs.shape;
    const values = await logProbs.read();
    if (values.some(Number.isNaN)) throw new Error("Cannot decode: the model's logits are not finite");
    return frames.map((n, b) => {
      const own = values.subarray(b * T * V, (b * T + n) * V);
      return beam ? decodeBeam(own, vocabulary, { beamWidth: beam }) : decodeGreedy(own, vocabulary);
    });
  }

  async #words(transcripts: readonly Transcript[]): Promise<BertInput | undefined> {
    const { tokenizer, emotion } = this.model;
    if (!tokenizer || !emotion?.bert) return undefined;
    const texts = transcripts.map(({ text }) => text);
    return await readWords(tokenizer, texts, emotion.bert.maxPositions);
  }

  /** Frames and words → probabilities (B, classes) and the gates' means over time (B, d). */
  #emotions(speech: EncodedSpeech, words: BertInput | undefined, mode: Mode) {
    if (!this.#classify) return undefined;
    const { logits, gates } = this.#classify(speech, words, mode);
    const over = (gate: Tensor, mask: Tensor | undefined) => {
      const [B, T, d] = gate.shape;
      if (T === 1) return reshape(gate, [B, d]);
      return maskedMean(gate, mask ?? flags(this.device, Array(B).fill(Array(T).fill(1))));
    };
    const probabilities = softmax(logits);
    mode.observe?.("probabilities", probabilities);
    return {
      probabilities,
      gateS: gates && over(gates.s, speech.mask),
      gateT: gates && over(gates.t, words?.mask && flags(this.device, words.mask)),
    };
  }

  dispose(): void {
    this.#weights.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Reads a tensor and lets go of it. */
async function take(tensor: Tensor | undefined): Promise<Float32Array | undefined> {
  if (!tensor) return undefined;
  try {
    return await tensor.read();
  } finally {
    tensor.release();
  }
}

/** A mask (B, T). */
const flags = (device: Device, rows: readonly (readonly number[])[]) =>
  Tensor.from(device, Uint32Array.from(rows.flat()), [rows.length, rows[0].length]);
const row = (values: Float32Array, b: number, B: number) =>
  values.subarray((b * values.length) / B, ((b + 1) * values.length) / B);
const mean = (values: Float32Array) => values.reduce((a, v) => a + v, 0) / values.length;

function named(labels: readonly string[], p: Float32Array) {
  if (!p.every(Number.isFinite)) throw new Error("Cannot classify: the model's probabilities are not finite");
  return {
    emotion: labels[p.indexOf(Math.max(...p))],
    probabilities: Object.fromEntries(labels.map((label, i) => [label, p[i]])),
  };
}

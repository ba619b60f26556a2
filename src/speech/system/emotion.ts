/**
 * The whole system: speech → frames → words → emotion. The systems of the paper's tables are configs of it:
 *
 *   acoustic only            modalities "acoustic", asr false
 *   acoustic shared with ASR modalities "acoustic", asr true
 *   text only                modalities "text"
 *   acoustic + text          modalities "both", with CmgiConfig's interaction and gate
 *
 * Those with LSTMs are configs of LstmEmotionRecognizer, see lstm.ts; nothing here loads that, which few models need. The functions
 * for any of them are in emotion_system.ts.
 *
 * The words are decoded between its two synchronous halves, encodeSpeech() and classify(): see inference.ts.
 */
import * as v from "valibot";
import type { Device } from "../../gpu/device.ts";
import { anyObject, finite, mismatch, object, parse, text } from "../../io/schema.ts";
import { Linear } from "../../nn/linear.ts";
import type { Mode } from "../../nn/mode.ts";
import type { WeightScope } from "../../nn/weights.ts";
import { dropout } from "../../ops/dropout.ts";
import { maskedMean } from "../../ops/reduce.ts";
import { Tensor } from "../../tensor/tensor.ts";
import type { Transcript } from "../../io/decode.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import type { EncoderSizes } from "../../models/batches.ts";
import { type BertInput, BertModel } from "../../models/bert.ts";
import type { SpellOptions, Spelling } from "../../models/las.ts";
import { CmGI, type CmgiConfig, cmgiConfig, type CmgiOutput } from "./cmgi.ts";
import { type BertConfig, bertConfig, type HubertConfig, hubertConfig } from "../../models/config.ts";
import { type HubertInput, HubertModel, type HubertOutput } from "../../models/hubert.ts";
import { LABELS } from "./labels.ts";
import type { LstmSystemConfig, lstmSystemConfig } from "./lstm_config.ts";

/** Config of a system, from config.json of its model folder. */
export interface EmotionConfig {
  /** What the emotion is recognised from. */
  readonly modalities: "acoustic" | "text" | "both";
  /** Whether there is a CTC head on the frames, from which the words are decoded. */
  readonly asr: boolean;
  /** Names of the emotions, in the order of the logits. */
  readonly labels: readonly string[];
  /** α in L = α·L_CTC + (1 − α)·L_E. */
  readonly alpha: number;
  /** The speech encoder; absent for a system that reads texts only. */
  readonly hubert?: HubertConfig;
  /** The text encoder; absent where modalities is "acoustic". */
  readonly bert?: BertConfig;
  /** The fusion head; present where modalities is "both", unless there is `lstm`. */
  readonly cmgi?: CmgiConfig;
  /** A system of LSTMs, which has none of the three above. */
  readonly lstm?: LstmSystemConfig;
  /** Frames of the speech encoder, whichever it is; absent for a system that reads texts only. */
  readonly speech?: EncoderSizes;
  /** Blank of the CTC head. */
  readonly blank?: number;
  /** Most tokens of a text that is read; absent where none is. */
  readonly maxTokens?: number;
}

const NAMES = "a list of names";
const names = v.pipe(
  v.array(text("a name", /./s), NAMES),
  v.minLength(1, NAMES),
  v.check((all) => new Set(all).size === all.length, `${NAMES}, none of them twice`),
);

const schema = object({
  modalities: v.nullish(v.picklist(["acoustic", "text", "both"]), "both"),
  asr: v.nullish(v.boolean()),
  labels: v.nullish(names, [...LABELS]),
  alpha: v.nullish(finite, 0.1),
  hubert: v.nullish(anyObject),
  bert: v.nullish(anyObject),
  cmgi: v.nullish(anyObject),
  lstm: v.nullish(anyObject),
});

/** As emotionConfig(). `readLstm` is needed for a system of LSTMs. */
export function readEmotionConfig(
  json: unknown,
  source: string,
  readLstm?: typeof lstmSystemConfig,
): EmotionConfig {
  const c = parse(schema, json, source);
  const part = <T>(
    key: "hubert" | "bert" | "cmgi" | "lstm",
    read: (json: unknown, source: string) => T,
  ): T => {
    const own = c[key];
    if (!own) throw mismatch(source, key, own, "an object");
    return read(own, `${source} (${key})`);
  };
  const { modalities: kind } = c;
  if (c.lstm) {
    if (!readLstm) throw new TypeError("Cannot read the config of a system of LSTMs: no reader was given");
    const lstm = part("lstm", readLstm);
    const { encoder, words, blank } = lstm;
    if ((kind === "both") !== (words !== undefined) || kind === "text")
      throw mismatch(
        source,
        "modalities",
        kind,
        words ? '"both", as lstm.kind' : `"acoustic", as lstm.kind is`,
      );
    if (c.asr === false) throw mismatch(source, "asr", c.asr, "true: systems of LSTMs recognise characters");
    return {
      ...{ modalities: kind, asr: true, labels: c.labels, alpha: c.alpha, lstm },
      ...{ speech: encoder.sizes, blank, maxTokens: words?.maxTokens },
    };
  }
  const hubert = kind !== "text" || c.hubert ? part("hubert", hubertConfig) : undefined;
  const bert = kind !== "acoustic" ? part("bert", bertConfig) : undefined;
  const cmgi = kind === "both" ? part("cmgi", cmgiConfig) : undefined;
  if (cmgi && hubert && cmgi.dS !== hubert.hiddenSize)
    throw mismatch(`${source} (cmgi)`, "d_s", cmgi.dS, `HuBERT's hidden_size, ${hubert.hiddenSize}`);
  if (cmgi && bert && cmgi.dT !== bert.hiddenSize)
    throw mismatch(`${source} (cmgi)`, "d_t", cmgi.dT, `BERT's hidden_size, ${bert.hiddenSize}`);
  return {
    modalities: kind,
    asr: c.asr ?? (kind !== "acoustic" && hubert !== undefined),
    labels: c.labels,
    alpha: c.alpha,
    hubert,
    bert,
    cmgi,
    ...{ speech: hubert, blank: hubert?.blank, maxTokens: bert?.maxPositions },
  };
}

/** Output of EmotionSystem.encodeSpeech(). */
export interface EncodedSpeech extends HubertOutput {
  /** (B, T, V), f32; present where the system has a CTC head. */
  readonly ctcLogits?: Tensor;
  /** (B, hidden), f32: what the classifier of a published model reads, in place of the frames. */
  readonly pooled?: Tensor;
}

/** The layers of a system. */
export interface EmotionSystem {
  /** What it was built from. */
  readonly config: EmotionConfig;
  /** The device of the weights. */
  readonly device: Device;
  /** Speech → frames and, with a CTC head, logits of characters. Throws where the system has no speech encoder. */
  encodeSpeech(input: HubertInput, mode?: Mode): EncodedSpeech;
  /**
   * Frames and words → logits (B, classes). An acoustic system needs no `words`, a text system no `speech`, and `spelling` one that
   * reads its decoder's states. Throws where one that is needed is missing.
   */
  classify(
    speech: EncodedSpeech | undefined,
    words: BertInput | undefined,
    mode?: Mode,
    spelling?: Pick<Spelling, "states" | "mask" | "lengths">,
  ): CmgiOutput;
  /** Whether characters are written by an attention decoder, which the three below are of: they throw where there is none. */
  readonly spells?: boolean;
  /** Whether classify() reads what spell() gives. */
  readonly readsSpelling?: boolean;
  /** What the decoder says of texts, ids of characters, by teacher forcing. */
  spell?(speech: EncodedSpeech, texts: readonly (readonly number[])[], mode?: Mode): Spelling;
  /** Cross entropy of the texts and their ends, the mean over all characters. */
  spellingLoss?(spelling: Spelling, texts: readonly (readonly number[])[], labelSmoothing?: number): Tensor;
  /** The texts that the decoder writes, with the times that its attention weighs most. Frees every tensor that it makes. */
  transcribe?(
    speech: EncodedSpeech,
    vocabulary: CtcVocabulary,
    options?: Pick<SpellOptions, "beam">,
  ): Promise<Transcript[]>;
}

/** HuBERT with a CTC head, BERT and a fusion head or a classifier: the layers of any system, see EmotionConfig. */
export class EmotionRecognizer implements EmotionSystem {
  /** What it was built from. */
  readonly config: EmotionConfig;
  /** The speech encoder. */
  readonly hubert: HubertModel | undefined;
  /** The text encoder. */
  readonly bert: BertModel | undefined;
  /** The fusion head. */
  readonly cmgi: CmGI | undefined;
  readonly #ctcHead: Linear | undefined;
  readonly #classifier: Linear | undefined;
  readonly #weights: WeightScope;

  /** Takes its parameters from `weights`, under the keys of Hugging Face's classes. */
  constructor(weights: WeightScope, config: EmotionConfig) {
    const { hubert, bert, cmgi, labels } = config;
    this.config = config;
    this.#weights = weights;
    this.hubert = hubert && new HubertModel(weights.at(hubert.prefix), hubert);
    this.bert = bert && new BertModel(weights.at("bert"), bert);
    this.cmgi = cmgi && new CmGI(weights.at("cmgi"), cmgi);
    this.#ctcHead =
      hubert && config.asr
        ? new Linear(weights.at("lm_head"), hubert.hiddenSize, hubert.vocabSize)
        : undefined;
    const width = config.modalities === "text" ? bert?.hiddenSize : hubert?.hiddenSize;
    this.#classifier = cmgi ? undefined : new Linear(weights.at("classifier"), width ?? 0, labels.length);
  }

  /** The device of the weights. */
  get device(): Device {
    return this.#weights.device;
  }

  /** Speech → frames and, with a CTC head, logits of characters. Throws where the system has no speech encoder. */
  encodeSpeech(input: HubertInput, mode: Mode = {}): EncodedSpeech {
    if (!this.hubert) throw new Error("Cannot encode speech: this system reads text only");
    const { hubert, device } = this;
    const speech = device.at({ part: "speech encoder" }, () => hubert.forward(input, mode));
    mode.observe?.("acoustic_hidden", speech.hidden);
    const rate = this.hubert.config.dropout.final;
    const ctcLogits = device.at({ part: "CTC head" }, () =>
      this.#ctcHead?.forward(dropout(speech.hidden, rate, mode.training), { dtype: "f32" }),
    );
    if (ctcLogits) mode.observe?.("ctc_logits", ctcLogits);
    return { ...speech, ctcLogits };
  }

  /**
   * Frames and words → logits (B, classes). An acoustic system needs no `words`, a text system no `speech`. Throws where one
   * that is needed is missing.
   */
  classify(speech: EncodedSpeech | undefined, words: BertInput | undefined, mode: Mode = {}): CmgiOutput {
    const acoustic = speech && { x: speech.hidden, mask: speech.mask ?? fullMask(speech.hidden) };
    if (this.config.modalities === "acoustic") return this.#classify(acoustic);
    if (!this.bert || !words)
      throw new Error("Cannot classify: this system reads words, and none were given");
    const { bert, cmgi, device } = this;
    const read = device.at({ part: "BERT" }, () => bert.forward(words, { ...mode, observe: undefined }));
    mode.observe?.("text_hidden", read.hidden);
    const text = { x: read.hidden, mask: read.mask };
    if (!cmgi) return this.#classify(text);
    if (!acoustic) throw new Error("Cannot classify: this system needs speech, and none was given");
    const observe = mode.observe && ((name: string, t: Tensor) => mode.observe?.(`cmgi.${name}`, t));
    return device.at({ part: "CmGI" }, () =>
      cmgi.forward(
        { xS: acoustic.x, xT: text.x, maskS: acoustic.mask, maskT: text.mask },
        { ...mode, observe },
      ),
    );
  }

  #classify(features: { x: Tensor; mask: Tensor } | undefined): CmgiOutput {
    if (!features || !this.#classifier)
      throw new Error("Cannot classify: neither speech nor words were given");
    const classifier = this.#classifier;
    return this.device.at({ part: "classifier" }, () => ({
      logits: classifier.forward(maskedMean(features.x, features.mask), { dtype: "f32" }),
    }));
  }
}

/** (B, T, C) → a mask (B, T) of ones. */
function fullMask(x: Tensor): Tensor {
  const [B, T] = x.shape;
  return Tensor.from(x.device, new Uint32Array(B * T).fill(1), [B, T]);
}

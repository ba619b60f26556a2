/**
 * The whole system: speech → frames → words → emotion. Its options are the rows of the paper's tables.
 *
 *   acoustic only            modalities "acoustic", asr false
 *   acoustic shared with ASR modalities "acoustic", asr true
 *   text only                modalities "text"
 *   acoustic + text          modalities "both", with CmgiConfig's interaction and gate
 *
 * Where words are wanted and not given, they are decoded between two synchronous halves: encodeSpeech(), then classify().
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
import { type BertInput, BertModel } from "../../models/bert.ts";
import { CmGI, type CmgiConfig, cmgiConfig, type CmgiOutput } from "./cmgi.ts";
import { type BertConfig, bertConfig, type HubertConfig, hubertConfig } from "../../models/config.ts";
import { type HubertInput, HubertModel, type HubertOutput } from "../../models/hubert.ts";
import { LABELS } from "./labels.ts";

const modalities = ["acoustic", "text", "both"] as const;

export interface EmotionConfig {
  readonly modalities: (typeof modalities)[number];
  /** A CTC head on the frames. Needed wherever words must come from the speech itself. */
  readonly asr: boolean;
  readonly labels: readonly string[];
  /** α in L = α·L_CTC + (1 − α)·L_E. */
  readonly alpha: number;
  readonly hubert?: HubertConfig;
  readonly bert?: BertConfig;
  readonly cmgi?: CmgiConfig;
}

const NAMES = "a list of names";
const names = v.pipe(
  v.array(text("a name", /./s), NAMES),
  v.minLength(1, NAMES),
  v.check((all) => new Set(all).size === all.length, `${NAMES}, none of them twice`),
);

const schema = object({
  modalities: v.nullish(v.picklist(modalities), "both"),
  asr: v.nullish(v.boolean()),
  labels: v.nullish(names, [...LABELS]),
  alpha: v.nullish(finite, 0.1),
  hubert: v.nullish(anyObject),
  bert: v.nullish(anyObject),
  cmgi: v.nullish(anyObject),
});

/** Reads the config of a system, with its parts' in it; `source` names it in errors. */
export function emotionConfig(json: unknown, source: string): EmotionConfig {
  const c = parse(schema, json, source);
  const part = <T>(key: "hubert" | "bert" | "cmgi", read: (json: unknown, source: string) => T): T => {
    const own = c[key];
    if (!own) throw mismatch(source, key, own, "an object");
    return read(own, `${source} (${key})`);
  };
  const { modalities: kind } = c;
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
  };
}

/** What the speech encoder gives. */
export interface EncodedSpeech extends HubertOutput {
  /** (B, T, V), where the system has a CTC head. */
  readonly ctcLogits?: Tensor;
}

export class EmotionRecognizer {
  readonly config: EmotionConfig;
  readonly hubert: HubertModel | undefined;
  readonly bert: BertModel | undefined;
  readonly cmgi: CmGI | undefined;
  readonly #ctcHead: Linear | undefined;
  readonly #classifier: Linear | undefined;
  readonly #weights: WeightScope;

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

  get device(): Device {
    return this.#weights.device;
  }

  /** Speech → frames and, with a CTC head, character logits. */
  encodeSpeech(input: HubertInput, mode: Mode = {}): EncodedSpeech {
    if (!this.hubert) throw new Error("Cannot encode speech: this system reads text only");
    const speech = this.hubert.forward(input, mode);
    mode.observe?.("acoustic_hidden", speech.hidden);
    const rate = this.hubert.config.dropout.final;
    const ctcLogits = this.#ctcHead?.forward(dropout(speech.hidden, rate, mode.training));
    if (ctcLogits) mode.observe?.("ctc_logits", ctcLogits);
    return { ...speech, ctcLogits };
  }

  /** Frames and words → emotion logits (B, classes). `words` may be left out of an acoustic system, `speech` of a text system. */
  classify(speech: EncodedSpeech | undefined, words: BertInput | undefined, mode: Mode = {}): CmgiOutput {
    const acoustic = speech && { x: speech.hidden, mask: speech.mask ?? everything(speech.hidden) };
    if (this.config.modalities === "acoustic") return this.#classify(acoustic);
    if (!this.bert || !words)
      throw new Error("Cannot classify: this system reads words, and none were given");
    const read = this.bert.forward(words, { ...mode, observe: undefined });
    mode.observe?.("text_hidden", read.hidden);
    const text = { x: read.hidden, mask: read.mask };
    if (!this.cmgi) return this.#classify(text);
    if (!acoustic) throw new Error("Cannot classify: this system needs speech, and none was given");
    const observe = mode.observe && ((name: string, t: Tensor) => mode.observe?.(`cmgi.${name}`, t));
    return this.cmgi.forward(
      { xS: acoustic.x, xT: text.x, maskS: acoustic.mask, maskT: text.mask },
      { ...mode, observe },
    );
  }

  #classify(features: { x: Tensor; mask: Tensor } | undefined): CmgiOutput {
    if (!features || !this.#classifier)
      throw new Error("Cannot classify: neither speech nor words were given");
    return { logits: this.#classifier.forward(maskedMean(features.x, features.mask)) };
  }
}

/** A mask of ones. */
function everything(x: Tensor): Tensor {
  const [B, T] = x.shape;
  return Tensor.from(x.device, new Uint32Array(B * T).fill(1), [B, T]);
}

/**
 * The paper's earlier systems, of LSTMs over log-mel features:
 *
 *   las          the encoder of a listen-attend-spell recogniser (LAS), pooled by attention, gives the emotion too
 *   las-hidden   an LSTM over the states of that recogniser's decoder, pooled by attention, gives it
 *   both         an LSTM over speech and another over words, each pooled by attention, give it together; a CTC recogniser with
 *                an encoder of its own recognises the words
 */
import type { Device } from "../../gpu/device.ts";
import { spelledTranscript, type Transcript } from "../../io/decode.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import type { BertInput } from "../../models/bert.ts";
import { secondsPerFrame, type HubertInput } from "../../models/hubert.ts";
import { ListenAttendSpell, type SpellOptions, type Spelling } from "../../models/las.ts";
import { lengthMask, LstmEncoder } from "../../models/lstm_encoder.ts";
import { AttentionPooling } from "../../nn/attention_pooling.ts";
import { Embedding } from "../../nn/embedding.ts";
import { Linear } from "../../nn/linear.ts";
import { Lstm } from "../../nn/lstm.ts";
import type { Mode } from "../../nn/mode.ts";
import type { WeightScope } from "../../nn/weights.ts";
import { dropout } from "../../ops/dropout.ts";
import { concat } from "../../ops/frames.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { CmgiOutput } from "./cmgi.ts";
import type { EmotionConfig, EmotionSystem, EncodedSpeech } from "./emotion.ts";
import type { LstmSystemConfig, WordEncoderConfig } from "./lstm_config.ts";

/** Most characters of a second of speech that a decoder writes: nobody speaks so fast, and a decoder that does not end stops. */
const CHARACTERS_A_SECOND = 30;

/** Embeddings of subwords, a bidirectional LSTM over them, and a mean by attention. */
class WordEncoder {
  readonly #config: WordEncoderConfig;
  readonly #embedding: Embedding;
  readonly #lstm: Lstm;
  readonly #pooling: AttentionPooling;

  constructor(weights: WeightScope, config: WordEncoderConfig, pooling: "additive" | "dot") {
    const { vocabSize, embeddingSize: E, hiddenSize: H, padTokenId } = config;
    this.#config = config;
    this.#embedding = new Embedding(weights.at("embedding"), vocabSize, E, {
      ...{ paddingIndex: padTokenId, init: { kind: "normal", std: 1 } },
    });
    this.#lstm = new Lstm(weights.at("lstm"), E, H, { bidirectional: true });
    this.#pooling = new AttentionPooling(weights.at("pooling"), 2 * H, { kind: pooling });
  }

  /** Tokens (B, T) → (B, 2·hiddenSize) */
  forward(device: Device, { ids, mask }: BertInput, dropped: number, mode: Mode): Tensor {
    const [B, T] = [ids.length, ids[0].length];
    if (T > this.#config.maxTokens)
      throw new RangeError(`Cannot read ${T} tokens: the system takes at most ${this.#config.maxTokens}`);
    const lengths = ids.map((_, b) => mask?.[b].reduce((a, x) => a + x, 0) ?? T);
    const x = dropout(this.#embedding.forward(ids.flat(), [B, T]), dropped, mode.training);
    const { y } = this.#lstm.forward(x, { lengths });
    return this.#pooling.forward(dropout(y, dropped, mode.training), lengthMask(device, lengths, T)).context;
  }
}

/** The layers of any of these systems. */
export class LstmEmotionRecognizer implements EmotionSystem {
  /** What it was built from. */
  readonly config: EmotionConfig;
  readonly #lstm: LstmSystemConfig;
  readonly #weights: WeightScope;
  /** The recogniser's where there is LAS, else that of the emotion. */
  readonly #encoder: LstmEncoder;
  readonly #las: ListenAttendSpell | undefined;
  readonly #ctc: { encoder: LstmEncoder; head: Linear } | undefined;
  /** Over the states of the decoder. */
  readonly #states: Lstm | undefined;
  readonly #pooling: AttentionPooling;
  readonly #words: WordEncoder | undefined;
  readonly #classifier: Linear;

  /**
   * Parameters under `las`, or `encoder`, `recognizer`, `lm_head` and `words`; and under `lstm`, `pooling` and `classifier`.
   * Throws where the config is that of another system.
   */
  constructor(weights: WeightScope, config: EmotionConfig) {
    const { lstm, labels } = config;
    if (!lstm) throw new TypeError("Cannot make LstmEmotionRecognizer: its config has no lstm");
    const { kind, las, encoder, words, pooling: scores, vocabSize } = lstm;
    this.config = config;
    this.#lstm = lstm;
    this.#weights = weights;
    this.#las = las && new ListenAttendSpell(weights.at("las"), las);
    this.#encoder = this.#las?.encoder ?? new LstmEncoder(weights.at("encoder"), encoder);
    this.#ctc =
      kind === "both"
        ? {
            encoder: new LstmEncoder(weights.at("recognizer"), encoder),
            head: new Linear(weights.at("lm_head"), 2 * encoder.hiddenSize, vocabSize),
          }
        : undefined;
    const { width } = this.#encoder;
    this.#states =
      kind === "las-hidden" && las
        ? new Lstm(weights.at("lstm"), las.decoder.hiddenSize, encoder.hiddenSize, { bidirectional: true })
        : undefined;
    this.#pooling = new AttentionPooling(weights.at("pooling"), width, { kind: scores });
    this.#words = words && new WordEncoder(weights.at("words"), words, scores);
    this.#classifier = new Linear(
      weights.at("classifier"),
      width + (words ? 2 * words.hiddenSize : 0),
      labels.length,
    );
  }

  get device(): Device {
    return this.#weights.device;
  }

  encodeSpeech(input: HubertInput, mode: Mode = {}): EncodedSpeech {
    const { device } = this;
    const speech = device.at({ part: "speech encoder" }, () => this.#encoder.forward(input, mode));
    mode.observe?.("acoustic_hidden", speech.hidden);
    if (!this.#ctc) return speech;
    const { encoder, head } = this.#ctc;
    // Of the recogniser itself an observer is told the logits alone: its stages have the names of those before.
    const heard = device.at({ part: "recogniser" }, () =>
      encoder.forward(input, { ...mode, observe: undefined }),
    );
    const ctcLogits = device.at({ part: "CTC head" }, () => head.forward(heard.hidden, { dtype: "f32" }));
    mode.observe?.("ctc_logits", ctcLogits);
    return { ...speech, ctcLogits };
  }

  /** Whether the recogniser writes characters by attention; else it has ctcLogits. */
  get spells(): boolean {
    return this.#las !== undefined;
  }

  /** Whether classify() reads the states of the decoder. */
  get readsSpelling(): boolean {
    return this.#states !== undefined;
  }

  spell(speech: EncodedSpeech, texts: readonly (readonly number[])[], mode: Mode = {}): Spelling {
    const las = this.#recognizer();
    const { hidden, frames } = speech;
    const mask = speech.mask ?? lengthMask(this.device, frames, hidden.shape[1]);
    const spelling = this.device.at({ part: "decoder" }, () =>
      las.decoder.forward({ hidden, mask, frames }, texts, mode),
    );
    mode.observe?.("spelling_logits", spelling.logits);
    return spelling;
  }

  spellingLoss(spelling: Spelling, texts: readonly (readonly number[])[], labelSmoothing?: number): Tensor {
    return this.#recognizer().decoder.loss(spelling, texts, labelSmoothing);
  }

  async transcribe(
    { hidden, mask, frames }: EncodedSpeech,
    vocabulary: CtcVocabulary,
    { beam }: Pick<SpellOptions, "beam"> = {},
  ): Promise<Transcript[]> {
    if (!mask) throw new Error("Cannot transcribe: the speech has no mask");
    const seconds = secondsPerFrame(this.#lstm.encoder.sizes);
    const maxLengths = frames.map((n) => 1 + Math.ceil(CHARACTERS_A_SECOND * seconds * n));
    const found = await this.#recognizer().decoder.spell({ hidden, mask, frames }, { beam, maxLengths });
    return found.map((sequence) => spelledTranscript(sequence, vocabulary, { secondsPerFrame: seconds }));
  }

  #recognizer(): ListenAttendSpell {
    if (!this.#las) throw new Error("Cannot spell: this system's recogniser is a CTC head");
    return this.#las;
  }

  classify(
    speech: EncodedSpeech | undefined,
    words: BertInput | undefined,
    mode: Mode = {},
    spelling?: Pick<Spelling, "states" | "mask" | "lengths">,
  ): CmgiOutput {
    if (!speech) throw new Error("Cannot classify: this system needs speech, and none was given");
    const { device } = this;
    const { dropout: dropped } = this.#lstm.encoder;
    const heard = this.#heard(speech, mode, spelling);
    if (!this.#words) return this.#answer(heard, mode);
    if (!words) throw new Error("Cannot classify: this system reads words, and none were given");
    const encoder = this.#words;
    const read = device.at({ part: "words" }, () => encoder.forward(device, words, dropped, mode));
    mode.observe?.("pooled_words", read);
    return this.#answer(concat([heard, read]), mode);
  }

  /** Frames, or the states that a decoder wrote the text with → (B, C) */
  #heard(
    { hidden, mask }: EncodedSpeech,
    mode: Mode,
    spelling?: Pick<Spelling, "states" | "mask" | "lengths">,
  ): Tensor {
    let [x, real] = [hidden, mask];
    if (this.#states) {
      if (!spelling)
        throw new Error("Cannot classify: this system reads its decoder's states, and none were given");
      const states = this.#states;
      const { lengths } = spelling;
      const { y } = this.device.at({ part: "LSTM" }, () => states.forward(spelling.states, { lengths }));
      [x, real] = [dropout(y, this.#lstm.encoder.dropout, mode.training), spelling.mask];
    }
    const { context, probabilities } = this.device.at({ part: "pooling" }, () =>
      this.#pooling.forward(x, real),
    );
    mode.observe?.("pooling", probabilities);
    mode.observe?.("pooled", context);
    return context;
  }

  #answer(features: Tensor, mode: Mode): CmgiOutput {
    const logits = this.device.at({ part: "classifier" }, () =>
      this.#classifier.forward(dropout(features, this.#lstm.encoder.dropout, mode.training), {
        dtype: "f32",
      }),
    );
    mode.observe?.("logits", logits);
    return { logits };
  }
}

/**
 * Listen, attend and spell (Chan et al. 2016): a recogniser of characters. LSTMs hear the speech (lstm_encoder.ts); an LSTM with
 * additive attention writes it down, one character after the other. Trained by teacher forcing; read out greedily or by beam.
 */
import * as v from "valibot";
import type { Device } from "../gpu/device.ts";
import { keysOf, object, parse } from "../io/schema.ts";
import { beamSearch, greedySearch, type Sequence, type Step } from "../io/sequence_search.ts";
import { AdditiveAttention } from "../nn/attention_pooling.ts";
import { Embedding } from "../nn/embedding.ts";
import { Linear } from "../nn/linear.ts";
import { Lstm } from "../nn/lstm.ts";
import type { Mode } from "../nn/mode.ts";
import type { WeightScope } from "../nn/weights.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { dropout } from "../ops/dropout.ts";
import { full, reshape } from "../ops/elementwise.ts";
import { embedding } from "../ops/embedding.ts";
import type { LstmState } from "../ops/lstm.ts";
import { concat, slice } from "../ops/frames.ts";
import { logSoftmax } from "../ops/softmax.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { extent } from "./config.ts";
import {
  encoderEntries,
  lengthMask,
  LstmEncoder,
  type LstmEncoderConfig,
  lstmEncoderConfig,
  type LstmEncoderInput,
  type LstmEncoderOutput,
} from "./lstm_encoder.ts";

const decoderEntries = {
  vocab_size: extent(),
  embedding_size: extent(),
  decoder_hidden_size: extent(),
  decoder_layers: v.nullish(extent(), 1),
  attention_size: extent(),
  hidden_dropout: encoderEntries.hidden_dropout,
};
const schema = object(decoderEntries);

/** The keys that lasConfig() reads besides those of the encoder. */
export const LAS_DECODER_KEYS = keysOf(schema);

/** Config of AttentionDecoder. */
export interface AttentionDecoderConfig {
  /** Width of what is attended to. */
  readonly memorySize: number;
  /** vocab_size: characters; the start and the end of a text come behind them. */
  readonly vocabSize: number;
  /** embedding_size. */
  readonly embeddingSize: number;
  /** decoder_hidden_size: units of its LSTM. */
  readonly hiddenSize: number;
  /** decoder_layers. */
  readonly layers: number;
  /** attention_size: hidden width of the attention. */
  readonly attentionSize: number;
  /** hidden_dropout: rate before the output. */
  readonly dropout: number;
}

/** Config of ListenAttendSpell. */
export interface LasConfig {
  /** The listener. */
  readonly encoder: LstmEncoderConfig;
  /** The speller. */
  readonly decoder: AttentionDecoderConfig;
}

/** Reads the config of a recogniser; other keys are ignored. Throws a SyntaxError that names the key; `source` names the file. */
export function lasConfig(json: unknown, source: string): LasConfig {
  const encoder = lstmEncoderConfig(json, source);
  const c = parse(schema, json, source);
  return {
    encoder,
    decoder: {
      ...{ memorySize: 2 * encoder.hiddenSize, vocabSize: c.vocab_size, embeddingSize: c.embedding_size },
      ...{ hiddenSize: c.decoder_hidden_size, layers: c.decoder_layers },
      ...{ attentionSize: c.attention_size, dropout: c.hidden_dropout },
    },
  };
}

/** What a decoder says of texts that it is given. */
export interface Spelling {
  /** (B, L, vocabSize + 2), f32: of the character at each place; L is the longest text and its end. */
  readonly logits: Tensor;
  /** (B, L, H): the states that they come from. */
  readonly states: Tensor;
  /** (B, L) u32, 1 = a character of the text, or its end. */
  readonly mask: Tensor;
  /** Characters of each text, and its end. */
  readonly lengths: readonly number[];
}

/** A decoder's state after some characters of N texts. */
interface DecoderState {
  /** Of each layer (1, N, H); undefined before the first character. */
  readonly states: readonly LstmState[] | undefined;
  /** (N, M) */
  readonly context: Tensor;
}

/** How texts are read out of a decoder. */
export interface SpellOptions {
  /** Width of the beam; greedy where left out. */
  readonly beam?: number;
  /** See BeamSearchOptions; 1 by default, since without it a beam prefers texts that end early. */
  readonly lengthPenalty?: number;
  /** Most characters of each text, its end included. */
  readonly maxLengths: readonly number[];
}

/** sᵢ = LSTM(sᵢ₋₁, yᵢ₋₁, cᵢ₋₁), cᵢ = attention(sᵢ, memory), p(yᵢ) = softmax(W·concat(sᵢ, cᵢ) + b). c₀ and s₀ are 0. */
export class AttentionDecoder {
  /** What it was built from. */
  readonly config: AttentionDecoderConfig;
  /** Id of the token before the first. */
  readonly start: number;
  /** Id of the token that ends a text. */
  readonly end: number;
  readonly #embedding: Embedding;
  readonly #lstm: Lstm;
  readonly #attention: AdditiveAttention;
  readonly #output: Linear;

  /** Parameters under `embedding`, `lstm`, `attention` and `output`. */
  constructor(weights: WeightScope, config: AttentionDecoderConfig) {
    const { memorySize: M, vocabSize, embeddingSize: E, hiddenSize: H, layers, attentionSize } = config;
    this.config = config;
    [this.start, this.end] = [vocabSize, vocabSize + 1];
    this.#embedding = new Embedding(weights.at("embedding"), vocabSize + 2, E, {
      init: { kind: "normal", std: 1 },
    });
    this.#lstm = new Lstm(weights.at("lstm"), E + M, H, { layers });
    this.#attention = new AdditiveAttention(weights.at("attention"), {
      ...{ query: H, memory: M, width: attentionSize },
    });
    this.#output = new Linear(weights.at("output"), H + M, vocabSize + 2);
  }

  /** One character more. `x` (N, E): the embeddings of those before. */
  #step(x: Tensor, state: DecoderState, { hidden, mask }: LstmEncoderOutput, keys: Tensor) {
    const [N, E] = x.shape;
    const { hiddenSize: H, memorySize: M } = this.config;
    const input = reshape(concat([x, state.context]), [N, 1, E + M]);
    const { y, states } = this.#lstm.forward(input, { states: state.states });
    const attended = this.#attention.forward(y, hidden, keys, mask);
    const context = reshape(attended.context, [N, M]);
    return {
      state: { states, context },
      /** (N, H + M): what the output is made from. */
      features: concat([reshape(y, [N, H]), context]),
      probabilities: attended.probabilities,
    };
  }

  #initial({ hidden }: LstmEncoderOutput): DecoderState {
    const context = full(hidden.device, [hidden.shape[0], this.config.memorySize], 0);
    return { states: undefined, context };
  }

  /** Teacher forcing: the logits of each character of the texts after those before it. `texts`: ids, without their end. */
  forward(memory: LstmEncoderOutput, texts: readonly (readonly number[])[], mode: Mode = {}): Spelling {
    const { device } = memory.hidden;
    const { hiddenSize: H, memorySize: M, embeddingSize: E, dropout: dropped } = this.config;
    const B = texts.length;
    const lengths = texts.map(({ length }) => length + 1);
    const L = Math.max(...lengths);
    const inputs = texts.flatMap((ids) => [
      this.start,
      ...ids,
      ...new Array<number>(L - 1 - ids.length).fill(this.end),
    ]);
    const embedded = reshape(this.#embedding.forward(inputs, [B, L]), [B, L * E]);
    const keys = this.#attention.keys(memory.hidden);
    let state = this.#initial(memory);
    const features: Tensor[] = [];
    for (let i = 0; i < L; i++) {
      const step = this.#step(slice(embedded, i * E, E), state, memory, keys);
      features.push(step.features);
      state = step.state;
    }
    const all = reshape(concat(features), [B, L, H + M]);
    const logits = this.#output.forward(dropout(all, dropped, mode.training));
    return { logits, states: slice(all, 0, H), mask: lengthMask(device, lengths, L), lengths };
  }

  /** Cross entropy of the texts and their ends, the mean over all characters. */
  loss(
    { logits }: Pick<Spelling, "logits">,
    texts: readonly (readonly number[])[],
    labelSmoothing = 0,
  ): Tensor {
    const [B, L, V] = logits.shape;
    const targets = texts.flatMap((ids) => [
      ...ids,
      this.end,
      ...new Array<number>(L - 1 - ids.length).fill(-100),
    ]);
    return crossEntropy(reshape(logits, [B * L, V]), targets, { labelSmoothing });
  }

  /**
   * The likeliest texts. Sequence.positions are the frames that the attention weighed most at each character. Frees every tensor
   * that it makes, also where it throws.
   */
  async spell(
    memory: LstmEncoderOutput,
    { beam, lengthPenalty = 1, maxLengths }: SpellOptions,
  ): Promise<Sequence[]> {
    const { device } = memory.hidden;
    const inPart = <T>(body: () => T): T => device.at({ part: "decoder" }, () => scope(device, body));
    const keys = inPart(() => this.#attention.keys(memory.hidden));
    let state: DecoderState | undefined;
    const step: Step = async (tokens, parents, inputs) => {
      const before = state;
      const next = inPart(() => {
        const own = rowsOfMemory(memory, keys, inputs);
        const from = before ? chosen(before, parents) : this.#initial(own);
        const x = this.#embedding.forward(tokens);
        const { state, features, probabilities } = this.#step(x, from, own, own.keys);
        return { state, probabilities, logProbs: logSoftmax(this.#output.forward(features)) };
      });
      state = next.state;
      if (before) release(before);
      try {
        const [logProbs, weights] = await Promise.all([next.logProbs.read(), next.probabilities.read()]);
        return { logProbs, positions: peaks(weights, tokens.length) };
      } finally {
        next.logProbs.release();
        next.probabilities.release();
      }
    };
    const options = { start: this.start, end: this.end, maxLengths };
    try {
      if (beam === undefined) return await greedySearch(step, options);
      const found = await beamSearch(step, { ...options, width: beam, lengthPenalty });
      return found.map(([best]) => best);
    } finally {
      keys.release();
      if (state) release(state);
    }
  }
}

const release = ({ states = [], context }: DecoderState): void => {
  for (const tensor of [...states.flatMap(({ h, c }) => [h, c]), context]) tensor.release();
};

const inOrder = (rows: readonly number[], count: number): boolean =>
  rows.length === count && rows.every((row, i) => row === i);

/** Rows of x along its first axis.   (N, …) → (rows, …) */
const gather = (x: Tensor, rows: readonly number[]): Tensor => {
  const [N, ...rest] = x.shape;
  return reshape(embedding(reshape(x, [N, x.size / N]), rows, [rows.length]), [rows.length, ...rest]);
};

/** States of the rows that are gone on with. */
function chosen({ states, context }: DecoderState, rows: readonly number[]): DecoderState {
  const [N] = context.shape;
  if (inOrder(rows, N)) return { states, context };
  const of = (x: Tensor) => reshape(gather(reshape(x, [N, x.size / N]), rows), [1, rows.length, x.size / N]);
  return {
    states: states?.map(({ h, c }) => ({ h: of(h), c: of(c) })),
    context: gather(context, rows),
  };
}

/** The memory of each row. */
function rowsOfMemory({ hidden, mask, frames }: LstmEncoderOutput, keys: Tensor, inputs: readonly number[]) {
  if (inOrder(inputs, hidden.shape[0])) return { hidden, mask, frames, keys };
  const own = inputs.map((input) => frames[input]);
  return {
    ...{ hidden: gather(hidden, inputs), keys: gather(keys, inputs), frames: own },
    mask: lengthMask(hidden.device, own, hidden.shape[1]),
  };
}

/** The place of the greatest of each of `rows` rows. */
function peaks(weights: Float32Array, rows: number): number[] {
  const T = weights.length / rows;
  return Array.from({ length: rows }, (_, row) => {
    let best = 0;
    for (let t = 1; t < T; t++) if (weights[row * T + t] > weights[row * T + best]) best = t;
    return best;
  });
}

/**
 * The recogniser: an LstmEncoder and an AttentionDecoder.
 *
 * @example
 * ```ts
 * const sizes = { n_mels: 24, hidden_size: 16, encoder_layers: 2, vocab_size: 32 };
 * const decoder = { embedding_size: 8, decoder_hidden_size: 24, attention_size: 16 };
 * const weights = new Weights(device, { seed: 1 });
 * const las = new ListenAttendSpell(weights.root, lasConfig({ ...sizes, ...decoder }, "here"));
 * await weights.initialize();
 * const audio = Tensor.from(device, Float32Array.from({ length: 16000 }, (_, i) => Math.sin(0.2 * i)), [1, 16000]);
 * const texts = [[5, 6, 7]]; // ids of characters
 * const { value, gradients } = scope(device, () =>
 *   valueAndGrad(device, weights.parameters, () => {
 *     const { spelling } = las.forward({ audio }, texts);
 *     return las.decoder.loss(spelling, texts, 0.1); // label smoothing
 *   }),
 * );
 * console.log(gradients.size === weights.parameters.length, (await value.item()) > 0); // true true
 * const [found] = await las.recognize({ audio }, { beam: 4, maxLengths: [10] });
 * console.log(found.ids.length <= 10); // true
 * ```
 */
export class ListenAttendSpell {
  /** The listener: speech → frames. */
  readonly encoder: LstmEncoder;
  /** The speller: frames → characters. */
  readonly decoder: AttentionDecoder;

  /** Takes its parameters from `weights`, under `encoder` and `decoder`. */
  constructor(weights: WeightScope, config: LasConfig) {
    this.encoder = new LstmEncoder(weights.at("encoder"), config.encoder);
    this.decoder = new AttentionDecoder(weights.at("decoder"), config.decoder);
  }

  /** The device of the weights. */
  get device(): Device {
    return this.encoder.device;
  }

  /** Speech and its texts → logits of their characters. */
  forward(
    input: LstmEncoderInput,
    texts: readonly (readonly number[])[],
    mode: Mode = {},
  ): LstmEncoderOutput & { readonly spelling: Spelling } {
    const heard = this.encoder.forward(input, mode);
    return { ...heard, spelling: this.decoder.forward(heard, texts, mode) };
  }

  /** The likeliest texts of speech. Frees every tensor that it makes. */
  async recognize(input: LstmEncoderInput, options: SpellOptions): Promise<Sequence[]> {
    const heard = scope(this.device, () => this.encoder.forward(input));
    try {
      return await this.decoder.spell(heard, options);
    } finally {
      heard.hidden.release();
      heard.mask.release();
    }
  }
}

/**
 * HuBERT and wav2vec 2.0 as transformers' `HubertModel`, `HubertForCTC` and `Wav2Vec2ForCTC` (modeling_hubert.py,
 * modeling_wav2vec2.py), in the LARGE form (layer norms after convolutions, pre-norm layers) and the BASE form (group norm,
 * post-norm layers). Frames are channels-last throughout.
 */
import { redrawn } from "../gpu/capture.ts";
import type { Device } from "../gpu/device.ts";
import { SAMPLE_RATE } from "../io/samples.ts";
import { SelfAttention } from "../nn/attention.ts";
import { Conv1d, WeightNormConv1d } from "../nn/conv.ts";
import { FeedForward } from "../nn/feed_forward.ts";
import { Linear } from "../nn/linear.ts";
import { activationsOf, type Mode } from "../nn/mode.ts";
import { ChannelNorm, LayerNorm } from "../nn/norm.ts";
import type { Parameter } from "../nn/parameter.ts";
import type { WeightScope } from "../nn/weights.ts";
import { activation } from "../ops/activation.ts";
import { convFrames } from "../ops/conv1d.ts";
import { cast } from "../ops/convert.ts";
import { dropout } from "../ops/dropout.ts";
import { add, reshape } from "../ops/elementwise.ts";
import { concat, maskRows, slice } from "../ops/frames.ts";
import { transpose } from "../ops/transpose.ts";
import { scope } from "../tensor/scope.ts";
import { Tensor, type WeightDType } from "../tensor/tensor.ts";
import { type HubertConfig, hubertConfig } from "./config.ts";
import { EncoderLayer } from "./encoder_layer.ts";
import { fromPretrained, type Pretrained, type PretrainedOptions } from "./pretrained.ts";

/** The part of a config that tells which samples a frame is computed from. */
export type FrameGeometry = Pick<HubertConfig, "convKernel" | "convStride">;

/** Number of frames of `samples` samples; transformers' _get_feat_extract_output_lengths. */
export const frameCount = ({ convKernel, convStride }: FrameGeometry, samples: number): number =>
  convKernel.reduce((n, k, i) => convFrames(n, k, convStride[i]), samples);

/** Samples between the begins of successive frames; transformers' inputs_to_logits_ratio. */
export const frameStride = ({ convStride }: Pick<FrameGeometry, "convStride">): number =>
  convStride.reduce((product, stride) => product * stride, 1);

/** Seconds between the begins of successive frames. */
export const secondsPerFrame = (config: Pick<FrameGeometry, "convStride">): number =>
  frameStride(config) / SAMPLE_RATE;

/** Samples from which one frame is computed, the fewest that a recording must have. */
export const receptiveField = ({ convKernel, convStride }: FrameGeometry): number =>
  convKernel.reduceRight((n, k, i) => (n - 1) * convStride[i] + k, 1);

/** Throws a RangeError for a recording that is too short for a frame; `what` names it in the message. */
export function checkLength(config: FrameGeometry, samples: number, what: string): void {
  const field = receptiveField(config);
  if (!(samples >= field))
    throw new RangeError(
      `Cannot use ${what}: it has ${samples} samples, at least ${field} needed (${((1000 * field) / SAMPLE_RATE).toFixed(1)} ms)`,
    );
}

/** The stack of strided convolutions from audio to frames. */
export class FeatureExtractor {
  readonly #convs: Conv1d[];
  readonly #norms: (LayerNorm | ChannelNorm | undefined)[];
  readonly #config: HubertConfig;

  constructor(weights: WeightScope, config: HubertConfig) {
    const { convDim, convKernel, convStride, convBias, featExtractNorm } = config;
    const layer = (i: number) => weights.at(`conv_layers.${i}`);
    this.#config = config;
    this.#convs = convDim.map(
      (O, i) =>
        new Conv1d(layer(i).at("conv"), i === 0 ? 1 : convDim[i - 1], O, convKernel[i], convBias, {
          stride: convStride[i],
          init: i === 0 && config.convInit === "gabor" ? { kind: "gabor", taps: convKernel[0] } : undefined,
        }),
    );
    this.#norms = convDim.map((C, i) => {
      if (featExtractNorm === "layer") return new LayerNorm(layer(i).at("layer_norm"), C, 1e-5);
      return i === 0 ? new ChannelNorm(layer(i).at("layer_norm"), C) : undefined;
    });
  }

  /**
   * audio (B, samples) → (B, T, C)
   *
   * With layer norms the audio is encoded in overlapping chunks, which changes no frame, where the output of the first
   * convolution would exceed `largest` bytes: LARGE beyond 20 s on an adapter that binds 128 MiB.
   */
  forward(audio: Tensor, mode: Mode, largest = audio.device.limits.maxStorageBufferBindingSize): Tensor {
    const [B, samples] = audio.shape;
    const { convKernel, convStride, convDim, featExtractNorm } = this.#config;
    checkLength(this.#config, samples, "audio");
    const widest = 4 * B * convDim[0] * convFrames(samples, convKernel[0], convStride[0]);
    const chunks = featExtractNorm === "layer" ? Math.ceil(widest / (0.9 * largest)) : 1;
    if (chunks === 1) return this.#encode(audio, mode);
    const stride = frameStride(this.#config);
    const field = receptiveField(this.#config);
    const T = frameCount(this.#config, samples);
    const step = Math.ceil(T / chunks);
    const parts: Tensor[] = [];
    for (let t = 0; t < T; t += step) {
      const frames = Math.min(step, T - t);
      const y = scope(audio.device, () =>
        this.#encode(slice(audio, t * stride, (frames - 1) * stride + field), {
          activations: mode.activations,
        }),
      );
      parts.push(reshape(y, [B, frames * y.shape[2]]));
    }
    return reshape(concat(parts), [B, T, convDim[convDim.length - 1]]);
  }

  #encode(audio: Tensor, mode: Mode): Tensor {
    // The audio itself stays f32: it is small, and no layer has rounded it.
    const dtype = activationsOf(audio.device, mode);
    let x = reshape(audio, [...audio.shape, 1]);
    for (const [i, conv] of this.#convs.entries()) {
      x = scope(x.device, () => {
        const h = x.device.labelled(`feature_extractor.conv_layers.${i}`, () =>
          this.#layer(i, conv, x, dtype),
        );
        mode.observe?.(`conv.${i}`, h);
        return h;
      });
    }
    return x;
  }

  #layer(i: number, conv: Conv1d, x: Tensor, dtype: WeightDType): Tensor {
    const norm = this.#norms[i];
    const kind = this.#config.featExtractActivation;
    const h = conv.forward(x, dtype);
    if (norm instanceof LayerNorm) return norm.forward(h, kind);
    return activation(norm ? norm.forward(h) : h, kind);
  }
}

/** Input of HubertModel. */
export interface HubertInput {
  /** (B, samples): each utterance normalised, then padded with zeros. */
  readonly audio: Tensor;
  /** Samples of each utterance without padding. Left out: nothing is padding, as without an attention mask in transformers. */
  readonly lengths?: readonly number[];
  /** (B, T) u32, 0 = a frame that is replaced by `masked_spec_embed` (SpecAugment). */
  readonly keepFrames?: Tensor;
  /** (B, hidden) u32, 0 = a channel that is set to 0 in all frames (SpecAugment). */
  readonly keepFeatures?: Tensor;
}

/** Output of HubertModel. */
export interface HubertOutput {
  /** (B, T, hidden), of Mode.activations */
  readonly hidden: Tensor;
  /** (B, T) u32, 1 = a real frame; absent where no lengths were given. */
  readonly mask?: Tensor;
  /** Number of real frames of each utterance. */
  readonly frames: readonly number[];
}

/** The speech encoder: convolutions, feature projection, positional convolution and transformer layers. */
export class HubertModel {
  /** What it was built from. */
  readonly config: HubertConfig;
  readonly #extractor: FeatureExtractor;
  readonly #projectionNorm: LayerNorm | undefined;
  readonly #projection: Linear;
  readonly #maskedSpecEmbed: Parameter | undefined;
  readonly #position: WeightNormConv1d;
  readonly #layers: EncoderLayer[];
  readonly #norm: LayerNorm;

  /** Loads a folder in Hugging Face's format, HuBERT or wav2vec 2.0. Throws one line that names the file and the key. */
  static fromPretrained(
    device: Device,
    folder: string,
    options?: PretrainedOptions,
  ): Promise<Pretrained<HubertModel>> {
    const build = (root: WeightScope, json: unknown, source: string) => {
      const config = hubertConfig(json, source);
      return new HubertModel(root.at(config.prefix), config);
    };
    return fromPretrained(device, folder, build, options);
  }

  /** Takes its parameters from `weights`, under the keys of Hugging Face's class. */
  constructor(weights: WeightScope, config: HubertConfig) {
    const { hiddenSize: C, layerNormEps: eps, posKernel, posGroups } = config;
    const features = config.convDim[config.convDim.length - 1];
    const encoder = weights.at("encoder");
    this.config = config;
    this.#maskedSpecEmbed = config.maskEmbedding
      ? weights.get("masked_spec_embed", [C], { kind: "uniform", bound: 1 })
      : undefined;
    this.#extractor = new FeatureExtractor(weights.at("feature_extractor"), config);
    this.#projectionNorm = config.featProjLayerNorm
      ? new LayerNorm(weights.at("feature_projection").at("layer_norm"), features, eps)
      : undefined;
    const bound = Math.sqrt(1 / features);
    this.#projection = new Linear(weights.at("feature_projection").at("projection"), features, C, {
      init: { kind: "uniform", bound },
    });
    const drop = posKernel % 2 === 0 ? 1 : 0;
    this.#position = new WeightNormConv1d(encoder.at("pos_conv_embed").at("conv"), C, C, posKernel, {
      padding: posKernel >> 1,
      groups: posGroups,
      drop,
    });
    this.#layers = Array.from({ length: config.layers }, (_, i) =>
      hubertLayer(encoder.at(`layers.${i}`), config),
    );
    this.#norm = new LayerNorm(encoder.at("layer_norm"), C, eps);
  }

  /**
   * Audio (B, samples) → frames (B, T, hidden). `onState` is given the input of every layer, and under the number of layers the
   * output of the last, before the final norm of the LARGE form. Throws a RangeError for an utterance that is too short.
   */
  forward(
    input: HubertInput,
    mode: Mode = {},
    onState?: (index: number, state: Tensor, mask: Tensor | undefined) => void,
  ): HubertOutput {
    const { audio, lengths } = input;
    const { device } = audio;
    const { config } = this;
    for (const [b, n] of (lengths ?? []).entries()) checkLength(config, n, `audio ${b} of the batch`);
    const features = scope(device, () => this.#extractor.forward(audio, mode));
    const [B, T] = features.shape;
    const frames = lengths ? lengths.map((n) => frameCount(config, n)) : Array<number>(B).fill(T);
    const mask = lengths ? frameMask(features, frames) : undefined;
    mode.observe?.("extract_features", features);
    let x = scope(device, () => this.#embed(features, mask, input, mode));
    for (const [i, layer] of this.#layers.entries()) {
      mode.observe?.(`hidden_states.${i}`, x);
      onState?.(i, x, mask);
      if (mode.training && dropsLayer(device, config.dropout.layer, mode.training)) continue;
      x = scope(device, () =>
        device.labelled(`encoder.layers.${i}`, () => layer.forward(x, mask, mode, `attentions.${i}`)),
      );
    }
    mode.observe?.("last_layer_raw", x);
    onState?.(config.layers, x, mask);
    if (config.stableLayerNorm) x = device.labelled("encoder.layer_norm", () => this.#norm.forward(x));
    mode.observe?.(`hidden_states.${config.layers}`, x);
    mode.observe?.("last_hidden_state", x);
    return { hidden: x, mask, frames };
  }

  /** Features of the convolutions → input of the first layer. */
  #embed(features: Tensor, mask: Tensor | undefined, input: HubertInput, mode: Mode): Tensor {
    const { keepFrames, keepFeatures } = input;
    const { dropout: rates, stableLayerNorm, hiddenAct } = this.config;
    const { device } = features;
    const normed = device.labelled("feature_projection", () =>
      this.#projectionNorm ? this.#projectionNorm.forward(features) : features,
    );
    let x = dropout(
      device.labelled("feature_projection", () => this.#projection.forward(normed)),
      rates.featProj,
      mode.training,
    );
    mode.observe?.("feat_proj", x);
    if (keepFrames) {
      if (!this.#maskedSpecEmbed)
        throw new Error("Cannot mask frames: this model's config has no masks, nor masked_spec_embed");
      x = maskRows(x, keepFrames, cast(this.#maskedSpecEmbed.value, activationsOf(device, mode)));
    }
    if (keepFeatures) x = transpose(maskRows(transpose(x), keepFeatures));
    if (mask) x = maskRows(x, mask);
    const position = device.labelled("encoder.pos_conv_embed", () =>
      activation(this.#position.forward(x), hiddenAct),
    );
    mode.observe?.("pos_conv", position);
    x = add(x, position);
    if (!stableLayerNorm) x = device.labelled("encoder.layer_norm", () => this.#norm.forward(x));
    return dropout(x, rates.hidden, mode.training);
  }
}

/** LayerDrop (Fan et al. 2019): while training a layer is left out with this probability. */
function dropsLayer(device: Device, rate: number, training: NonNullable<Mode["training"]>): boolean {
  if (rate > 0 && device.recorder.capturing)
    throw new Error(
      `Cannot capture a HuBERT that drops layers, at a rate of ${rate}: a replay would drop the same`,
    );
  return redrawn(device, () => training.next())() / 2 ** 32 < rate;
}

/** One layer of the encoder, pre-norm in the LARGE form. */
export function hubertLayer(weights: WeightScope, config: HubertConfig): EncoderLayer {
  const { hiddenSize: C, heads, intermediateSize, hiddenAct, layerNormEps: eps, dropout: rates } = config;
  const names = { qkv: ["q_proj", "k_proj", "v_proj"], out: "out_proj" } as const;
  const feed = weights.at("feed_forward");
  return new EncoderLayer(
    {
      attention: new SelfAttention(weights.at("attention"), C, { names, heads, dropout: rates.attention }),
      attentionNorm: new LayerNorm(weights.at("layer_norm"), C, eps),
      feedForward: new FeedForward(
        feed.at("intermediate_dense"),
        feed.at("output_dense"),
        C,
        intermediateSize,
        hiddenAct,
        rates.activation,
      ),
      feedForwardNorm: new LayerNorm(weights.at("final_layer_norm"), C, eps),
      dropout: rates.hidden,
    },
    config.stableLayerNorm,
  );
}

/** (B, T) u32: 1 for the first frames[b] frames. */
function frameMask(features: Tensor, frames: readonly number[]): Tensor {
  const [B, T] = features.shape;
  const mask = new Uint32Array(B * T);
  frames.forEach((n, b) => {
    mask.fill(1, b * T, b * T + n);
  });
  return Tensor.from(features.device, mask, [B, T]);
}

/** HuBERT or wav2vec 2.0 with a linear CTC head: `HubertForCTC`, `Wav2Vec2ForCTC`. */
export class HubertForCTC {
  /** The encoder. */
  readonly hubert: HubertModel;
  readonly #head: Linear;
  readonly #dropout: number;

  /** Loads a folder in Hugging Face's format, HuBERT or wav2vec 2.0. Throws one line that names the file and the key. */
  static fromPretrained(
    device: Device,
    folder: string,
    options?: PretrainedOptions,
  ): Promise<Pretrained<HubertForCTC>> {
    const build = (root: WeightScope, json: unknown, source: string) =>
      new HubertForCTC(root, hubertConfig(json, source));
    return fromPretrained(device, folder, build, options);
  }

  /** Takes its parameters from `weights`, under the keys of Hugging Face's class. */
  constructor(weights: WeightScope, config: HubertConfig) {
    this.hubert = new HubertModel(weights.at(config.prefix), config);
    this.#head = new Linear(weights.at("lm_head"), config.hiddenSize, config.vocabSize);
    this.#dropout = config.dropout.final;
  }

  /** Audio (B, samples) → logits (B, T, V), f32. */
  forward(input: HubertInput, mode: Mode = {}): HubertOutput & { logits: Tensor } {
    const { device } = input.audio;
    const output = device.at({ part: "speech encoder" }, () => this.hubert.forward(input, mode));
    const logits = device.at({ part: "CTC head" }, () =>
      this.#head.forward(dropout(output.hidden, this.#dropout, mode.training), { dtype: "f32" }),
    );
    mode.observe?.("logits", logits);
    return { ...output, logits };
  }
}

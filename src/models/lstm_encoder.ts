/** An encoder of speech by bidirectional LSTMs over log-mel features: the listener of LAS (Chan et al. 2016). */
import * as v from "valibot";
import type { Device } from "../gpu/device.ts";
import { SAMPLE_RATE } from "../io/samples.ts";
import { checkMel, melFrames } from "../io/mel.ts";
import { finite, integer, keysOf, mismatch, number, object, parse } from "../io/schema.ts";
import { type LogMelConfig, LogMelSpectrogram } from "../nn/log_mel.ts";
import { Lstm } from "../nn/lstm.ts";
import { activationsOf, type Mode } from "../nn/mode.ts";
import type { WeightScope } from "../nn/weights.ts";
import { dropout } from "../ops/dropout.ts";
import { reshape } from "../ops/elementwise.ts";
import { slice } from "../ops/frames.ts";
import { scope } from "../tensor/scope.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { EncoderSizes } from "./batches.ts";
import { extent } from "./config.ts";
import { checkLength } from "./hubert.ts";

/** A rate of dropout. */
export const rate = number("a rate of 0 or more, less than 1", (x) => x >= 0 && x < 1);
const hertz = number("a frequency of 0 or more", (x) => x >= 0);

/** The entries of its config, for schemas that hold more. */
export const encoderEntries = {
  sample_rate: v.nullish(v.literal(SAMPLE_RATE, `${SAMPLE_RATE}, as all audio here`), SAMPLE_RATE),
  n_fft: v.nullish(extent(2), 512),
  win_length: v.nullish(extent(), 400),
  hop_length: v.nullish(extent(), 160),
  f_min: v.nullish(hertz, 0),
  f_max: v.nullish(hertz, SAMPLE_RATE / 2),
  n_mels: v.nullish(extent(), 80),
  norm: v.nullish(v.literal("slaney", '"slaney" or null')),
  mel_scale: v.nullish(v.picklist(["htk", "slaney"]), "htk"),
  log_offset: v.nullish(
    number("a number above 0", (x) => Math.fround(x) > 0),
    1e-6,
  ),
  mel_mean: v.nullish(finite, 0),
  mel_std: v.nullish(
    number("a number above 0", (x) => Math.fround(x) > 0),
    1,
  ),
  hidden_size: extent(),
  encoder_layers: extent(),
  subsamplings: v.nullish(integer(0)),
  hidden_dropout: v.nullish(rate, 0.1),
};
const schema = object(encoderEntries);

/** The keys that lstmEncoderConfig() reads. */
export const LSTM_ENCODER_KEYS = keysOf(schema);

/** Config of LstmEncoder. */
export interface LstmEncoderConfig {
  /** n_fft, win_length, hop_length, f_min, f_max, n_mels, norm, mel_scale, log_offset, mel_mean and mel_std. */
  readonly mel: LogMelConfig;
  /** hidden_size: units of each direction; frames are twice as wide. */
  readonly hiddenSize: number;
  /** encoder_layers. */
  readonly layers: number;
  /** subsamplings: how many of the layers after the first take two frames as one; all by default. */
  readonly subsamplings: number;
  /** hidden_dropout: rate after every layer. */
  readonly dropout: number;
  /** Its frames as those of convolutions, for frameCount(), receptiveField() and plans of batches. */
  readonly sizes: EncoderSizes;
}

/** Reads the config of an encoder; other keys are ignored. Throws a SyntaxError that names the key; `source` names the file. */
export function lstmEncoderConfig(json: unknown, source: string): LstmEncoderConfig {
  const c = parse(schema, json, source);
  const mel: LogMelConfig = {
    ...{ sampleRate: c.sample_rate, nFft: c.n_fft, winLength: c.win_length, hopLength: c.hop_length },
    ...{ fMin: c.f_min, fMax: c.f_max, nMels: c.n_mels, norm: c.norm ?? null, melScale: c.mel_scale },
    ...{ logOffset: c.log_offset, mean: c.mel_mean, std: c.mel_std },
  };
  checkMel(mel, source);
  const subsamplings = c.subsamplings ?? c.encoder_layers - 1;
  if (subsamplings > c.encoder_layers - 1)
    throw mismatch(
      source,
      "subsamplings",
      subsamplings,
      `less than encoder_layers, ${c.encoder_layers}: the first layer takes every frame`,
    );
  const H = c.hidden_size;
  return {
    ...{ mel, hiddenSize: H, layers: c.encoder_layers, subsamplings, dropout: c.hidden_dropout },
    sizes: {
      // Two frames as one are a convolution of kernel and stride 2.
      convKernel: [mel.nFft, ...new Array<number>(subsamplings).fill(2)],
      convStride: [mel.hopLength, ...new Array<number>(subsamplings).fill(2)],
      convDim: [mel.nMels, ...new Array<number>(subsamplings).fill(4 * H)],
      ...{ featExtractNorm: "layer", hiddenSize: 2 * H },
      // The largest tensors have a row for each frame of the spectrogram: the gates of both directions, or the spectrum.
      intermediateSize: Math.max(8 * H, mel.nFft + 4) << subsamplings,
    },
  };
}

/** Input of LstmEncoder. */
export interface LstmEncoderInput {
  /** (B, samples): each utterance normalised, then padded with zeros. */
  readonly audio: Tensor;
  /** Samples of each utterance without padding. Left out: nothing is padding. */
  readonly lengths?: readonly number[];
}

/** Output of LstmEncoder. */
export interface LstmEncoderOutput {
  /** (B, T, 2·hiddenSize); frames of padding are 0, but for what dropout makes of them. */
  readonly hidden: Tensor;
  /** (B, T) u32, 1 = a real frame. */
  readonly mask: Tensor;
  /** Real frames of each utterance. */
  readonly frames: readonly number[];
}

/**
 * Log-mel features, then bidirectional LSTMs. Before each of the last `subsamplings` layers two frames become one twice as wide;
 * an odd frame at the end of an utterance is left out. What is padding changes nothing of the frames.
 */
export class LstmEncoder {
  /** What it was built from. */
  readonly config: LstmEncoderConfig;
  readonly #weights: WeightScope;
  readonly #features: LogMelSpectrogram;
  readonly #layers: Lstm[];

  /** Parameters `layers.I.weight_ih_l0` and so on, as torch.nn.LSTM's. */
  constructor(weights: WeightScope, config: LstmEncoderConfig) {
    const { mel, hiddenSize: H, layers, subsamplings } = config;
    this.config = config;
    this.#weights = weights;
    this.#features = new LogMelSpectrogram(weights, mel);
    this.#layers = Array.from({ length: layers }, (_, i) => {
      const width = i === 0 ? mel.nMels : 2 * H * (i >= layers - subsamplings ? 2 : 1);
      return new Lstm(weights.at(`layers.${i}`), width, H, { bidirectional: true });
    });
  }

  /** The device of the weights. */
  get device(): Device {
    return this.#weights.device;
  }

  /** Width of a frame. */
  get width(): number {
    return 2 * this.config.hiddenSize;
  }

  /** audio (B, samples) → (B, T, 2·hiddenSize). Throws a RangeError for an utterance that is too short for a frame. */
  forward({ audio, lengths }: LstmEncoderInput, mode: Mode = {}): LstmEncoderOutput {
    const { device } = this;
    const { mel, layers, subsamplings, dropout: dropped } = this.config;
    if (activationsOf(device, mode) === "f16")
      throw new RangeError("Cannot run an LSTM with f16 activations: its states are f32; use f32");
    const [B, samples] = audio.shape;
    const all = lengths ?? new Array<number>(B).fill(samples);
    for (const [b, n] of all.entries()) checkLength(this.config.sizes, n, `utterance ${b}`);
    let frames = all.map((n) => melFrames(mel, n));
    let x = scope(device, () => device.labelled("log-mel", () => this.#features.forward(audio)));
    mode.observe?.("log_mel", x);
    for (const [i, layer] of this.#layers.entries()) {
      const pairs = i > 0 && i >= layers - subsamplings;
      if (pairs) frames = frames.map((n) => n >> 1);
      x = scope(device, () =>
        device.labelled(`encoder.layers.${i}`, () =>
          dropout(layer.forward(pairs ? inPairs(x) : x, { lengths: frames }).y, dropped, mode.training),
        ),
      );
      mode.observe?.(`hidden_states.${i}`, x);
    }
    return { hidden: x, mask: lengthMask(device, frames, x.shape[1]), frames };
  }
}

/** Two frames as one, without the last where their number is odd.   (B, T, C) → (B, ⌊T/2⌋, 2C) */
function inPairs(x: Tensor): Tensor {
  const [B, T, C] = x.shape;
  const half = T >> 1;
  const even = T % 2 === 0 ? x : slice(reshape(x, [B, T * C]), 0, 2 * half * C);
  return reshape(even, [B, half, 2 * C]);
}

/** (B, T) u32: 1 for the first lengths[b] of each row. */
export function lengthMask(device: Device, lengths: readonly number[], T: number): Tensor {
  const mask = new Uint32Array(lengths.length * T);
  for (const [b, n] of lengths.entries()) mask.fill(1, b * T, b * T + n);
  return Tensor.from(device, mask, [lengths.length, T]);
}

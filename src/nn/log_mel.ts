import { bins, fourierMatrix, type MelConfig, melFilterbank, melFrames } from "../io/mel.ts";
import { log } from "../ops/activation.ts";
import { conv1d, packWeight } from "../ops/conv1d.ts";
import { add, mul, reshape } from "../ops/elementwise.ts";
import { linear } from "../ops/matmul.ts";
import { checkShape } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Constant } from "./constant.ts";
import type { WeightSource } from "./weights.ts";

/** What is taken from a mel spectrogram's logarithm, and how it is scaled. */
export interface LogMelConfig extends MelConfig {
  /** log_offset: added before the logarithm. */
  readonly logOffset: number;
  /** Taken from the logarithm, as in Hugging Face's ASTFeatureExtractor. */
  readonly mean: number;
  /** What is then divided by; there by twice as much. */
  readonly std: number;
}

/**
 * Log-mel features: (ln(mel + log_offset) − mean) / std, where mel is torchaudio.transforms.MelSpectrogram with power=2,
 * center=False, normalized=False and a Hann window. A frame is a convolution of the samples with the windowed Fourier matrix;
 * two products follow, with the squares and with the filters. Nothing is learned.
 */
export class LogMelSpectrogram {
  /** What it was built from. */
  readonly config: LogMelConfig;
  readonly #fourier: Constant;
  readonly #filters: Constant;

  /** `weights`: whose device and lifetime its constants have. */
  constructor(weights: WeightSource, config: LogMelConfig) {
    const { nFft, nMels } = config;
    this.config = config;
    const F = bins(nFft);
    // Kernels load four numbers at a time: rows of zeros make the real and imaginary parts a multiple of four.
    const O = Math.ceil((2 * F) / 4) * 4;
    this.#fourier = weights.constant([O, 1, nFft], () => {
      const rows = new Float32Array(O * nFft);
      rows.set(fourierMatrix(config));
      return rows;
    });
    this.#filters = weights.constant([nMels, O], () => {
      const one = melFilterbank(config);
      const both = new Float32Array(nMels * O);
      for (let i = 0; i < one.length; i++) {
        const at = Math.floor(i / F) * O + (i % F);
        both[at] = both[at + F] = one[i];
      }
      return both;
    });
  }

  /** audio (B, samples) → (B, melFrames(samples), nMels), f32. Throws a RangeError where there is no whole frame. */
  forward(audio: Tensor): Tensor {
    const { nFft, hopLength, logOffset, mean, std } = this.config;
    checkShape("LogMelSpectrogram", "audio", audio.shape, [-1, -1]);
    const [B, samples] = audio.shape;
    if (melFrames(this.config, samples) === 0)
      throw new RangeError(
        `Cannot make a spectrogram of ${samples} samples: a frame has ${nFft}, at least one expected`,
      );
    const w = this.#fourier.value;
    // In the order that a convolution of one channel reads, unless rows are to be padded.
    const packed = nFft % 4 === 0 ? w.reshaped([w.shape[0], nFft]) : packWeight(w);
    const spectrum = conv1d(reshape(audio, [B, samples, 1]), w, undefined, { stride: hopLength }, packed);
    const mel = linear(mul(spectrum, spectrum), this.#filters.value);
    return add(log(add(mel, logOffset)), 1, 1 / std, -mean / std);
  }
}

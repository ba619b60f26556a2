/** What a mel spectrogram is made of, by torchaudio's definitions (torchaudio.functional.melscale_fbanks, torch.stft). */
import { mismatch } from "./schema.ts";

/** As the arguments of torchaudio.transforms.MelSpectrogram, by their names there. */
export interface MelConfig {
  /** Samples a second. */
  readonly sampleRate: number;
  /** n_fft: samples of a frame, and points of its Fourier transform. */
  readonly nFft: number;
  /** win_length: samples of the Hann window, in the middle of the frame. */
  readonly winLength: number;
  /** hop_length: samples from one frame to the next. */
  readonly hopLength: number;
  /** f_min: where the first filter begins, in hertz. */
  readonly fMin: number;
  /** f_max: where the last one ends. */
  readonly fMax: number;
  /** n_mels: filters. */
  readonly nMels: number;
  /** "slaney": every filter has the same area. null: the same height. */
  readonly norm: "slaney" | null;
  /** mel_scale: 2595·log₁₀(1 + f/700), or Slaney's, which is linear up to 1 kHz. */
  readonly melScale: "htk" | "slaney";
}

/** Frames of `samples` samples: with center=False, each lies wholly inside; 0 where none does. */
export const melFrames = ({ nFft, hopLength }: MelConfig, samples: number): number =>
  samples < nFft ? 0 : 1 + Math.floor((samples - nFft) / hopLength);

/** Throws where frames, window and filters do not go together; `source` names where they are from. */
export function checkMel(mel: MelConfig, source: string): void {
  const { nFft, winLength, fMin, fMax, sampleRate, nMels } = mel;
  if (winLength > nFft) throw mismatch(source, "win_length", winLength, `at most n_fft, ${nFft}`);
  if (fMax > sampleRate / 2)
    throw mismatch(source, "f_max", fMax, `at most half of sample_rate, ${sampleRate / 2}`);
  if (fMin >= fMax) throw mismatch(source, "f_min", fMin, `less than f_max, ${fMax}`);
  const filters = melFilterbank(mel);
  const F = bins(nFft);
  for (let m = 0; m < nMels; m++)
    if (filters.subarray(m * F, (m + 1) * F).every((w) => w === 0))
      throw mismatch(
        source,
        "n_mels",
        nMels,
        `fewer: filter ${m} lies between two frequencies of n_fft ${nFft} and would hear nothing`,
      );
}

/** Frequencies of a one-sided transform of n points. */
export const bins = (n: number): number => (n >> 1) + 1;

const F_SP = 200 / 3;
const LOG_STEP = Math.log(6.4) / 27;

const mels = {
  htk: {
    of: (f: number) => 2595 * Math.log10(1 + f / 700),
    hertz: (m: number) => 700 * (10 ** (m / 2595) - 1),
  },
  slaney: {
    of: (f: number) => (f < 1000 ? f / F_SP : 15 + Math.log(f / 1000) / LOG_STEP),
    hertz: (m: number) => (m < 15 ? F_SP * m : 1000 * Math.exp(LOG_STEP * (m - 15))),
  },
};

/** The weights of the triangular filters, (nMels, bins of nFft): torchaudio.functional.melscale_fbanks, transposed. */
export function melFilterbank(config: MelConfig): Float64Array {
  const { sampleRate, nFft, fMin, fMax, nMels, norm, melScale } = config;
  const { of, hertz } = mels[melScale];
  const [low, high] = [of(fMin), of(fMax)];
  const corners = Array.from({ length: nMels + 2 }, (_, i) => hertz(low + ((high - low) * i) / (nMels + 1)));
  const F = bins(nFft);
  const weights = new Float64Array(nMels * F);
  for (let m = 0; m < nMels; m++) {
    const [from, peak, to] = corners.slice(m, m + 3);
    const height = norm === "slaney" ? 2 / (to - from) : 1;
    for (let k = 0; k < F; k++) {
      const f = (k * Math.floor(sampleRate / 2)) / (F - 1);
      const side = Math.min((f - from) / (peak - from), (to - f) / (to - peak));
      weights[m * F + k] = height * Math.max(0, side);
    }
  }
  return weights;
}

/**
 * The windowed Fourier transform of a frame as a matrix: rows are the real, then the imaginary parts of every frequency,
 * (2·bins, nFft). The Hann window is periodic, as torch.hann_window's.
 */
export function fourierMatrix({ nFft, winLength }: Pick<MelConfig, "nFft" | "winLength">): Float64Array {
  const F = bins(nFft);
  const left = (nFft - winLength) >> 1;
  const rows = new Float64Array(2 * F * nFft);
  for (let n = 0; n < winLength; n++) {
    const i = left + n;
    const w = 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / winLength);
    for (let k = 0; k < F; k++) {
      // Of a whole number of turns nothing but rounding would be left.
      const angle = (2 * Math.PI * ((k * i) % nFft)) / nFft;
      rows[k * nFft + i] = w * Math.cos(angle);
      rows[(F + k) * nFft + i] = -w * Math.sin(angle);
    }
  }
  return rows;
}

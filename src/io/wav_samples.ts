/** The samples of WAV files as float32 in [-1, 1). */

import type { RangedFile } from "../host/host.ts";
import type { WavFormat } from "./wav.ts";

/** RMS above which a channel is not silent: −80 dB of full scale. */
const MIN_RMS = 1e-4;

type Decoder = (view: DataView, at: number) => number;

/** Channels in opposite phase: the power of their mean is below this share, −40 dB, of the loudest channel's. */
const CANCELLED = 1e-4;

/**
 * Reads all samples as the mean over the channels (frames), integers scaled to [-1, 1). Throws a RangeError where the channels
 * cancel each other.
 */
export async function readMono(file: RangedFile, format: WavFormat): Promise<Float32Array> {
  const mono = new Float32Array(format.frames);
  let at = 0;
  for await (const piece of monoPieces(file, format)) {
    mono.set(piece, at);
    at += piece.length;
  }
  return mono;
}

/** As readMono(), in pieces; that the channels cancel each other is known after the last. */
export async function* monoPieces(file: RangedFile, format: WavFormat): AsyncGenerator<Float32Array> {
  const { channels, bytesPerSample } = format;
  const sample = format.padded ? await paddedDecoder(file, format) : decoder(format);
  const { sums, squares, check } = channelSums(channels);
  for await (const { view, count } of pieces(file, format)) {
    const mono = new Float32Array(count);
    for (let i = 0, at = 0; i < count; i++) {
      let sum = 0;
      for (let c = 0; c < channels; c++, at += bytesPerSample) {
        const value = sample(view, at);
        sum += value;
        sums[c] += value;
        squares[c] += value * value;
      }
      const mean = sum / channels;
      mono[i] = mean;
      sums[channels] += mean;
      squares[channels] += mean * mean;
    }
    yield mono;
  }
  check(format.frames);
}

/** Sums and sums of squares, of every channel, then of their mean; check() throws where the channels cancel each other. */
export function channelSums(channels: number) {
  const [sums, squares] = [new Float64Array(channels + 1), new Float64Array(channels + 1)];
  const check = (frames: number): void => {
    const variances = [...squares].map((s, c) => Math.max(0, s / frames - (sums[c] / frames) ** 2));
    const left = variances.pop() ?? 0;
    const loudest = Math.max(...variances);
    if (channels > 1 && loudest > MIN_RMS ** 2 && left < (CANCELLED * loudest) / channels)
      throw new RangeError(
        `its ${channels} channels cancel each other: their mean is ${left === 0 ? "silent" : `${Math.round(10 * Math.log10(loudest / left))} dB below the loudest`}; save one of them alone`,
      );
  };
  return { sums, squares, check };
}

/** The samples in pieces of whole frames, about 1 MiB each. */
async function* pieces(file: RangedFile, { channels, frames, bytesPerSample, position }: WavFormat) {
  const step = bytesPerSample * channels;
  const piece = Math.max(1, Math.floor((1 << 20) / step));
  for (let first = 0; first < frames; first += piece) {
    const count = Math.min(piece, frames - first);
    const bytes = new Uint8Array(count * step);
    await file.read(bytes, position + first * step);
    yield { view: new DataView(bytes.buffer), count };
  }
}

function decoder({ encoding, bytesPerSample }: WavFormat): Decoder {
  if (encoding === "float") {
    return bytesPerSample === 4 ? (v, at) => v.getFloat32(at, true) : (v, at) => v.getFloat64(at, true);
  }
  if (encoding !== "integer") {
    const table = Float32Array.from({ length: 256 }, (_, byte) => G711[encoding](byte) / 2 ** 15);
    return (v, at) => table[v.getUint8(at)];
  }
  switch (bytesPerSample) {
    case 1:
      return (v, at) => (v.getUint8(at) - 128) / 128; // only 8-bit samples are unsigned
    case 2:
      return (v, at) => v.getInt16(at, true) / 2 ** 15;
    case 3:
      return (v, at) => (v.getUint8(at) + v.getInt16(at + 1, true) * 256) / 2 ** 23;
    default:
      return (v, at) => v.getInt32(at, true) / 2 ** 31;
  }
}

/** ITU-T G.711: the 16-bit value of a byte. */
const G711 = {
  "mu-law"(byte: number) {
    const bits = ~byte & 255;
    const value = (((bits & 15) << 3) + 132) << ((bits >> 4) & 7);
    return bits & 128 ? 132 - value : value - 132;
  },
  "A-law"(byte: number) {
    const bits = byte ^ 0x55;
    const segment = (bits >> 4) & 7;
    const step = ((bits & 15) << 4) + 8;
    const value = segment === 0 ? step : (step + 256) << (segment - 1);
    return bits & 128 ? value : -value;
  },
};

/**
 * Decoder of 24-bit samples in 4 bytes. By the standard the lowest byte is 0. Some programs use the lower three bytes with sign
 * extension, and Cool Edit wrote floats with the tag of integers. All samples together tell which.
 */
async function paddedDecoder(file: RangedFile, format: WavFormat): Promise<Decoder> {
  let [top, bottom, float] = [true, true, format.padded === "unknown"];
  for await (const { view } of pieces(file, format)) {
    for (let at = 0; at < view.byteLength; at += 4) {
      const value = view.getInt32(at, true);
      if (value === 0) continue;
      top &&= (value & 255) === 0;
      bottom &&= value >= -(2 ** 23) && value < 2 ** 23;
      // Integers of the standard's form, read as floats, are NaN or tiny wherever the signal is weak.
      const size = Math.abs(view.getFloat32(at, true));
      float &&= size > 1e-12 && size < 1e6;
    }
  }
  if (float) return (v, at) => v.getFloat32(at, true);
  const scale = bottom && !top ? 2 ** 23 : 2 ** 31;
  return (v, at) => v.getInt32(at, true) / scale;
}

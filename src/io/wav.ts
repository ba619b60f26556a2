/** RIFF/WAVE files: integer PCM of 8 to 32 bits, float of 32 and 64, any rate, any number of channels. */

import type { Host, RangedFile } from "../host/host.ts";
import { writeWhole } from "./write_whole.ts";

export interface WavFormat {
  sampleRate: number;
  channels: number;
  /** Samples of each channel. */
  frames: number;
  encoding: "integer" | "float";
  bytesPerSample: number;
  /** Where the samples begin in the file. */
  position: number;
}

const INTEGER = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
const CODECS: Record<number, string> = {
  2: "Microsoft ADPCM",
  6: "A-law",
  7: "mu-law",
  17: "IMA ADPCM",
  49: "GSM 6.10",
  80: "MPEG",
  85: "MP3",
  255: "AAC",
};
/** Of the identifier of a format in WAVE_FORMAT_EXTENSIBLE all but the first two bytes, which are the old tag. */
const GUID_TAIL = "000000001000800000aa00389b71";

/** What the first bytes of other sound files look like. */
const OTHERS: [RegExp, string][] = [
  [/^OggS/, "Ogg"],
  [/^fLaC/, "FLAC"],
  [/^(ID3|\xff[\xe2-\xfb])/, "MP3"],
  [/^FORM....AIF/s, "AIFF"],
  [/^....ftyp/s, "MP4"],
  [/^RIFX/, "big-endian RIFX"],
];

/** Finds format and samples without reading the samples. Throws without the file's name. */
export async function readWavFormat(file: RangedFile): Promise<WavFormat> {
  const riff = await bytesAt(file, 0, Math.min(12, file.size));
  const latin = (bytes: Uint8Array) => String.fromCharCode(...bytes);
  const kind = latin(riff.subarray(0, 4));
  if ((kind !== "RIFF" && kind !== "RF64") || latin(riff.subarray(8)) !== "WAVE") {
    const other = OTHERS.find(([pattern]) => pattern.test(latin(riff)))?.[1];
    const found = file.size === 0 ? "the file is empty" : other ? `it is ${other}` : "it is not a sound file";
    throw new SyntaxError(`${found}, expected RIFF/WAVE`);
  }
  const streamed = [0, 0xffffffff].includes(word(riff, 4));
  let format: Omit<WavFormat, "frames" | "position"> | undefined;
  let longSize: number | undefined;
  for (let position = 12; position + 8 <= file.size; ) {
    const head = await bytesAt(file, position, 8);
    const id = latin(head.subarray(0, 4));
    const rest = file.size - position - 8;
    let size = word(head, 4);
    if (id === "data") {
      if (!format) throw new SyntaxError("the data stands before the fmt chunk");
      size = dataSize(longSize ?? size, rest, streamed);
      const frames = Math.floor(size / (format.bytesPerSample * format.channels));
      if (frames === 0) throw new RangeError("it holds no samples");
      return { ...format, frames, position: position + 8 };
    }
    if (size > rest)
      throw new SyntaxError(`chunk ${JSON.stringify(id)} has ${size} bytes, but only ${rest} follow`);
    if (id === "fmt ") format = parseFormat(await bytesAt(file, position + 8, Math.min(size, 40)));
    if (id === "ds64" && size >= 16) {
      const sizes = await bytesAt(file, position + 8, 16);
      longSize = Number(new DataView(sizes.buffer).getBigUint64(8, true));
    }
    position += 8 + size + (size % 2);
  }
  throw new SyntaxError(`it has no ${format ? "data" : "fmt"} chunk`);
}

/** Programs that write to a pipe leave 0, 2^32 - 1 or nearly 2^31 for a length that they do not know yet. */
function dataSize(size: number, rest: number, streamed: boolean): number {
  if (size > rest && (size >= 0x7fff0000 || streamed)) return rest;
  if (size === 0 && streamed) return rest;
  if (size > rest)
    throw new SyntaxError(`it is cut off: ${size} bytes of samples announced, ${rest} are there`);
  return size;
}

function parseFormat(bytes: Uint8Array): Omit<WavFormat, "frames" | "position"> {
  if (bytes.length < 16)
    throw new SyntaxError(`the fmt chunk has ${bytes.length} bytes, at least 16 expected`);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let tag = view.getUint16(0, true);
  const channels = view.getUint16(2, true);
  const sampleRate = view.getUint32(4, true);
  const block = view.getUint16(12, true);
  const bits = view.getUint16(14, true);
  if (tag === EXTENSIBLE) {
    if (bytes.length < 40)
      throw new SyntaxError(`the extensible fmt chunk has ${bytes.length} bytes, 40 expected`);
    const tail = [...bytes.subarray(26, 40)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (tail !== GUID_TAIL) throw new SyntaxError("its sub-format is unknown, expected PCM or float");
    tag = view.getUint16(24, true);
  }
  if (tag !== INTEGER && tag !== FLOAT) {
    throw new SyntaxError(`its codec is ${CODECS[tag] ?? "unknown"} (tag ${tag}), expected PCM or float`);
  }
  if (channels === 0) throw new RangeError("it has 0 channels");
  if (sampleRate < 1000 || sampleRate > 384000) {
    throw new RangeError(`its rate is ${sampleRate} Hz, expected 1000 to 384000`);
  }
  const encoding = tag === FLOAT ? "float" : "integer";
  const bytesPerSample = Math.ceil(bits / 8);
  const widths = encoding === "float" ? [4, 8] : [1, 2, 3, 4];
  if (!widths.includes(bytesPerSample)) {
    throw new RangeError(
      `its samples are ${encoding}s of ${bits} bits, expected ${widths.map((w) => 8 * w).join(", ")}`,
    );
  }
  if (block !== bytesPerSample * channels) {
    throw new SyntaxError(
      `its frames are ${block} bytes, but ${channels} channels of ${bits} bits take ${bytesPerSample * channels}`,
    );
  }
  return { sampleRate, channels, encoding, bytesPerSample };
}

/** All samples as the mean over the channels, integers scaled to [-1, 1). Reads in pieces. */
export async function readMono(file: RangedFile, format: WavFormat): Promise<Float32Array> {
  const { channels, frames, bytesPerSample } = format;
  const sample = decoder(format);
  const mono = new Float32Array(frames);
  const step = bytesPerSample * channels;
  const piece = Math.max(1, Math.floor((1 << 20) / step));
  for (let first = 0; first < frames; first += piece) {
    const count = Math.min(piece, frames - first);
    const bytes = await bytesAt(file, format.position + first * step, count * step);
    const view = new DataView(bytes.buffer);
    for (let i = 0, at = 0; i < count; i++) {
      let sum = 0;
      for (let c = 0; c < channels; c++, at += bytesPerSample) sum += sample(view, at);
      mono[first + i] = sum / channels;
    }
  }
  return mono;
}

function decoder({ encoding, bytesPerSample }: WavFormat): (view: DataView, at: number) => number {
  if (encoding === "float") {
    return bytesPerSample === 4 ? (v, at) => v.getFloat32(at, true) : (v, at) => v.getFloat64(at, true);
  }
  switch (bytesPerSample) {
    case 1:
      return (v, at) => (v.getUint8(at) - 128) / 128; // 8 bits alone are unsigned
    case 2:
      return (v, at) => v.getInt16(at, true) / 2 ** 15;
    case 3:
      return (v, at) => (v.getUint8(at) + v.getInt16(at + 1, true) * 256) / 2 ** 23;
    default:
      return (v, at) => v.getInt32(at, true) / 2 ** 31;
  }
}

/** Writes mono 16-bit PCM; values outside [-1, 1) are clipped. The file appears only when complete. */
export async function writeWav16(
  host: Host,
  path: string,
  samples: Float32Array,
  sampleRate = 16000,
): Promise<void> {
  const bytes = new Uint8Array(44 + 2 * samples.length);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode("RIFF    WAVEfmt "));
  view.setUint32(4, bytes.length - 8, true);
  view.setUint32(16, 16, true);
  view.setUint16(20, INTEGER, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  bytes.set(new TextEncoder().encode("data"), 36);
  view.setUint32(40, 2 * samples.length, true);
  for (let i = 0; i < samples.length; i++) {
    const value = Math.round(samples[i] * 32768);
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, value)), true);
  }
  await writeWhole(host, path, bytes);
}

async function bytesAt(file: RangedFile, position: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await file.read(bytes, position);
  return bytes;
}

function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
}

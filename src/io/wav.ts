/**
 * The header of RIFF/WAVE, RF64 and BW64 files: integer PCM of 8 to 32 bits, float of 32 and 64 bits, mu-law and A-law, any rate,
 * any number of channels. wav_samples.ts reads the samples.
 *
 * Programs that write to a pipe do not know the length, and some write a wrong one. Where players read such a file to its end, so
 * does this reader, with a note. A file that lacks more bytes than a miscount explains is refused.
 */

import type { Host, RangedFile } from "../host/host.ts";
import { HEAD_BYTES, kindOfFile } from "./file_kinds.ts";
import { writeWhole } from "./write_whole.ts";

/** Format and position of the samples in a file. */
export interface WavFormat {
  sampleRate: number;
  channels: number;
  /** Number of samples of each channel. */
  frames: number;
  encoding: "integer" | "float" | "mu-law" | "A-law";
  bytesPerSample: number;
  /** Samples of at most 24 bits in 4 bytes; "unknown": they may also be floats, as old programs wrote them. */
  padded?: "integer" | "unknown";
  /** Byte of the file at which the samples begin. */
  position: number;
  /** How the length differs from the header, and what was done about it. */
  note?: string;
}

type Encoding = Omit<WavFormat, "frames" | "position" | "note">;

const EXTENSIBLE = 0xfffe;
const ENCODINGS: Record<number, WavFormat["encoding"]> = {
  1: "integer",
  3: "float",
  6: "A-law",
  7: "mu-law",
};
const WIDTHS = { integer: [1, 2, 3, 4], float: [4, 8], "mu-law": [1], "A-law": [1] };
const CODECS: Record<number, string> = {
  2: "Microsoft ADPCM",
  17: "IMA ADPCM",
  49: "GSM 6.10",
  80: "MPEG",
  85: "MP3",
  255: "AAC",
};
/** The GUID of a format in WAVE_FORMAT_EXTENSIBLE without its first two bytes, which are the tag. */
const GUID_TAIL = "000000001000800000aa00389b71";

/** Chunks that recorders write. */
const KNOWN = new Set("data,fmt ,fact,LIST,JUNK,bext,iXML,cue ,smpl,inst,PEAK,id3 ,ID3 ".split(","));

/** Bytes of the header that are read at a time, so that many small chunks do not take as many reads. */
const READ_BYTES = 4096;
/** More chunks than any audio file has. */
const MAX_CHUNKS = 10_000;
/** Lengths from here on mean an unknown one: programs write 10^9, 2·10^9, almost 2^31 or 2^32 − 1. */
const UNKNOWN_LENGTH = 1e9;
/** Missing bytes up to here are a miscount, as by a program that counts the header too. */
const MAX_MISCOUNT = 128;

/** Reads the header, but no samples. Throws a SyntaxError or a RangeError without the file's name. */
export async function readWavFormat(file: RangedFile): Promise<WavFormat> {
  const header = new BufferedReader(file);
  const riffSize = await readRiff(header);
  let format: Encoding | undefined;
  let longSize: number | undefined;
  for (let position = 12, chunks = 0; position + 8 <= file.size; chunks++) {
    if (chunks === MAX_CHUNKS) throw new RangeError(`it has ${MAX_CHUNKS} chunks before its samples`);
    const { id, size } = await header.chunk(position);
    const rest = file.size - position - 8;
    if (id === "data") {
      if (!format) throw new SyntaxError("the data stands before the fmt chunk");
      const announced = size === 0xffffffff ? (longSize ?? size) : size;
      const place = { position: position + 8, announced, riffSize };
      const { bytes, note } = await sizeOfData(header, place, format);
      const frames = Math.floor(bytes / (format.bytesPerSample * format.channels));
      if (frames === 0) throw new RangeError("it holds no samples");
      return { ...format, frames, position: position + 8, ...(note ? { note } : {}) };
    }
    if (size > rest)
      throw new SyntaxError(`chunk ${JSON.stringify(id)} has ${size} bytes, but only ${rest} follow`);
    if (id === "fmt ") format = parseFormat(await header.read(position + 8, Math.min(size, 40)));
    if (id === "ds64" && size >= 16) {
      const sizes = await header.read(position + 8, 16);
      longSize = Number(new DataView(sizes.buffer, sizes.byteOffset).getBigUint64(8, true));
    }
    position = await header.nextChunk(position, size);
  }
  throw new SyntaxError(`it has no ${format ? "data" : "fmt"} chunk`);
}

/** The length in the first 12 bytes. Throws where it is no WAVE file. */
async function readRiff(header: BufferedReader): Promise<number> {
  const { size } = header.file;
  const head = await header.read(0, Math.min(HEAD_BYTES, size));
  const isWave = ["RIFF", "RF64", "BW64"].includes(latin(head.subarray(0, 4)));
  if (isWave && latin(head.subarray(8, 12)) === "WAVE") return uint32(head, 4);
  const kind = kindOfFile(head);
  const found = size === 0 ? "the file is empty" : kind ? `it is ${kind}` : "it is not a sound file";
  throw new SyntaxError(`${found}, expected RIFF/WAVE`);
}

/** Number of bytes of samples that the file really has. */
async function sizeOfData(
  header: BufferedReader,
  { position, announced, riffSize }: { position: number; announced: number; riffSize: number },
  { sampleRate, bytesPerSample, channels }: Encoding,
): Promise<{ bytes: number; note?: string }> {
  const fileSize = header.file.size;
  const rest = fileSize - position;
  const streamed = riffSize === 0 || riffSize === 0xffffffff;
  const toTheEnd = (said: string) => ({ bytes: rest, note: `${said}: read to the end of the file` });
  if (announced > rest) {
    if (announced >= UNKNOWN_LENGTH || streamed) return toTheEnd("its header leaves the length open");
    // Where the file is as long as its RIFF length, it is complete, and the length of the data chunk is wrong.
    const whole = Math.abs(riffSize + 8 - fileSize) <= 1;
    if (whole || announced - rest <= MAX_MISCOUNT)
      return toTheEnd(`its header announces ${announced} bytes of samples, ${rest} are there`);
    throw new SyntaxError(`it is cut off: ${announced} bytes of samples announced, ${rest} are there`);
  }
  const behind = await header.nextChunk(position - 8, announced);
  const next = await whatFollows(header, behind);
  if (announced === 0 && rest > 0 && (streamed || next === "others"))
    return toTheEnd("its header leaves the length open");
  const unread = fileSize - behind;
  if (next === "data") return { bytes: announced, note: "only its first data chunk is read" };
  if (next === "others" && unread >= 0.025 * sampleRate * bytesPerSample * channels)
    return { bytes: announced, note: `${unread} bytes behind its samples are not read` };
  return { bytes: announced };
}

/** What follows the samples: well-formed chunks to the end of the file, a data chunk among them, or something else. */
async function whatFollows(header: BufferedReader, from: number): Promise<"chunks" | "data" | "others"> {
  let found: "chunks" | "data" = "chunks";
  let position = from;
  for (let chunks = 0; position + 8 <= header.file.size; chunks++) {
    const { id, size } = await header.chunk(position);
    if (chunks === MAX_CHUNKS || id === "RIFF" || !/^[ -~]{4}$/.test(id)) return "others";
    if (id === "data") found = "data";
    position = await header.nextChunk(position, size);
  }
  return position <= header.file.size + 1 ? found : "others";
}

function parseFormat(bytes: Uint8Array): Encoding {
  if (bytes.length < 16)
    throw new SyntaxError(`the fmt chunk has ${bytes.length} bytes, at least 16 expected`);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let tag = view.getUint16(0, true);
  const channels = view.getUint16(2, true);
  const sampleRate = view.getUint32(4, true);
  const block = view.getUint16(12, true);
  let bits = view.getUint16(14, true);
  const extensible = tag === EXTENSIBLE;
  let bytesPerSample = Math.ceil(bits / 8);
  if (extensible) {
    if (bytes.length < 40)
      throw new SyntaxError(`the extensible fmt chunk has ${bytes.length} bytes, 40 expected`);
    const tail = [...bytes.subarray(26, 40)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (tail !== GUID_TAIL) throw new SyntaxError("its sub-format is unknown, expected PCM or float");
    bits = Math.min(bits, view.getUint16(18, true) || bits); // the valid bits of the container
    tag = view.getUint16(24, true);
  }
  const encoding = ENCODINGS[tag];
  if (!encoding)
    throw new SyntaxError(`its codec is ${CODECS[tag] ?? "unknown"} (tag ${tag}), expected PCM or float`);
  if (channels === 0) throw new RangeError("it has 0 channels");
  if (sampleRate < 1000 || sampleRate > 384000) {
    throw new RangeError(`its rate is ${sampleRate} Hz, expected 1000 to 384000`);
  }
  if (bytesPerSample === 3 && encoding === "integer" && block === 4 * channels) bytesPerSample = 4;
  const widths = WIDTHS[encoding];
  if (!widths.includes(bytesPerSample)) {
    const plural = encoding.endsWith("law") ? encoding : `${encoding}s`;
    throw new RangeError(
      `its samples are ${plural} of ${view.getUint16(14, true)} bits, expected ${widths.map((w) => 8 * w).join(", ")}`,
    );
  }
  if (block !== bytesPerSample * channels) {
    throw new SyntaxError(
      `its frames are ${block} bytes, but ${channels} channels of ${view.getUint16(14, true)} bits take ${bytesPerSample * channels}`,
    );
  }
  const padded = encoding === "integer" && bytesPerSample === 4 && bits <= 24;
  const format = { sampleRate, channels, encoding, bytesPerSample };
  return padded ? { ...format, padded: extensible ? "integer" : "unknown" } : format;
}

/** Writes samples (N) as mono 16-bit PCM; values outside [-1, 1) are clipped. The file appears only when complete. */
export async function writeWav16(
  host: Host,
  path: string,
  samples: Float32Array,
  sampleRate = 16000,
): Promise<void> {
  await writeWhole(host, path, wav16Bytes(samples, sampleRate));
}

/** The bytes of such a file. */
export function wav16Bytes(samples: Float32Array, sampleRate = 16000): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(44 + 2 * samples.length);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode("RIFF    WAVEfmt "));
  view.setUint32(4, bytes.length - 8, true);
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // integers
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
  return bytes;
}

/** Reads a file through a buffer, for small reads one after another. */
class BufferedReader {
  readonly file: RangedFile;
  #bytes = new Uint8Array(0);
  #start = 0;

  constructor(file: RangedFile) {
    this.file = file;
  }

  /** Bytes of the file; later reads do not overwrite them. */
  async read(position: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    const begin = position - this.#start;
    if (begin >= 0 && begin + length <= this.#bytes.length)
      return this.#bytes.subarray(begin, begin + length);
    const bytes = new Uint8Array(Math.min(Math.max(READ_BYTES, length), this.file.size - position));
    await this.file.read(bytes, position);
    [this.#bytes, this.#start] = [bytes, position];
    return bytes.subarray(0, length);
  }

  /** The header of the chunk at `position`. */
  async chunk(position: number): Promise<{ id: string; size: number }> {
    const head = await this.read(position, 8);
    return { id: latin(head.subarray(0, 4)), size: uint32(head, 4) };
  }

  /** Position of the chunk after that at `position`. A byte of padding follows an odd size, but some programs omit it. */
  async nextChunk(position: number, size: number): Promise<number> {
    const end = position + 8 + size;
    if (size % 2 === 0 || end + 9 > this.file.size) return end + (size % 2);
    const bytes = await this.read(end, 9);
    if (bytes[0] === 0) return end + 1;
    const isChunk = (at: number) =>
      /^[ -~]{4}$/.test(latin(bytes.subarray(at, at + 4))) && uint32(bytes, at + 4) <= this.file.size - end;
    const omitted = KNOWN.has(latin(bytes.subarray(0, 4))) || (isChunk(0) && !isChunk(1));
    return omitted ? end : end + 1;
  }
}

const latin = (bytes: Uint8Array) => String.fromCharCode(...bytes);

const uint32 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

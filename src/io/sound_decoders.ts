/** Decoders of MP3, FLAC, Ogg Vorbis and Ogg Opus: WebAssembly builds of mpg123, libFLAC, libvorbis and libopus, loaded on use. */
import type { RangedFile } from "../host/host.ts";

/** What a piece of a file was decoded to. */
export interface DecodedSound {
  /** (frames) of each channel. */
  readonly channelData: readonly Float32Array[];
  readonly sampleRate: number;
  /** What could not be decoded. */
  readonly errors: readonly unknown[];
}

/** Decodes a file that comes in pieces. */
export interface SoundDecoder {
  /** Decodes what the next bytes complete. */
  decode(bytes: Uint8Array<ArrayBuffer>): Promise<DecodedSound>;
  /** Decodes what is left. */
  flush(): Promise<DecodedSound>;
  /** Frees its memory. */
  free(): void;
}

/** A compressed file. */
export interface CompressedSound {
  readonly decoder: SoundDecoder;
  /** Length by the header; absent where that does not tell. */
  readonly seconds?: number;
  /** What is irregular about it. */
  readonly note?: string;
}

/** Most bytes of an Ogg page, and of its header. */
const [PAGE_BYTES, PAGE_HEADER] = [65_307, 27];
/** Bytes that an MP3 file may lack of what it announces: taggers count differently. */
const MAX_MISCOUNT = 4096;

const NOTHING: DecodedSound = { channelData: [], sampleRate: 0, errors: [] };

/** Opens the decoder of a file that begins with `head`. Throws a SyntaxError for a codec that is not known and for a file that is cut off. */
export async function openCompressed(
  file: RangedFile,
  kind: "MP3" | "FLAC" | "Ogg",
  head: Uint8Array<ArrayBuffer>,
): Promise<CompressedSound> {
  switch (kind) {
    case "MP3":
      return { seconds: await mp3Seconds(file, head), decoder: await openMp3() };
    case "FLAC":
      return { decoder: await openFlac(), seconds: flacSeconds(head) };
    case "Ogg":
      return await openOgg(file, head);
  }
}

async function openMp3(): Promise<SoundDecoder> {
  const { MPEGDecoder } = await import("mpg123-decoder");
  const decoder = new MPEGDecoder();
  await decoder.ready;
  return {
    decode: async (bytes) => quietly(() => decoder.decode(bytes)),
    flush: async () => NOTHING,
    free: () => decoder.free(),
  };
}

async function openFlac(): Promise<SoundDecoder> {
  const { FLACDecoder } = await import("@wasm-audio-decoders/flac");
  const decoder = new FLACDecoder();
  await decoder.ready;
  // The package divides integers of b bits by 2^(b−1) − 1, WAV readers by 2^(b−1).
  const rescaled = ({ bitDepth, ...decoded }: Awaited<ReturnType<typeof decoder.flush>>): DecodedSound => {
    const full = 2 ** (bitDepth - 1);
    for (const samples of decoded.channelData)
      for (let i = 0; i < samples.length; i++) samples[i] = Math.round(samples[i] * (full - 1)) / full;
    return decoded;
  };
  return {
    decode: async (bytes) => rescaled(await decoder.decode(bytes)),
    flush: async () => rescaled(await decoder.flush()),
    free: () => decoder.free(),
  };
}

async function openOgg(file: RangedFile, head: Uint8Array): Promise<CompressedSound> {
  const packet = latin(head.subarray(28, 28 + 64));
  const view = new DataView(head.buffer);
  const { granule, note } = await lastPage(file);
  if (packet.startsWith("OpusHead")) {
    const preSkip = view.getUint16(38, true);
    const [gain, channels] = [view.getInt16(44, true) / 256, view.getUint8(37)];
    if (channels === 0) throw new RangeError("it has 0 channels");
    return { decoder: await openOpus(10 ** (gain / 20)), seconds: (granule - preSkip) / 48_000, note };
  }
  if (packet.startsWith("\x01vorbis")) {
    if (view.getUint8(39) === 0) throw new RangeError("it has 0 channels");
    const { OggVorbisDecoder } = await import("@wasm-audio-decoders/ogg-vorbis");
    const decoder = new OggVorbisDecoder();
    await decoder.ready;
    return { decoder, seconds: granule / view.getUint32(40, true), note };
  }
  if (packet.startsWith("\x7fFLAC")) return { decoder: await openFlac(), note };
  const codec = /^Speex/.test(packet) ? "Speex" : /^\x80theora/.test(packet) ? "Theora (video)" : "unknown";
  throw new SyntaxError(`it is Ogg of the codec ${codec}, expected Vorbis, Opus or FLAC`);
}

/** Ogg pages → packets → samples at 48 kHz, without those before the pre-skip and behind the last page's granule position. */
async function openOpus(gain: number): Promise<SoundDecoder> {
  const [{ OpusDecoder }, { default: CodecParser }] = await Promise.all([
    import("opus-decoder"),
    import("codec-parser"),
  ]);
  const parser = new CodecParser("audio/ogg", { enableFrameCRC32: false });
  let decoder: InstanceType<typeof OpusDecoder> | undefined;
  let total = 0;
  const decodePages = async (pages: unknown): Promise<DecodedSound> => {
    const list = [...(pages as Iterable<OpusPage>)];
    const frames = list.flatMap(({ codecFrames }) => codecFrames);
    if (frames.length === 0) return NOTHING;
    const { channels, streamCount, coupledStreamCount, channelMappingTable, preSkip } = frames[0].header;
    decoder ??= new OpusDecoder({ channels, streamCount, coupledStreamCount, channelMappingTable, preSkip });
    await decoder.ready;
    const opened = decoder;
    const { channelData, samplesDecoded, sampleRate, errors } = quietly(() =>
      opened.decodeFrames(frames.map(({ data }) => data)),
    );
    total += samplesDecoded;
    const last = list.at(-1)!;
    const beyond = last.isLastPage ? Math.max(0, total - last.totalSamples) : 0;
    const kept = channelData.map((samples) => samples.subarray(0, Math.max(0, samplesDecoded - beyond)));
    if (gain !== 1) for (const samples of kept) for (let i = 0; i < samples.length; i++) samples[i] *= gain;
    return { channelData: kept, sampleRate, errors };
  };
  return {
    decode: (bytes) => decodePages(parser.parseChunk(bytes)),
    flush: () => decodePages(parser.flush()),
    free: () => decoder?.free(),
  };
}

/** What is read of codec-parser's pages. */
interface OpusPage {
  readonly isLastPage: boolean;
  readonly totalSamples: number;
  readonly codecFrames: readonly {
    readonly data: Uint8Array;
    readonly header: {
      readonly channels: number;
      readonly streamCount: number;
      readonly coupledStreamCount: number;
      readonly channelMappingTable: number[];
      readonly preSkip: number;
    };
  }[];
}

/** The granule position of the last page. Throws a SyntaxError where that page is cut off. */
async function lastPage(file: RangedFile): Promise<{ granule: number; note?: string }> {
  const bytes = new Uint8Array(Math.min(file.size, 2 * PAGE_BYTES));
  await file.read(bytes, file.size - bytes.length);
  let at = bytes.length - 4;
  while (at >= 0 && latin(bytes.subarray(at, at + 4)) !== "OggS") at--;
  const rest = bytes.subarray(Math.max(0, at));
  const segments = rest.length > PAGE_HEADER ? rest[26] : 256;
  const sizes = rest.subarray(PAGE_HEADER, PAGE_HEADER + segments);
  const size = PAGE_HEADER + segments + sizes.reduce((a, b) => a + b, 0);
  if (at < 0 || sizes.length < segments || size > rest.length)
    throw new SyntaxError("it is cut off: its last page is not complete");
  const view = new DataView(rest.buffer, rest.byteOffset);
  const granule = Number(view.getBigInt64(6, true));
  return (rest[5] & 4) === 0
    ? { granule, note: "its last page does not say that it is the last: read to the end of the file" }
    : { granule };
}

/** The length in STREAMINFO; undefined where that leaves it open. */
function flacSeconds(head: Uint8Array): number | undefined {
  if (latin(head.subarray(0, 4)) !== "fLaC" || head.length < 26) return undefined;
  const view = new DataView(head.buffer, head.byteOffset);
  const rate = view.getUint32(18) >>> 12;
  const frames = (head[21] & 15) * 2 ** 32 + view.getUint32(22);
  return rate > 0 && frames > 0 ? frames / rate : undefined;
}

/**
 * The length that the Xing or Info tag of an MP3's first frame announces, at least; undefined where there is none. Throws a
 * SyntaxError where the file has fewer bytes than that announces.
 */
async function mp3Seconds(file: RangedFile, head: Uint8Array): Promise<number | undefined> {
  const tagged = latin(head.subarray(0, 3)) === "ID3";
  const tag = tagged ? 10 + head.subarray(6, 10).reduce((size, byte) => size * 128 + (byte & 127), 0) : 0;
  if (tag + 4 > file.size) throw new SyntaxError("it is cut off: it ends within its ID3 tag");
  const frame = new Uint8Array(Math.min(256, file.size - tag));
  await file.read(frame, tag);
  const at = latin(frame).search(/Xing|Info/);
  if (at < 4 || at + 16 > frame.length || frame[0] !== 0xff) return undefined;
  const view = new DataView(frame.buffer, at);
  const flags = view.getUint32(4);
  const present = file.size - tag;
  const announced = flags & 2 ? view.getUint32(flags & 1 ? 12 : 8) : 0;
  if (announced - present > MAX_MISCOUNT)
    throw new SyntaxError(`it is cut off: ${announced} bytes of frames announced, ${present} are there`);
  const version = (frame[1] >> 3) & 3; // 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
  const rate = [44_100, 48_000, 32_000][(frame[2] >> 2) & 3];
  if ((flags & 1) === 0 || version === 1 || rate === undefined) return undefined;
  const samples = version === 3 ? 1152 : 576;
  // The delay of the encoder and its padding, up to 4 frames, are not among the samples.
  const frames = Math.max(0, view.getUint32(8) - 4);
  return (frames * samples) / (rate / [4, 0, 2, 1][version]);
}

/** Runs what prints each damaged frame: they are counted. */
function quietly<T>(run: () => T): T {
  const { error } = console;
  console.error = () => {};
  try {
    return run();
  } finally {
    console.error = error;
  }
}

const latin = (bytes: Uint8Array) => String.fromCharCode(...bytes);

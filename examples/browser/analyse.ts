/** A recording through the model: words, emotion over time, gates over time, and how long the kernels took. */
import {
  type DecodedWord,
  type ProfileEvent,
  type Recognition,
  type RecognizedSegment,
  type Recognizer,
  recognizeLong,
  type Tensor,
} from "wavegate";
import { Outline } from "./outline.ts";

const RATE = 16000;
/** Seconds of the longest recording that is recognised as a whole; longer ones are by their segments of speech, as in Node. */
const WINDOW = 30;
/** Seconds of a longer one of which the kernels are timed. */
export const TIMED = 5;

/** A value over time. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly value: number;
}

/** Probabilities over time. */
export interface EmotionSpan {
  readonly start: number;
  readonly end: number;
  readonly probabilities: Readonly<Record<string, number>>;
}

/** What the page shows of a recording. */
export interface Analysis {
  readonly seconds: number;
  readonly silent: boolean;
  /** Undefined where the model writes no words. */
  readonly text?: string;
  readonly words: readonly DecodedWord[];
  readonly probabilities?: Readonly<Record<string, number>>;
  /** Of frames of speech, or with `segments` of each of these. */
  readonly speechGates: readonly Span[];
  /** Of words, or with `segments` of each of these. */
  readonly textGates: readonly Span[];
  /** Segments of speech; undefined where the recording was recognised as a whole. */
  readonly segments?: readonly RecognizedSegment[];
  /** That the recognition took. */
  readonly milliseconds: number;
}

/** A recording that was read to its end, and what was recognised. */
export interface Heard {
  readonly found: Analysis;
  readonly outline: Outline;
  /** Its first seconds, or all of it where it is short. */
  readonly samples: Float32Array;
}

/**
 * Recognises a recording of any length that comes in pieces, mono at 16 kHz. What is held of it is a window. While one that is longer is
 * heard, `onSeconds` is told how much was, and can ask what is known so far.
 */
export async function analyse(
  recognizer: Recognizer,
  pieces: AsyncIterable<Float32Array>,
  onSeconds: (seconds: number, known: () => Heard) => void,
): Promise<Heard> {
  const outline = new Outline();
  const read = outlined(pieces, outline)[Symbol.asyncIterator]();
  const first: Float32Array[] = [];
  const window = Math.min(WINDOW, recognizer.longest) * RATE;
  let [length, ended] = [0, false];
  while (length <= window && !ended) {
    const { value, done } = await read.next();
    ended = done === true;
    if (!value) continue;
    first.push(value);
    length += value.length;
  }
  const samples = joined(first, length);
  if (ended) return { found: await analyseWhole(recognizer, samples), outline, samples };

  const begin = performance.now();
  const segments: RecognizedSegment[] = [];
  const rest = { [Symbol.asyncIterator]: () => read };
  const head = samples.subarray(0, TIMED * RATE);
  const known = (recognition: Recognition): Heard => ({
    found: ofSegments(recognition, segments, performance.now() - begin),
    ...{ outline, samples: head },
  });
  const recognition = await recognizeLong(recognizer, chained(samples, rest), {
    onSegment: (segment) => segments.push(segment),
    onSeconds: (seconds) => onSeconds(seconds, () => known({ seconds })),
  });
  return known(recognition);
}

async function* outlined(pieces: AsyncIterable<Float32Array>, outline: Outline) {
  for await (const piece of pieces) {
    outline.push(piece);
    yield piece;
  }
}

async function* chained(first: Float32Array, rest: AsyncIterable<Float32Array>) {
  yield first;
  yield* rest;
}

function joined(parts: readonly Float32Array[], length: number): Float32Array {
  const all = new Float32Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function ofSegments(
  { seconds, transcript, probabilities }: Recognition,
  segments: readonly RecognizedSegment[],
  milliseconds: number,
): Analysis {
  const gates = (name: "acoustic" | "text") =>
    segments.flatMap(({ start, end, gates: own }) => (own ? [{ start, end, value: own[name] }] : []));
  return {
    ...{ seconds, silent: segments.length === 0, text: transcript?.text, probabilities, milliseconds },
    words: segments.flatMap((segment) => segment.transcript?.words ?? []),
    ...{ speechGates: gates("acoustic"), textGates: gates("text"), segments: [...segments] },
  };
}

/** Recognises a recording as a whole, with the gates of its frames and words. */
export async function analyseWhole(recognizer: Recognizer, samples: Float32Array): Promise<Analysis> {
  const begin = performance.now();
  const means: Partial<Record<string, Promise<number[]>>> = {};
  const observe = (name: string, tensor: Tensor) => {
    if (name === "cmgi.gate_s" || name === "cmgi.gate_t") means[name] = meansOf(tensor);
  };
  const [{ seconds, silent = false, transcript, probabilities }] = await recognizer.recognize([samples], {
    observe,
  });
  const words = transcript?.words ?? [];
  const [speech, text] = [(await means["cmgi.gate_s"]) ?? [], (await means["cmgi.gate_t"]) ?? []];
  const frame = seconds / speech.length;
  return {
    ...{ seconds, silent, text: transcript?.text, words, probabilities },
    speechGates: speech.map((value, t) => ({ start: t * frame, end: (t + 1) * frame, value })),
    textGates: await gatesOfWords(recognizer, words, text),
    milliseconds: performance.now() - begin,
  };
}

/** The means of (1, T, d) over d. */
async function meansOf(tensor: Tensor): Promise<number[]> {
  const [, T, d] = tensor.shape;
  const values = await tensor.read();
  return Array.from(
    { length: T },
    (_, t) => values.subarray(t * d, (t + 1) * d).reduce((a, x) => a + x, 0) / d,
  );
}

/** The gates of subwords, [CLS] first, as those of the words that they are parts of. */
async function gatesOfWords(
  { model }: Recognizer,
  words: readonly DecodedWord[],
  gates: readonly number[],
): Promise<Span[]> {
  const spans: Span[] = [];
  let at = 1;
  for (const { text, start, end } of words) {
    const count = ((await model.tokenizer?.encode(text))?.ids.length ?? 2) - 2;
    const own = gates.slice(at, at + count);
    if (own.length > 0) spans.push({ start, end, value: own.reduce((a, x) => a + x, 0) / own.length });
    at += count;
  }
  return spans;
}

/** Emotions over time. */
export interface Emotions {
  readonly spans: readonly EmotionSpan[];
  /** Of which the spans are, for the caption. */
  readonly note: string;
}

/** The emotions of segments. */
export const emotionsOfSegments = (segments: readonly RecognizedSegment[]): Emotions => ({
  spans: segments.flatMap(({ start, end, probabilities }) =>
    probabilities ? [{ start, end, probabilities }] : [],
  ),
  note: "of each segment of speech",
});

/**
 * Emotions of windows of a third of the recording, 1 to 3 s, at quarters of their length, each around its middle; none where it is
 * shorter than a second.
 */
export async function emotionsOfWindows(recognizer: Recognizer, samples: Float32Array): Promise<Emotions> {
  const length = Math.round(Math.min(3, Math.max(0.8, samples.length / RATE / 3)) * RATE);
  const count = Math.max(0, Math.floor((samples.length - length) / (length / 4)) + 1);
  const windows = Array.from({ length: count }, (_, i) => {
    const begin = Math.round((i * length) / 4);
    return samples.subarray(begin, begin + length);
  });
  const found = await recognizer.recognize(windows);
  const step = length / 4 / RATE;
  const spans = found.flatMap(({ probabilities }, i) =>
    probabilities ? [{ start: (i + 1.5) * step, end: (i + 2.5) * step, probabilities }] : [],
  );
  return { spans, note: `windows of ${(length / RATE).toFixed(1)} s, each recognised by itself` };
}

/** Every dispatch of one recognition, with timestamps; undefined where the adapter has none. */
export async function kernelsOf(
  recognizer: Recognizer,
  samples: Float32Array,
): Promise<readonly ProfileEvent[] | undefined> {
  const { device } = recognizer;
  if (!device.info.timestamps) return undefined;
  device.startProfile();
  const { profiler } = device.recorder;
  try {
    await recognizer.recognize([samples], { skipSilence: false });
  } finally {
    await device.endProfile();
  }
  return profiler?.events;
}

/** Recognises recordings of any length: segments of speech, the words joined across their borders, the emotion of each. */
import { SAMPLE_RATE } from "../../io/samples.ts";
import type { Transcript } from "../../io/decode.ts";
import { type Segment, type SegmentOptions, Segmenter, segmentOptions } from "../../io/segmenter.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";
import type { SpeechEmbedding } from "../system/inference.ts";
import type { Recognition, RecognizeOptions, Recognizer } from "../system/recognizer.ts";
import { cutOf, laterBy, transcriptOf } from "./join_words.ts";

/** What was recognised in a stretch of a recording. */
export interface RecognizedSegment extends Omit<Recognition, "seconds" | "silent"> {
  /** Its begin, in seconds from that of the recording, as the times of words. Segments do not overlap. */
  readonly start: number;
  /** Its end. */
  readonly end: number;
}

/** What was recognised in a recording of any length: of the whole, and of each segment. */
export interface LongRecognition extends Recognition {
  /** Means over the segments, weighted by their lengths, in `probabilities` and `gates`. */
  readonly segments: readonly RecognizedSegment[];
}

/** How the segments are recognised. */
type Recognizing = Pick<RecognizeOptions, "beam" | "languageModel" | "batch" | "embeddings">;

/** Options of recognizeLong(). */
export interface LongOptions extends SegmentOptions, Recognizing {
  /** Told of each segment once it is final, in order. */
  readonly onSegment?: (segment: RecognizedSegment) => void;
  /** Told how many seconds of the recording are done. */
  readonly onSeconds?: (seconds: number) => void;
}

/** Recognises segments, in order. */
export type RecognizeSegments = (
  audios: readonly Float32Array[],
  options: Recognizing,
) => Promise<Recognition[]>;

/** Seconds of speech that are recognised together: more occupies a GPU no better, and takes more memory. */
const GROUP_SECONDS = 60;

/**
 * Recognises a recording that comes in pieces, mono at 16 kHz: in time that grows with its length and in memory that does not, but
 * for what is returned. A longer stretch of speech than the adapter can bind is divided more finely than `maxSpeech` says.
 */
export async function recognizeLong(
  recognizer: Recognizer,
  pieces: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  options: LongOptions = {},
): Promise<LongRecognition> {
  const { vocabulary, longest } = recognizer;
  return await recognizeSegments(pieces, bounded(options, longest), vocabulary, (audios, each) =>
    recognizer.recognize(audios, each),
  );
}

/** The options with windows that the adapter can bind. */
export function bounded<O extends SegmentOptions>(options: O, longest: number): O {
  const { maxSpeech, overlap } = segmentOptions(options);
  const window = Math.min(maxSpeech, longest);
  return { ...options, maxSpeech: window, overlap: Math.min(overlap, window / 2) };
}

/** As recognizeLong(), by any function that recognises segments. */
export async function recognizeSegments(
  pieces: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  { onSegment, onSeconds, beam, languageModel, batch, embeddings, ...options }: LongOptions,
  vocabulary: CtcVocabulary | undefined,
  recognize: RecognizeSegments,
): Promise<LongRecognition> {
  const segmenter = new Segmenter(options);
  const joiner = new SegmentJoiner(vocabulary);
  const segments: RecognizedSegment[] = [];
  const done = (finished: readonly RecognizedSegment[]) => {
    for (const segment of finished) {
      segments.push(segment);
      onSegment?.(segment);
    }
  };
  let group: Segment[] = [];
  let grouped = 0;
  const flush = async () => {
    const found =
      group.length === 0
        ? []
        : await recognize(
            group.map(({ samples }) => samples),
            { beam, languageModel, batch, embeddings },
          );
    for (const [i, recognition] of found.entries()) done(joiner.push(group[i], recognition));
    [group, grouped] = [[], 0];
  };
  const take = async (found: readonly Segment[]) => {
    for (const segment of found) {
      group.push(segment);
      grouped += segment.samples.length;
      if (grouped >= GROUP_SECONDS * SAMPLE_RATE) await flush();
    }
  };
  for await (const piece of pieces) {
    await take(segmenter.push(piece));
    onSeconds?.(segmenter.samples / SAMPLE_RATE);
  }
  await take(segmenter.end());
  await flush();
  done(joiner.end());
  return overall(segments, segmenter.samples / SAMPLE_RATE, vocabulary);
}

/** Joins segments that overlap; each is final once the next has come. */
export class SegmentJoiner {
  readonly #vocabulary: CtcVocabulary | undefined;
  #last: RecognizedSegment | undefined;

  /** The vocabulary of the words. */
  constructor(vocabulary: CtcVocabulary | undefined) {
    this.#vocabulary = vocabulary;
  }

  /** Takes what was recognised in the next segment; gives the segment before, which is final. */
  push({ start, samples, continues }: Segment, recognition: Recognition): RecognizedSegment[] {
    const begin = start / SAMPLE_RATE;
    let next = placed(recognition, begin, begin + samples.length / SAMPLE_RATE);
    let last = this.#last;
    if (last && continues) [last, next] = this.#joined(last, next);
    this.#last = next;
    return last ? [last] : [];
  }

  /** The last segment. */
  end(): RecognizedSegment[] {
    const last = this.#last;
    this.#last = undefined;
    return last ? [last] : [];
  }

  #joined(first: RecognizedSegment, second: RecognizedSegment): [RecognizedSegment, RecognizedSegment] {
    const middle = (second.start + first.end) / 2;
    const [own, others] = [first.transcript?.words ?? [], second.transcript?.words ?? []];
    const { before, from } = cutOf(own, others, [second.start, first.end]);
    return [
      { ...first, end: middle, ...this.#words(own.slice(0, before), first.transcript) },
      { ...second, start: middle, ...this.#words(others.slice(from), second.transcript) },
    ];
  }

  #words = (words: Transcript["words"], of: Transcript | undefined) =>
    of && this.#vocabulary ? { transcript: transcriptOf(words, this.#vocabulary) } : {};
}

/** A recognition at its place in the recording. */
export function placed(
  { seconds: _, silent: __, transcript, embedding, ...rest }: Recognition,
  start: number,
  end: number,
): RecognizedSegment {
  const words = transcript && { ...transcript, words: transcript.words.map((word) => laterBy(start, word)) };
  const later: SpeechEmbedding | undefined = embedding && { ...embedding, start: embedding.start + start };
  return {
    ...{ start, end, ...rest },
    ...(words ? { transcript: words } : {}),
    ...(later ? { embedding: later } : {}),
  };
}

/** A recording as a whole: the words of all segments, and the means of the rest. */
export function overall(
  segments: readonly RecognizedSegment[],
  seconds: number,
  vocabulary: CtcVocabulary | undefined,
): LongRecognition {
  if (segments.length === 0) return { seconds, silent: true, segments };
  const written = segments.some(({ transcript }) => transcript);
  const words = segments.flatMap(({ transcript }) => transcript?.words ?? []);
  const probabilities = mean(segments, ({ probabilities }) => probabilities);
  const gates = mean(segments, ({ gates }) => gates);
  return {
    seconds,
    ...(written && vocabulary ? { transcript: transcriptOf(words, vocabulary) } : {}),
    ...(probabilities ? { emotion: likeliest(probabilities), probabilities } : {}),
    ...(gates ? { gates } : {}),
    segments,
  };
}

/** Means weighted by the lengths of the segments; undefined where none has such values. */
function mean<T extends Readonly<Record<string, number>>>(
  segments: readonly RecognizedSegment[],
  of: (segment: RecognizedSegment) => T | undefined,
): T | undefined {
  const sums: Record<string, number> = {};
  let weight = 0;
  for (const segment of segments) {
    const values = of(segment);
    if (!values) continue;
    const length = segment.end - segment.start;
    weight += length;
    for (const [name, value] of Object.entries(values)) sums[name] = (sums[name] ?? 0) + length * value;
  }
  if (weight === 0) return undefined;
  return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / weight])) as T;
}

const likeliest = (p: Readonly<Record<string, number>>): string =>
  Object.keys(p).reduce((best, label) => (p[label] > p[best] ? label : best));

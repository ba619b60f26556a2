/** Recognises speech while it is spoken: chunks of samples in, partial words and a running emotion out. */
import { SAMPLE_RATE } from "../../io/samples.ts";
import { Resampler } from "../../io/resample.ts";
import { type Segment, type SegmentOptions, Segmenter } from "../../io/segmenter.ts";
import type { RecognizeOptions, Recognizer } from "../system/recognizer.ts";
import {
  bounded,
  type LongRecognition,
  overall,
  placed,
  type RecognizedSegment,
  SegmentJoiner,
} from "./long.ts";

/** Options of SpeechStream. */
export interface StreamOptions extends SegmentOptions, Pick<RecognizeOptions, "beam" | "languageModel"> {
  /** Hz of the samples, an integer. Default 16000. */
  readonly sampleRate?: number;
  /** Seconds of new sound after which a segment that goes on is recognised anew. Default 0.5. */
  readonly interval?: number;
}

/** What is known after a chunk. */
export interface StreamUpdate {
  /** Seconds of sound so far. */
  readonly seconds: number;
  /** Segments that have become final with this chunk. */
  readonly final: readonly RecognizedSegment[];
  /** The segment that goes on, with its words and its emotion so far; they may change. Absent between segments. */
  readonly partial?: RecognizedSegment;
  /** Milliseconds that the model took for this update; 0 where it did not run. */
  readonly milliseconds: number;
}

/**
 * A running recognition. Chunks may be of any length; a segment is final after `minSilence` of silence, or where it is as long as
 * a window. Calls are answered one after another.
 *
 * @example
 * ```ts
 * const recognizer = await openRecognizer(host, device, bundledModel());
 * const { samples } = await readWav(host, `${bundledModel()}/clips/Ses05F_impro03_F000.wav`);
 * const stream = new SpeechStream(recognizer);
 * await stream.push(samples.subarray(0, 12_000));
 * await stream.push(samples.subarray(12_000));
 * const { segments } = await stream.end();
 * console.log(segments.length); // 1
 * recognizer.dispose();
 * ```
 */
export class SpeechStream {
  readonly #recognizer: Recognizer;
  readonly #options: StreamOptions;
  readonly #segmenter: Segmenter;
  readonly #resampler: Resampler;
  readonly #joiner: SegmentJoiner;
  readonly #final: RecognizedSegment[] = [];
  #partial: RecognizedSegment | undefined;
  /** Seconds of sound at which a partial answer was last given. */
  #asked = 0;
  #queue: Promise<unknown> = Promise.resolve();

  /** Throws a RangeError for options that contradict each other. */
  constructor(recognizer: Recognizer, { sampleRate = SAMPLE_RATE, ...options }: StreamOptions = {}) {
    this.#recognizer = recognizer;
    this.#options = options;
    if (!(Number.isInteger(sampleRate) && sampleRate >= 1000 && sampleRate <= 384_000))
      throw new RangeError(`Cannot hear at ${sampleRate} Hz: a whole number from 1000 to 384000 expected`);
    const { interval: _, beam: __, languageModel: ___, ...segments } = options;
    this.#segmenter = new Segmenter(bounded(segments, recognizer.longest));
    this.#resampler = new Resampler(sampleRate, SAMPLE_RATE);
    this.#joiner = new SegmentJoiner(recognizer.vocabulary);
  }

  /** Takes the next samples, mono; resolves once they are heard. */
  push(samples: Float32Array): Promise<StreamUpdate> {
    return this.#next(() => this.#hear(this.#segmenter.push(this.#resampler.push(samples))));
  }

  /** Ends the recording: what was recognised in all of it. */
  end(): Promise<LongRecognition> {
    return this.#next(async () => {
      const last = this.#segmenter.push(this.#resampler.end());
      await this.#hear([...last, ...this.#segmenter.end()]);
      this.#final.push(...this.#joiner.end());
      return overall(this.#final, this.#segmenter.samples / SAMPLE_RATE, this.#recognizer.vocabulary);
    });
  }

  #next<T>(run: () => Promise<T>): Promise<T> {
    const answer = this.#queue.then(run);
    this.#queue = answer.catch(() => {});
    return answer;
  }

  async #hear(found: readonly Segment[]): Promise<StreamUpdate> {
    const { interval = 0.5, beam, languageModel } = this.#options;
    const begin = performance.now();
    const seconds = this.#segmenter.samples / SAMPLE_RATE;
    const before = this.#final.length;
    let ran = false;
    const recognize = async ({ samples }: Segment, isEnd = true) => {
      ran = true;
      const [recognition] = await this.#recognizer.recognize([samples], { beam, languageModel, isEnd });
      return recognition;
    };
    for (const segment of found) {
      this.#final.push(...this.#joiner.push(segment, await recognize(segment)));
      this.#partial = undefined;
    }
    const { open } = this.#segmenter;
    // No segment that is to come overlaps the last: it is final.
    if (!this.#segmenter.goesOn) this.#final.push(...this.#joiner.end());
    if (!open) this.#partial = undefined;
    else if (seconds - this.#asked >= interval) {
      const start = open.start / SAMPLE_RATE;
      const end = start + open.samples.length / SAMPLE_RATE;
      this.#partial = placed(await recognize(open, false), start, end);
      this.#asked = seconds;
    }
    return {
      ...{ seconds, final: this.#final.slice(before) },
      ...(this.#partial ? { partial: this.#partial } : {}),
      milliseconds: ran ? performance.now() - begin : 0,
    };
  }
}

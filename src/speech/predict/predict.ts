/** Recognises many recordings; an error in one does not affect the others. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { receptiveField } from "../../models/hubert.ts";
import { type ModelFolder, openModelFolder, type SpeechModel } from "../system/folder.ts";
import {
  openRecognizer,
  type Recognition,
  type RecognizeOptions,
  type Recognizer,
  type RecognizerOptions,
} from "../system/recognizer.ts";
import type { Audio } from "../../io/audio.ts";
import { MAX_SECONDS } from "../../io/audio.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import type { RawFormat } from "../../io/audio_stream.ts";
import { type SegmentOptions, segmentOptions } from "../../io/segmenter.ts";
import { bounded, type LongRecognition, recognizeSegments } from "./long.ts";
import { type FoundRecording, type LongRecording, type Recording, readWindows } from "./recordings.ts";
import { type RecognizerSource, recogniseWindow } from "./window.ts";

/** Options of predict(). */
export interface PredictOptions
  extends Pick<RecognizerOptions, "dtype" | "activations">,
    Pick<RecognizeOptions, "beam" | "batch" | "embeddings"> {
  /**
   * Which recordings are divided into segments of speech: those longer than a window (`maxSpeech`, or what the adapter can bind), all,
   * or none. Default "auto".
   */
  readonly segments?: "auto" | "always" | "never";
  /** How they are. */
  readonly segmentation?: SegmentOptions;
  /** The recordings are samples without a header. */
  readonly raw?: RawFormat;
  /** A second model, whose CTC head writes the words. */
  readonly words?: ModelFolder;
  /** Opens a device: once the first recording is read, since bad input needs no GPU, and again after the GPU has failed. */
  readonly openDevice: () => Promise<Device>;
  /** Called before the model runs for the first time. */
  readonly onOpen?: () => void;
  /** Told of each recording that is recognised, by its index; not always in order. */
  readonly onResult: (index: number, recognition: Recognition | LongRecognition) => void;
  /** Given the samples of each recording, in order, before its result: a piece of it, mono at 16 kHz. */
  readonly onSamples?: (index: number, piece: Float32Array) => void;
  /** Told of each recording that cannot be. */
  readonly onError: (index: number, error: Error) => void;
  /** Told what was irregular about a file that was read. */
  readonly onNote?: (path: string, line: string) => void;
  /** Told how many recordings are finished, and of a long one how many seconds. */
  readonly onProgress?: (done: number, seconds?: number) => void;
}

/** The result of predict(). */
export interface Prediction {
  /** Time that recognition took. */
  readonly seconds: number;
  /** Name of the adapter; absent where no recording could be read. */
  readonly adapter?: string;
  /** Why not all recordings were processed. */
  readonly broken?: Error;
}

/**
 * Recognises all of `found` that can be read. Where no device opens, or the GPU fails repeatedly, it throws if no recording
 * was reported yet; else it returns that error as `broken`, and the recordings not reported are not recognised.
 */
export async function predict(
  host: Host,
  model: SpeechModel,
  found: readonly FoundRecording[],
  options: PredictOptions,
): Promise<Prediction> {
  const { openDevice, dtype, activations, words, raw, segments = "auto" } = options;
  const { onOpen, onError, onNote } = options;
  const source = new LazyRecognizer(host, model, openDevice, { dtype, activations, words });
  const minSamples = Math.max(
    ...[model, words].map((each) => (each?.speech ? receptiveField(each.speech) : 1)),
  );
  const { maxSpeech } = segmentOptions(options.segmentation);
  const counts = { reported: 0, seconds: 0 };
  const fail = (index: number, error: Error) => {
    counts.reported++;
    onError(index, error);
  };
  const read = {
    ...{ minSamples, raw, maxSeconds: { auto: maxSpeech, always: 0, never: MAX_SECONDS }[segments] },
    longer: segments === "never" ? "refuse" : "stream",
  } as const;
  const note = ({ path }: { path: string }, { notes }: Pick<Audio, "notes">, from = 0) => {
    for (const line of notes.slice(from)) onNote?.(path, line);
  };
  try {
    for await (const item of readWindows(host, found, read, fail)) {
      const first = source.adapter === undefined;
      const open = async () => {
        const recognizer = await source.open();
        if (first) onOpen?.();
        return recognizer;
      };
      if ("stream" in item) {
        const { stream } = item;
        try {
          const before = stream.notes.length;
          note(item, stream);
          await open();
          await recogniseLong(source, item, options, counts, fail);
          note(item, stream, before);
        } finally {
          await stream.close();
        }
        continue;
      }
      for (const recording of item) note(recording, recording.audio);
      const { longest } = await open();
      const long = segments === "never" ? [] : item.filter(({ audio }) => audio.seconds > longest);
      const short = item.filter((recording) => !long.includes(recording));
      await recogniseShort(source, short, options, counts, fail);
      for (const { audio, ...recording } of long)
        await recogniseLong(source, { ...recording, stream: streamOf(audio) }, options, counts, fail);
    }
    return { seconds: counts.seconds, adapter: source.adapter };
  } catch (error) {
    if (counts.reported === 0) throw error;
    return { seconds: counts.seconds, adapter: source.adapter, broken: error as Error };
  } finally {
    source.close();
  }
}

/** Recordings reported, and seconds that recognition took. */
interface Counts {
  reported: number;
  seconds: number;
}

type Fail = (index: number, error: Error) => void;

async function recogniseShort(
  source: RecognizerSource,
  window: readonly Recording[],
  { beam, batch, embeddings, onResult, onProgress, onSamples }: PredictOptions,
  counts: Counts,
  fail: Fail,
): Promise<void> {
  const before = counts.reported;
  const start = performance.now();
  await recogniseWindow(
    source,
    window,
    {
      onResult({ index, audio }, recognition) {
        counts.reported++;
        onSamples?.(index, audio.samples);
        onResult(index, recognition);
      },
      onError: ({ index }, error) => fail(index, error),
    },
    { beam, batch, embeddings, onProgress: (done) => onProgress?.(before + done) },
  );
  counts.seconds += (performance.now() - start) / 1000;
}

/** Recognises a recording by its segments. */
async function recogniseLong(
  source: LazyRecognizer,
  { index, path, stream }: LongRecording,
  { beam, batch, embeddings, segmentation, onResult, onProgress, onSamples }: PredictOptions,
  counts: Counts,
  fail: Fail,
): Promise<void> {
  const done = counts.reported;
  const recognizer = await source.open();
  let readError: Error | undefined;
  const pieces = (async function* () {
    try {
      for await (const piece of stream.pieces) {
        onSamples?.(index, piece);
        yield piece;
      }
    } catch (error) {
      readError = error as Error;
      throw error;
    }
  })();
  let unrecognised: Error | undefined;
  try {
    const options = {
      ...bounded(segmentation ?? {}, recognizer.longest),
      ...{ beam, batch, embeddings, onSeconds: (seconds: number) => onProgress?.(done, seconds) },
    };
    const result = await recognizeSegments(pieces, options, recognizer.vocabulary, async (audios, each) => {
      const results: Recognition[] = [];
      const start = performance.now();
      await recogniseWindow(
        source,
        audios.map((samples, i) => ({ index: i, path, audio: audioOf(samples) })),
        {
          onResult({ index }, recognition) {
            results[index] = recognition;
          },
          onError(_, error) {
            unrecognised ??= error;
          },
        },
        each,
      );
      counts.seconds += (performance.now() - start) / 1000;
      if (unrecognised) throw unrecognised;
      return results;
    });
    counts.reported++;
    onResult(index, result);
    onProgress?.(done + 1);
  } catch (error) {
    // What is wrong with this recording is no reason to give up the others; what is wrong with the GPU is.
    if (error !== readError && error !== unrecognised) throw error;
    fail(index, error as Error);
  }
}

const audioOf = (samples: Float32Array): Audio => ({
  ...{ samples, sampleRate: SAMPLE_RATE, channels: 1, seconds: samples.length / SAMPLE_RATE, notes: [] },
});

/** A recording in memory as a stream. */
const streamOf = ({ samples, ...about }: Audio): LongRecording["stream"] => ({
  ...about,
  pieces: (async function* () {
    yield samples;
  })(),
  close: async () => {},
});

type LazyOptions = Pick<PredictOptions, "dtype" | "activations" | "words">;

/** A recogniser that is opened on first use, and again after close(). */
class LazyRecognizer implements RecognizerSource {
  adapter: string | undefined;
  readonly #host: Host;
  readonly #model: SpeechModel;
  readonly #openDevice: () => Promise<Device>;
  readonly #options: LazyOptions;
  #device: Device | undefined;
  #recognizer: Recognizer | undefined;

  constructor(host: Host, model: SpeechModel, openDevice: () => Promise<Device>, options: LazyOptions) {
    this.#host = host;
    this.#model = model;
    this.#openDevice = openDevice;
    this.#options = options;
  }

  async open(): Promise<Recognizer> {
    if (this.#recognizer) return this.#recognizer;
    this.#device = await this.#openDevice();
    // openRecognizer() closes the weights: the next one opens the folder again.
    const first = this.adapter === undefined;
    const { words } = this.#options;
    const again = async (model: ModelFolder): Promise<ModelFolder> => ({
      ...(await openModelFolder(this.#host, model.path)),
      languageModel: model.languageModel,
    });
    this.adapter = this.#device.info.name;
    this.#recognizer = await openRecognizer(
      this.#host,
      this.#device,
      first ? this.#model : await again(this.#model),
      {
        ...this.#options,
        words: first || !words ? words : await again(words),
      },
    );
    return this.#recognizer;
  }

  close(): void {
    this.#recognizer?.dispose();
    this.#device?.dispose();
    this.#recognizer = this.#device = undefined;
  }
}

/** Recognises many recordings; an error in one does not affect the others. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { receptiveField } from "../../models/hubert.ts";
import type { SpeechModel } from "../system/folder.ts";
import {
  openRecognizer,
  type Recognition,
  type RecognizeOptions,
  type Recognizer,
  type RecognizerOptions,
} from "../system/recognizer.ts";
import { type FoundRecording, readWindows } from "./recordings.ts";
import { type RecognizerSource, recogniseWindow } from "./window.ts";

/** Options of predict(). */
export interface PredictOptions
  extends Pick<RecognizerOptions, "dtype" | "activations">,
    Pick<RecognizeOptions, "beam" | "batch"> {
  /** Opens a device: once the first recording is read, since bad input needs no GPU, and again after the GPU has failed. */
  readonly openDevice: () => Promise<Device>;
  /** Called before the model runs for the first time. */
  readonly onOpen?: () => void;
  /** Told of each recording that is recognised, by its index; not always in order. */
  readonly onResult: (index: number, recognition: Recognition) => void;
  /** Told of each recording that cannot be. */
  readonly onError: (index: number, error: Error) => void;
  /** Told what was irregular about a file that was read. */
  readonly onNote?: (path: string, line: string) => void;
  /** Told how many recordings are finished. */
  readonly onProgress?: (done: number) => void;
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
  const { openDevice, dtype, activations, beam, batch, onOpen, onResult, onError, onNote, onProgress } =
    options;
  const source = new LazyRecognizer(host, model, openDevice, { dtype, activations });
  let [reported, seconds] = [0, 0];
  const fail = (index: number, error: Error) => {
    reported++;
    onError(index, error);
  };
  try {
    for await (const window of readWindows(host, found, receptiveField(model.speech), fail)) {
      for (const { path, audio } of window) for (const line of audio.notes) onNote?.(path, line);
      const first = source.adapter === undefined;
      await source.open();
      if (first) onOpen?.();
      const before = reported;
      const start = performance.now();
      await recogniseWindow(
        source,
        window,
        {
          onResult({ index }, recognition) {
            reported++;
            onResult(index, recognition);
          },
          onError: ({ index }, error) => fail(index, error),
        },
        { beam, batch, onProgress: (done) => onProgress?.(before + done) },
      );
      seconds += (performance.now() - start) / 1000;
    }
    return { seconds, adapter: source.adapter };
  } catch (error) {
    if (reported === 0) throw error;
    return { seconds, adapter: source.adapter, broken: error as Error };
  } finally {
    source.close();
  }
}

/** A recogniser that is opened on first use, and again after close(). */
class LazyRecognizer implements RecognizerSource {
  adapter: string | undefined;
  readonly #host: Host;
  readonly #model: SpeechModel;
  readonly #openDevice: () => Promise<Device>;
  readonly #options: RecognizerOptions;
  #device: Device | undefined;
  #recognizer: Recognizer | undefined;

  constructor(host: Host, model: SpeechModel, openDevice: () => Promise<Device>, options: RecognizerOptions) {
    this.#host = host;
    this.#model = model;
    this.#openDevice = openDevice;
    this.#options = options;
  }

  async open(): Promise<Recognizer> {
    if (this.#recognizer) return this.#recognizer;
    this.#device = await this.#openDevice();
    // openRecognizer() closes the weights: the next one opens the folder again.
    const model = this.adapter === undefined ? this.#model : this.#model.path;
    this.adapter = this.#device.info.name;
    this.#recognizer = await openRecognizer(this.#host, this.#device, model, this.#options);
    return this.#recognizer;
  }

  close(): void {
    this.#recognizer?.dispose();
    this.#device?.dispose();
    this.#recognizer = this.#device = undefined;
  }
}

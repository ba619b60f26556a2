/** Words and emotions of many recordings, none of which costs another its result. */
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

export interface PredictOptions
  extends Pick<RecognizerOptions, "dtype">,
    Pick<RecognizeOptions, "beam" | "batch"> {
  /** Opens a device: first when a recording has been read, since bad input needs no GPU, and anew after its GPU has failed. */
  readonly openDevice: () => Promise<Device>;
  /** Told once the model runs for the first time. */
  readonly onOpen?: () => void;
  /** Told of each recording, by its place in what was found, when it is done or cannot be; not always in order. */
  readonly onResult: (index: number, recognition: Recognition) => void;
  readonly onError: (index: number, error: Error) => void;
  /** Told what is odd about a file that was read all the same. */
  readonly onNote?: (path: string, line: string) => void;
  /** Told how many recordings are done. */
  readonly onProgress?: (done: number) => void;
}

export interface Prediction {
  /** That the recognition took. */
  readonly seconds: number;
  /** Name of the adapter; absent where no recording could be read. */
  readonly adapter?: string;
  /** What ended the work before all was done. */
  readonly broken?: Error;
}

/**
 * Recognises all of `found` that can be read. Throws where no device opens, or the GPU fails again and again, before there is
 * anything to tell of; later that is `broken`, and what was not told of is not done.
 */
export async function predict(
  host: Host,
  model: SpeechModel,
  found: readonly FoundRecording[],
  options: PredictOptions,
): Promise<Prediction> {
  const { openDevice, dtype, beam, batch, onOpen, onResult, onError, onNote, onProgress } = options;
  const engine = new LazyRecognizer(host, model, openDevice, { dtype });
  let [told, seconds] = [0, 0];
  const fail = (index: number, error: Error) => {
    told++;
    onError(index, error);
  };
  try {
    for await (const window of readWindows(host, found, receptiveField(model.hubert), fail)) {
      for (const { path, audio } of window) for (const line of audio.notes) onNote?.(path, line);
      const first = engine.adapter === undefined;
      await engine.open();
      if (first) onOpen?.();
      const before = told;
      const start = performance.now();
      await recogniseWindow(
        engine,
        window,
        {
          onResult({ index }, recognition) {
            told++;
            onResult(index, recognition);
          },
          onError: ({ index }, error) => fail(index, error),
        },
        { beam, batch, onProgress: (done) => onProgress?.(before + done) },
      );
      seconds += (performance.now() - start) / 1000;
    }
    return { seconds, adapter: engine.adapter };
  } catch (error) {
    if (told === 0) throw error;
    return { seconds, adapter: engine.adapter, broken: error as Error };
  } finally {
    engine.close();
  }
}

/** A recogniser that is opened when it is wanted. */
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
    // openRecognizer() closes the weights, so that another one opens them again.
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

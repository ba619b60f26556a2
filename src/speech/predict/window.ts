/** Recognises a window of recordings so that one of them never costs the others their results. */
import type { Recognition, RecognizeOptions, Recognizer } from "../system/recognizer.ts";
import type { Recording } from "./recordings.ts";

export type WindowRecognizer = Pick<Recognizer, "check" | "recognize"> & {
  readonly device: Pick<Recognizer["device"], "check" | "idle"> & { readonly pool: { trim(): void } };
};

/** A recogniser that is opened when it is first wanted, and anew after its GPU has failed. */
export interface RecognizerSource {
  open(): Promise<WindowRecognizer>;
  close(): void;
}

export interface WindowHandlers {
  onResult(recording: Recording, recognition: Recognition): void;
  onError(recording: Recording, error: Error): void;
}

/** So many recordings in a row on each of which the GPU failed: it is the GPU. */
const MOST_FAILURES = 2;

/** Together, and where that fails each by itself. Throws where no recogniser opens, or the GPU fails again and again. */
export async function recogniseWindow(
  engine: RecognizerSource,
  window: readonly Recording[],
  { onResult, onError }: WindowHandlers,
  options: RecognizeOptions,
): Promise<void> {
  const recognizer = await engine.open();
  const named = (recording: Recording, error: unknown) =>
    onError(recording, new Error(`${recording.path}: ${(error as Error).message}`, { cause: error }));
  const fitting = window.filter((recording) => {
    try {
      recognizer.check(recording.audio.samples.length);
      return true;
    } catch (error) {
      named(recording, error);
      return false;
    }
  });
  if (fitting.length === 0) return;
  try {
    const found = await recognizer.recognize(
      fitting.map(({ audio }) => audio.samples),
      options,
    );
    for (const [i, recording] of fitting.entries()) onResult(recording, found[i]);
    return;
  } catch (error) {
    if (isDown(recognizer)) engine.close();
    if (fitting.length === 1) return named(fitting[0], error);
  }
  let failures = 0;
  for (const recording of fitting) {
    const alone = await engine.open();
    try {
      // What the batch left behind goes first.
      await alone.device.idle();
      alone.device.pool.trim();
      const [found] = await alone.recognize([recording.audio.samples], options);
      onResult(recording, found);
      failures = 0;
    } catch (error) {
      if (isDown(alone)) {
        engine.close();
        if (++failures === MOST_FAILURES) throw error;
      }
      named(recording, error);
    }
  }
}

/** Whether the device has reported an error, after which it computes nothing more. */
function isDown({ device }: WindowRecognizer): boolean {
  try {
    device.check();
    return false;
  } catch {
    return true;
  }
}

/** Recognises a window of recordings; an error in one does not affect the others. */
import type { Recognition, RecognizeOptions, Recognizer } from "../system/recognizer.ts";
import type { Recording } from "./recordings.ts";

/** What is needed of a Recognizer. */
export type WindowRecognizer = Pick<Recognizer, "check" | "recognize"> & {
  readonly device: Pick<Recognizer["device"], "check" | "idle"> & { readonly pool: { trim(): void } };
};

/** Opens a recogniser on first use, and again after close(), which is called when the GPU has failed. */
export interface RecognizerSource {
  open(): Promise<WindowRecognizer>;
  close(): void;
}

/** Exactly one of them is called for each recording. */
export interface WindowHandlers {
  onResult(recording: Recording, recognition: Recognition): void;
  onError(recording: Recording, error: Error): void;
}

/** After so many recordings in a row on which the GPU failed the cause is the GPU, not the recordings. */
const MAX_FAILURES = 2;

/**
 * Recognises the recordings together, and where that fails one by one. Throws where no recogniser opens, or the GPU fails
 * repeatedly.
 */
export async function recogniseWindow(
  source: RecognizerSource,
  window: readonly Recording[],
  { onResult, onError }: WindowHandlers,
  options: RecognizeOptions,
): Promise<void> {
  const recognizer = await source.open();
  const fail = (recording: Recording, error: unknown) =>
    onError(recording, new Error(`${recording.path}: ${(error as Error).message}`, { cause: error }));
  const fitting = window.filter((recording) => {
    try {
      recognizer.check(recording.audio.samples.length);
      return true;
    } catch (error) {
      fail(recording, error);
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
    if (isDown(recognizer)) source.close();
    if (fitting.length === 1) return fail(fitting[0], error);
  }
  let failures = 0;
  for (const recording of fitting) {
    const alone = await source.open();
    try {
      // Frees the buffers that the batch left in the pool.
      await alone.device.idle();
      alone.device.pool.trim();
      const [found] = await alone.recognize([recording.audio.samples], options);
      onResult(recording, found);
      failures = 0;
    } catch (error) {
      if (isDown(alone)) {
        source.close();
        if (++failures === MAX_FAILURES) throw error;
      }
      fail(recording, error);
    }
  }
}

/** Whether the device has reported an error, after which it can no longer be used. */
function isDown({ device }: WindowRecognizer): boolean {
  try {
    device.check();
    return false;
  } catch {
    return true;
  }
}

/** Finds recordings, and reads them a window at a time. */
import type { Host } from "../../host/host.ts";
import { type Audio, named, requireShort } from "../../io/audio.ts";
import { type AudioStream, type AudioStreamOptions, readAudio } from "../../io/audio_stream.ts";

/** Most files of a window, and seconds of audio after which it is full: not all recordings need fit in memory. */
const WINDOW = { files: 64, seconds: 600 };

/** The path of a recording, or a path with what is wrong with it. */
export interface FoundRecording {
  /** As it was given, or found in a folder. */
  readonly path: string;
  /** Why it cannot be read. */
  readonly error?: Error;
}

/** A recording in memory. */
export interface Recording {
  /** Index in what was found. */
  readonly index: number;
  readonly path: string;
  readonly audio: Audio;
}

/** A recording that is longer than what is recognised at once; it is to be closed. */
export interface LongRecording {
  /** Index in what was found. */
  readonly index: number;
  readonly path: string;
  readonly stream: AudioStream;
}

/** Options of readWindows(). */
export interface ReadOptions extends AudioStreamOptions {
  /** Longest recording that is read as a whole. */
  readonly maxSeconds: number;
  /** What becomes of longer ones: given as streams, or refused. */
  readonly longer: "stream" | "refuse";
}

/** Names of recordings, in folders. */
const SOUND = /\.(wav|mp3|flac|ogg|oga|opus)$/i;

/**
 * Finds the recordings that `operands` name: files, all WAV, MP3, FLAC and Ogg files below folders, and "-" for standard input, in this order. A
 * file to which several paths lead is found once, by the first of them. Never throws: errors stand in the list.
 */
export async function findRecordings(host: Host, operands: readonly string[]): Promise<FoundRecording[]> {
  const found: FoundRecording[] = [];
  const seen = new Set<string>();
  const fail = (path: string, error: unknown) => found.push({ path, error: error as Error });
  const isNew = (id: string) => !seen.has(id) && seen.add(id) !== undefined;
  const stat = async (path: string) => {
    try {
      return (await host.entry(path)) ?? "absent";
    } catch (error) {
      fail(path, error);
      return undefined;
    }
  };
  const walk = async (folder: string): Promise<void> => {
    let names: string[];
    try {
      names = await host.list(folder);
    } catch (error) {
      fail(folder, error);
      return;
    }
    for (const name of names) {
      // On file systems without extended attributes macOS writes those of x.wav into ._x.wav.
      if (name.startsWith("._")) continue;
      const path = `${folder.replace(/\/+$/, "")}/${name}`;
      const entry = await stat(path);
      if (entry === undefined) continue;
      const isSound = SOUND.test(name);
      if (entry === "absent") {
        // A dangling link, perhaps to a folder of recordings: reading it gives the error.
        if (!isSound && /.\./.test(name)) continue;
        if (name.includes("\ufffd")) fail(path, new Error(`Cannot read ${path}: its name is not UTF-8`));
        else found.push({ path });
      } else if (entry.kind === "directory") {
        if (isNew(entry.id)) await walk(path);
      } else if (isSound && entry.kind === "pipe")
        fail(
          path,
          new Error(`Cannot read ${path}: it is a pipe, which is read only where it is named itself`),
        );
      else if (isSound && isNew(entry.id)) found.push({ path });
    }
  };
  for (const operand of operands) {
    const path = operand === "-" ? "/dev/stdin" : operand;
    const entry = path === "/dev/stdin" ? { kind: "pipe" as const, id: path } : await stat(path);
    if (entry === undefined || (entry !== "absent" && !isNew(entry.id))) continue;
    if (entry === "absent" || entry.kind !== "directory") {
      found.push({ path });
      continue;
    }
    const before = found.length;
    await walk(path);
    if (found.length === before && !holdsSeen(seen, entry.id))
      fail(
        path,
        new Error(`Cannot find a recording in ${path}: no *.wav, *.mp3, *.flac, *.ogg or *.opus is below it`),
      );
  }
  return found;
}

/** Whether a recording below the folder was found before, by another path. Windows separates paths by backslashes. */
const holdsSeen = (seen: ReadonlySet<string>, folder: string): boolean => {
  const top = folder.replace(/[/\\]+$/, "");
  return [...seen].some((id) => id.startsWith(top) && /^[/\\]/.test(id.slice(top.length)) && SOUND.test(id));
};

/**
 * Reads recordings a window at a time, and long ones by themselves, in the order of `found`; those that cannot be read, or have fewer
 * than `minSamples` samples, are left out.
 */
export async function* readWindows(
  host: Host,
  found: readonly FoundRecording[],
  { maxSeconds, longer, ...options }: ReadOptions,
  onError: (index: number, error: Error) => void,
): AsyncGenerator<Recording[] | LongRecording> {
  let window: Recording[] = [];
  let seconds = 0;
  for (const [index, { path, error }] of found.entries()) {
    let long: AudioStream | undefined;
    try {
      if (error) throw error;
      const audio = await readAudio(host, path, maxSeconds, options);
      if ("samples" in audio) {
        window.push({ index, path, audio });
        seconds += audio.seconds;
      } else if (longer === "stream") long = audio;
      else {
        await audio.close();
        refuseLonger(path, audio.seconds, maxSeconds);
      }
    } catch (error) {
      onError(index, error as Error);
    }
    if (window.length > 0 && (long || window.length >= WINDOW.files || seconds >= WINDOW.seconds)) {
      yield window;
      [window, seconds] = [[], 0];
    }
    if (long) yield { index, path, stream: long };
  }
  if (window.length > 0) yield window;
}

function refuseLonger(path: string, seconds: number | undefined, maxSeconds: number): never {
  try {
    if (seconds !== undefined) requireShort(seconds, maxSeconds);
    throw new RangeError(`it is too long: at most ${maxSeconds} s accepted`);
  } catch (error) {
    throw named(path, error);
  }
}

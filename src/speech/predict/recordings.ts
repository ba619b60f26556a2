/** Finds recordings and reads them, a window at a time. */
import type { Host } from "../../host/host.ts";
import { type Audio, readWav } from "../../io/audio.ts";

/** Recordings are read and recognised in windows of so many files or seconds, so that a corpus need not fit in memory. */
const WINDOW = { files: 64, seconds: 600 };

/** A recording by its path, or what is wrong with a path, in the order of the command line. */
export interface FoundRecording {
  readonly path: string;
  readonly error?: Error;
}

export interface Recording {
  /** Its place among all that was found. */
  readonly index: number;
  readonly path: string;
  readonly audio: Audio;
}

/**
 * Files as they are, folders as the WAV files below them, "-" as standard input. What several paths lead to is found
 * once, by the first of them; what cannot be read hides nothing else.
 */
export async function findRecordings(host: Host, operands: readonly string[]): Promise<FoundRecording[]> {
  const found: FoundRecording[] = [];
  const seen = new Set<string>();
  const fail = (path: string, error: unknown) => found.push({ path, error: error as Error });
  const isNew = (id: string) => !seen.has(id) && seen.add(id) !== undefined;
  const look = async (path: string) => {
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
      // macOS writes the attributes of x.wav to ._x.wav on foreign disks.
      if (name.startsWith("._")) continue;
      const path = `${folder.replace(/\/+$/, "")}/${name}`;
      const entry = await look(path);
      if (entry === undefined) continue;
      const isWav = /\.wav$/i.test(name);
      if (entry === "absent") {
        // A link to nowhere, perhaps to a folder of recordings: reading says so.
        if (!isWav && /.\./.test(name)) continue;
        if (name.includes("\ufffd")) fail(path, new Error(`Cannot read ${path}: its name is not UTF-8`));
        else found.push({ path });
      } else if (entry.kind === "directory") {
        if (isNew(entry.id)) await walk(path);
      } else if (isWav && entry.kind === "pipe")
        fail(
          path,
          new Error(`Cannot read ${path}: it is a pipe, which is read only where it is named itself`),
        );
      else if (isWav && isNew(entry.id)) found.push({ path });
    }
  };
  for (const operand of operands) {
    const path = operand === "-" ? "/dev/stdin" : operand;
    const entry = path === "/dev/stdin" ? { kind: "pipe" as const, id: path } : await look(path);
    if (entry === undefined || (entry !== "absent" && !isNew(entry.id))) continue;
    if (entry === "absent" || entry.kind !== "directory") {
      found.push({ path });
      continue;
    }
    const before = found.length;
    await walk(path);
    if (found.length === before && !holdsSeen(seen, entry.id))
      fail(path, new Error(`Cannot find a recording in ${path}: no *.wav is below it`));
  }
  return found;
}

/** Whether something below the folder was found before, by another path. Windows parts its paths by backslashes. */
const holdsSeen = (seen: ReadonlySet<string>, folder: string): boolean => {
  const top = folder.replace(/[/\\]+$/, "");
  return [...seen].some((id) => id.startsWith(top) && /^[/\\].*\.wav$/is.test(id.slice(top.length)));
};

/**
 * Reads recordings of at least `minSamples` samples at 16 kHz, a window at a time; those that cannot be read are told of
 * and left out.
 */
export async function* readWindows(
  host: Host,
  found: readonly FoundRecording[],
  minSamples: number,
  onError: (index: number, error: Error) => void,
): AsyncGenerator<Recording[]> {
  let window: Recording[] = [];
  let seconds = 0;
  for (const [index, { path, error }] of found.entries()) {
    try {
      if (error) throw error;
      const audio = await readWav(host, path, { minSamples });
      window.push({ index, path, audio });
      seconds += audio.seconds;
    } catch (error) {
      onError(index, error as Error);
    }
    if (window.length >= WINDOW.files || seconds >= WINDOW.seconds) {
      yield window;
      [window, seconds] = [[], 0];
    }
  }
  if (window.length > 0) yield window;
}

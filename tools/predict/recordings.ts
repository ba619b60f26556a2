/** Finds recordings and reads them, a window at a time. */
import type { Host } from "../../src/host/host.ts";
import { type Audio, readWav } from "../../src/io/audio.ts";

/** Recordings are read and recognised in windows of so many files or seconds, so that a corpus need not fit in memory. */
const WINDOW = { files: 64, seconds: 600 };

export interface Recording {
  readonly path: string;
  readonly audio: Audio;
}

/** Told what is wrong with a file that is then left out. */
export type Complain = (path: string, error: unknown) => void;

/** Files as they are, folders as the WAV files below them. */
export async function findRecordings(
  host: Host,
  operands: readonly string[],
  complain: Complain,
): Promise<string[]> {
  const walk = async (folder: string): Promise<string[]> => {
    const found: string[] = [];
    for (const name of await host.list(folder)) {
      const path = `${folder.replace(/\/+$/, "")}/${name}`;
      if ((await host.kind(path)) === "directory") found.push(...(await walk(path)));
      else if (/\.wav$/i.test(name)) found.push(path);
    }
    return found;
  };
  const paths: string[] = [];
  for (const operand of operands) {
    if ((await host.kind(operand)) !== "directory") {
      paths.push(operand);
      continue;
    }
    const below = await walk(operand);
    if (below.length === 0)
      complain(operand, new Error(`Cannot find a recording in ${operand}: no *.wav is below it`));
    paths.push(...below);
  }
  return paths;
}

/** Reads recordings a window at a time; those that cannot be read are complained of and left out. */
export async function* readWindows(
  host: Host,
  paths: readonly string[],
  complain: Complain,
): AsyncGenerator<Recording[]> {
  let window: Recording[] = [];
  let seconds = 0;
  for (const path of paths) {
    try {
      const audio = await readWav(host, path);
      window.push({ path, audio });
      seconds += audio.seconds;
    } catch (error) {
      complain(path, error);
    }
    if (window.length >= WINDOW.files || seconds >= WINDOW.seconds) {
      yield window;
      [window, seconds] = [[], 0];
    }
  }
  if (window.length > 0) yield window;
}

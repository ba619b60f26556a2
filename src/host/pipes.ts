/** Pipes and standard input: they are read to their end into memory, for nothing in them can be read twice. */
import { constants } from "node:fs";
import * as fs from "node:fs/promises";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { RangedFile } from "./host.ts";
import { joinBytes } from "./join_bytes.ts";
import { availableMemory } from "./memory.ts";

/** More than any recording or model that one pipes; an endless stream ends here, or where memory does. */
const MOST_BYTES = 2 ** 30;
/** Chunks and what they are joined to are there together. */
const MOST_MEMORY = 0.4;
/** How long a named pipe may stay without one who writes to it. */
const PATIENCE = 10_000;
const PAUSE = 20;

/** Names of standard input. By path it cannot be opened where it is a socket, as under another process. */
export const isStdin = (path: string): boolean => path === "/dev/stdin" || path === "/dev/fd/0";

export async function readStdin(path: string, most = bound()): Promise<Uint8Array> {
  if (process.stdin.isTTY)
    throw new Error(`Cannot read ${path}: it is a terminal, a pipe or a file expected`);
  const whole = new Chunks(path, most);
  for await (const chunk of process.stdin) whole.add(chunk as Uint8Array);
  return whole.join();
}

/** Reads a named pipe to its end. Throws where nobody opens it to write within `patience` milliseconds. */
export async function readPipe(path: string, patience = PATIENCE, most = bound()): Promise<Uint8Array> {
  // Without O_NONBLOCK the opening itself would wait, in a thread that cannot be called back.
  const handle = await fs.open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  const whole = new Chunks(path, most);
  const begin = performance.now();
  try {
    for (;;) {
      const chunk = new Uint8Array(1 << 16);
      const bytes = await readNow(handle, chunk);
      if (bytes !== undefined && bytes > 0) whole.add(chunk.subarray(0, bytes));
      // The end of a pipe looks like one that nobody has opened yet.
      else if (bytes === 0 && whole.size > 0) return whole.join();
      else if (bytes === 0 && performance.now() - begin > patience)
        throw new Error(`Cannot read ${path}: it is a pipe that nobody wrote to within ${patience / 1000} s`);
      else await sleep(PAUSE);
    }
  } finally {
    await handle.close();
  }
}

/** Bytes read; undefined where a writer has nothing to read yet. */
async function readNow(handle: fs.FileHandle, into: Uint8Array): Promise<number | undefined> {
  try {
    return (await handle.read(into, 0, into.length, null)).bytesRead;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return undefined;
    throw error;
  }
}

const bound = (): number => Math.min(MOST_BYTES, Math.floor(MOST_MEMORY * availableMemory()));

class Chunks {
  size = 0;
  readonly #path: string;
  readonly #most: number;
  readonly #chunks: Uint8Array[] = [];

  constructor(path: string, most: number) {
    this.#path = path;
    this.#most = most;
  }

  add(chunk: Uint8Array): void {
    this.size += chunk.length;
    if (this.size > this.#most)
      throw new RangeError(`Cannot read ${this.#path}: more than ${this.#most} bytes came through the pipe`);
    this.#chunks.push(chunk);
  }

  join(): Uint8Array {
    return joinBytes(this.#chunks);
  }
}

/** Bytes in memory as a file. */
export function memoryFile(path: string, bytes: Uint8Array): RangedFile {
  return {
    size: bytes.length,
    async read(into, position) {
      const found = bytes.subarray(position, position + into.length);
      if (found.length < into.length)
        throw new Error(
          `Cannot read ${path}: it ends at byte ${bytes.length}, ${into.length - found.length} bytes too early`,
        );
      into.set(found);
    },
    async close() {},
  };
}

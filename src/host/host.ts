/**
 * What the engine needs of its runtime: files, WebGPU, memory. Everything above `host/` receives a Host
 * (or a Device made from one) and never looks at `process`, `Deno` or `navigator` itself.
 */

/** A file opened for ranged reading. */
export interface RangedFile {
  /** Length in bytes. */
  readonly size: number;
  /** Fills `into` from byte `position`. Throws if the file ends before `into` is full. */
  read(into: Uint8Array, position: number): Promise<void>;
  /** Closes the file. */
  close(): Promise<void>;
}

/** What a path leads to. */
export interface Entry {
  /** "other": a device or a socket. */
  readonly kind: "file" | "directory" | "pipe" | "other";
  /** The same for all paths that lead to it by links. */
  readonly id: string;
  /** Bytes of a file. */
  readonly size: number;
}

/** A hash of bytes that come in pieces. */
export interface Digest {
  /** Adds the next piece. */
  update(bytes: Uint8Array): void;
  /** In hexadecimal; ends the digest. */
  hex(): string;
}

/** Writes to a temporary file beside the target; nothing appears under the final name before commit(). */
export interface AtomicFile {
  /** Adds bytes at the end. */
  write(bytes: Uint8Array): Promise<void>;
  /** Flushes to disk and renames over the target. */
  commit(): Promise<void>;
  /** Removes the temporary file. Safe after commit(). */
  abort(): Promise<void>;
}

/** A file that is written at its end, as one whose download goes on. */
export interface PartialFile {
  /** Bytes that it holds. */
  readonly size: number;
  /** Adds bytes at the end. */
  write(bytes: Uint8Array): Promise<void>;
  /** Makes it empty. */
  clear(): Promise<void>;
  /** Flushes it to disk and closes it. */
  close(): Promise<void>;
}

/** Which GPU to open, and how. */
export interface GpuOptions {
  /** Part of the adapter's name, case-insensitive: "llvmpipe", "nvidia", "swiftshader". */
  adapter?: string;
  /** Names the WebGPU to use where a host has two: "built-in" (Deno's own) or "dawn" (npm webgpu). */
  implementation?: "built-in" | "dawn";
  /** Lets Dawn drop bounds checks and the zeroing of workgroup memory. Only for kernels that are proven. */
  unsafeFast?: boolean;
  /**
   * False: products of f16 weights do not go by subgroup matrices, and Dawn is not asked for what it calls unsafe, of which
   * they are a part. They round activations to f16. True by default.
   */
  matrices?: boolean;
}

/** A folder to which this process alone writes. */
export interface FolderLock {
  /** Unlocks the folder. Never throws. */
  release(): void;
}

/** A script that runs as a process of its own. */
export interface ScriptProcess {
  /**
   * Resolves once it has ended, after the last of its output: with its exit status, null where a signal ended it, and all
   * that it wrote to stderr. Rejects where it cannot be started.
   */
  readonly ended: Promise<{ readonly status: number | null; readonly stderr: string }>;
  /** Writes to its stdin; where it has ended, nothing happens. */
  write(text: string): void;
  /** Ends its stdin, and the process. */
  stop(): void;
}

/** Bytes of main memory that a process holds. */
export interface MemoryUsage {
  /** JavaScript's heap and array buffers together. */
  readonly heap: number;
  /** The whole process; on a CPU adapter GPU buffers are in it. */
  readonly process: number;
}

/**
 * The runtime: its files, its WebGPU, its memory. All paths are relative to the working directory where they are not
 * absolute, and a failure of a file is an Error of one line that names it.
 */
export interface Host {
  /** The runtime. */
  readonly name: "node" | "deno" | "browser";
  /** A short line about the platform: runtime, version, operating system, processor. */
  describe(): string;
  /** Prints a line on stderr where WAVEGATE_DEBUG=1 is set. */
  debug?(line: string): void;
  /** The WebGPU entry point, with the toggles that the engine wants where they can be set. Throws if absent. */
  gpu(options?: GpuOptions): Promise<GPU>;
  /**
   * Runs `start`, which returns a promise of the GPU, and waits without burning a core.
   * Every GPU promise of the engine goes through here.
   */
  quiet<T>(start: () => Promise<T>): Promise<T>;
  /** Collects garbage now, where the runtime can be asked to, and resolves once finalisers have run. */
  collectGarbage(): Promise<void>;
  /** Throws for the pointer that Git LFS leaves in place of a file, as open() does; readBytes() does not. */
  readText(path: string | URL): Promise<string>;
  /** The whole file. */
  readBytes(path: string | URL): Promise<Uint8Array>;
  /** Pipes, and standard input as /dev/stdin, are read to their end first. */
  open(path: string): Promise<RangedFile>;
  /** Begins a file that appears under its name at commit(). A pipe or a device is written as it goes. */
  createAtomic(path: string): Promise<AtomicFile>;
  /** "file", "directory" or undefined where nothing is. What is there and cannot be read, as a broken link, is a file. */
  kind(path: string): Promise<"file" | "directory" | undefined>;
  /** As kind(), and more of it; undefined where nothing is. Throws where that cannot be found out. */
  entry(path: string): Promise<Entry | undefined>;
  /** Names in a folder, sorted. */
  list(path: string): Promise<string[]>;
  /** Makes a folder and those above it that are missing. */
  makeDirectory(path: string): Promise<void>;
  /** Adds to the end of a file and flushes it to disk; creates the file if absent. */
  append(path: string, bytes: Uint8Array): Promise<void>;
  /** Opens a file to write at its end; creates it if absent. */
  openPartial(path: string): Promise<PartialFile>;
  /** Makes `path` a symbolic link to `target`, which is relative to the folder of `path`. False where the disk takes none. */
  link(target: string, path: string): Promise<boolean>;
  /** Bytes that the disk of a folder has left; undefined where the system does not tell. */
  freeDisk(path: string): Promise<number | undefined>;
  /** Moves a file, or a folder to where nothing is. On one disk that happens at once. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a folder with all it holds; nothing happens where nothing is. */
  remove(path: string): Promise<void>;
  /** Begins a SHA-256. */
  sha256(): Digest;
  /** Begins a SHA-1, by which git names what it stores. */
  sha1(): Digest;
  /**
   * Locks a folder, which must exist, by the file `lock` in it; the lock of a process that died is taken over. Throws where
   * another process holds it: "Cannot ACTION FOLDER: …", with the code ELOCKED.
   */
  lock(folder: string, action: string): FolderLock;
  /** Starts a script of this project under the runtime of this process; `onOutput` is given its stdout as it comes. */
  spawn(script: URL, onOutput: (bytes: Uint8Array) => void): ScriptProcess;
  /** Bytes of main memory that a CPU adapter may take without driving the machine out of memory. */
  freeMemory(): number;
  /** What this process holds now. */
  memoryUsage(): MemoryUsage;
  /** The user's folder for things that may be lost at any time. It may not exist yet. */
  cacheDirectory(): string;
  /** The user's own folder. */
  homeDirectory(): string;
  /** An environment variable; undefined where it is not set, or may not be read. */
  environment(name: string): string | undefined;
}

/** Files through `node:fs`, which Node and Deno share. Every failure becomes one line that names the file. */

import { createHash, randomBytes } from "node:crypto";
import { constants, type Stats } from "node:fs";
import * as fs from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { env, platform, stderr } from "node:process";
import { fileURLToPath } from "node:url";
import type { AtomicFile, Digest, Entry, Host, PartialFile, RangedFile } from "./host.ts";
import { availableMemory } from "./memory.ts";
import { isStdin, memoryFile, readPipe, readStdin } from "./pipes.ts";
import { POINTER_BYTES, pointerReason, refusePointer } from "./pointer.ts";

const REASONS: Record<string, string> = {
  ENOENT: "no such file or folder",
  EEXIST: "a file is there",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is not a folder",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  ENOSPC: "no space left on the disk",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file would be larger than the system lets it be",
  EROFS: "the file system is read-only",
  EMFILE: "too many open files",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "its links lead in a circle",
};

/** Why a file operation failed, in plain words where there are some. */
export const reasonOf = ({ code, message }: NodeJS.ErrnoException): string =>
  REASONS[code ?? ""] ?? message.split("\n")[0];

/** Runs one file operation; a system error is rethrown as "Cannot VERB PATH: reason", with its `code`. */
async function attempt<T>(verb: string, path: string | URL, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (cause) {
    const failure = cause as NodeJS.ErrnoException;
    const { code } = failure;
    if (code === undefined) throw cause;
    const reason = (code === "ENOENT" && (await brokenLink(path))) || reasonOf(failure);
    const error = new Error(`Cannot ${verb} ${shown(path)}: ${reason}`, { cause });
    throw Object.assign(error, { code });
  }
}

/** What is said of a link that leads to nothing, as those of git-annex do before a fetch; undefined where there is none. */
async function brokenLink(path: string | URL): Promise<string | undefined> {
  const target = await fs.readlink(path).catch(() => undefined);
  return target && (pointerReason(target) ?? `it is a link to ${target}, which is not there`);
}

const shown = (path: string | URL) => (typeof path === "string" ? path : fileURLToPath(path));

/** Node's own recursion never ends where a folder takes none, as /proc, and calls a read-only disk a missing folder. */
async function makeFolder(path: string): Promise<void> {
  const above = dirname(path);
  const missing = await fs.stat(above).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === "ENOENT",
  );
  if (missing && above !== path) await makeFolder(above);
  try {
    await fs.mkdir(path);
  } catch (error) {
    // It was there, or another process made it meanwhile.
    const there = await fs.stat(path).catch(() => undefined);
    if (!there?.isDirectory()) throw error;
  }
}

async function open(path: string): Promise<RangedFile> {
  if (isStdin(path)) return memoryFile(path, await readStdin(path));
  const kind = kindOf(await attempt("read", path, () => fs.stat(path)));
  if (kind === "pipe") return memoryFile(path, await attempt("read", path, () => readPipe(path)));
  if (kind === "other") throw new Error(`Cannot read ${path}: it is a device or a socket, a file expected`);
  const handle = await attempt("read", path, () => fs.open(path, "r"));
  const size = await attempt("read", path, async () => {
    const stat = await handle.stat();
    if (!stat.isFile()) throw Object.assign(new Error(), { code: "EISDIR" });
    if (stat.size <= POINTER_BYTES) {
      const { buffer, bytesRead } = await handle.read(new Uint8Array(POINTER_BYTES), 0, POINTER_BYTES, 0);
      refusePointer(path, buffer.subarray(0, bytesRead));
    }
    return stat.size;
  }).catch(async (error) => {
    await handle.close();
    throw error;
  });
  return {
    size,
    async read(into, position) {
      let done = 0;
      while (done < into.length) {
        const { bytesRead } = await attempt("read", path, () =>
          handle.read(into, done, into.length - done, position + done),
        );
        if (bytesRead === 0) {
          throw new Error(
            `Cannot read ${path}: it ends at byte ${position + done}, ${into.length - done} bytes too early`,
          );
        }
        done += bytesRead;
      }
    },
    close: () => handle.close(),
  };
}

async function createAtomic(path: string): Promise<AtomicFile> {
  if (await isStream(path)) return streamTo(path);
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const handle = await attempt("write", path, () => fs.open(temporary, "wx"));
  let state: "open" | "committed" | "aborted" = "open";
  const file: AtomicFile = {
    async write(bytes) {
      let done = 0;
      while (done < bytes.length) {
        const { bytesWritten } = await attempt("write", path, () =>
          handle.write(bytes, done, bytes.length - done),
        );
        done += bytesWritten;
      }
    },
    async commit() {
      try {
        await attempt("write", path, async () => {
          await handle.sync();
          await handle.close();
          await fs.rename(temporary, path);
        });
      } catch (error) {
        await file.abort();
        throw error;
      }
      state = "committed";
      await syncDirectory(dirname(path));
    },
    async abort() {
      if (state !== "open") return;
      state = "aborted";
      await handle.close().catch(() => {}); // a failed commit may have closed it
      await fs.rm(temporary, { force: true });
    },
  };
  return file;
}

/** Whether a path leads to a pipe, a device or a socket: a file that is renamed to it would take its place for everybody. */
async function isStream(path: string): Promise<boolean> {
  if (/^\/(dev\/(stdout|stderr|fd\/)|proc\/)/.test(path)) return true; // they may lead to a file
  const stat = await fs.stat(path).catch(() => undefined);
  return stat !== undefined && ["pipe", "other"].includes(kindOf(stat));
}

/** Writes at once: a stream cannot be rolled back. Opened with the first bytes, as a pipe that is closed ends its reader. */
function streamTo(path: string): AtomicFile {
  let handle: fs.FileHandle | undefined;
  const close = async () => {
    await handle?.close();
    handle = undefined;
  };
  return {
    write: (bytes) =>
      attempt("write", path, async () => {
        handle ??= await fs.open(path, constants.O_WRONLY | constants.O_APPEND);
        await handle.writeFile(bytes);
      }),
    commit: () => attempt("write", path, close),
    abort: () => close().catch(() => {}),
  };
}

/** Makes a rename durable. Some systems cannot open a folder; there the rename alone must do. */
async function syncDirectory(path: string): Promise<void> {
  try {
    const handle = await fs.open(path, "r");
    await handle.sync().finally(() => handle.close());
  } catch {}
}

const UNREADABLE = ["EACCES", "EPERM", "EIO", "ELOOP", "ESTALE"];

async function kind(path: string): Promise<"file" | "directory" | undefined> {
  try {
    const stat = await fs.stat(path);
    return stat.isDirectory() ? "directory" : "file";
  } catch (error) {
    // Something is there; reading it says why it cannot be read. An optional file is not taken for one that is missing.
    const { code = "" } = error as NodeJS.ErrnoException;
    if (UNREADABLE.includes(code)) return "file";
    return code === "ENOENT" && (await brokenLink(path)) ? "file" : undefined;
  }
}

const kindOf = (stat: Stats): Entry["kind"] =>
  stat.isFile() ? "file" : stat.isDirectory() ? "directory" : stat.isFIFO() ? "pipe" : "other";

async function entry(path: string): Promise<Entry | undefined> {
  try {
    const stat = await fs.stat(path);
    const kind = kindOf(stat);
    return {
      kind,
      size: stat.size,
      id: kind === "file" || kind === "directory" ? await fs.realpath(path) : path,
    };
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    return await attempt("read", path, () => Promise.reject(error));
  }
}

async function append(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await attempt("write", path, () => fs.open(path, "a"));
  try {
    await attempt("write", path, async () => {
      await handle.writeFile(bytes);
      await handle.sync();
    });
  } finally {
    await handle.close();
  }
}

async function openPartial(path: string): Promise<PartialFile> {
  const handle = await attempt("write", path, () => fs.open(path, "a"));
  let { size } = await handle.stat();
  return {
    get size() {
      return size;
    },
    async write(bytes) {
      await attempt("write", path, () => handle.writeFile(bytes));
      size += bytes.length;
    },
    async clear() {
      await attempt("write", path, () => handle.truncate(0));
      size = 0;
    },
    async close() {
      try {
        await attempt("write", path, () => handle.sync());
      } finally {
        await handle.close();
      }
    },
  };
}

/** Codes of disks, and of a Windows without the right, that take no symbolic links. */
const NO_LINKS = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL"];

async function link(target: string, path: string): Promise<boolean> {
  try {
    await attempt("write", path, () => fs.symlink(target, path));
    return true;
  } catch (error) {
    if (NO_LINKS.includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

async function freeDisk(path: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await fs.statfs(path);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

function digest(algorithm: "sha1" | "sha256"): Digest {
  const hash = createHash(algorithm);
  return { update: (bytes) => void hash.update(bytes), hex: () => hash.digest("hex") };
}

function environment(name: string): string | undefined {
  try {
    return env[name];
  } catch {
    return undefined; // Deno was not given leave to read it
  }
}

function debug(line: string): void {
  try {
    if (env.WAVEGATE_DEBUG === "1") stderr.write(`${line}\n`);
  } catch {
    // Deno was not given leave to read the environment: then nobody asked.
  }
}

function cacheDirectory(): string {
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, "wavegate");
  if (platform === "win32" && env.LOCALAPPDATA) return join(env.LOCALAPPDATA, "wavegate");
  if (platform === "darwin") return join(homedir(), "Library", "Caches", "wavegate");
  return join(homedir(), ".cache", "wavegate");
}

type Files = Omit<
  Host,
  "name" | "describe" | "gpu" | "quiet" | "collectGarbage" | "lock" | "spawn" | "memoryUsage"
>;

export const files: Files = {
  debug,
  async readText(path) {
    const text = await attempt("read", path, () => fs.readFile(path, "utf8"));
    refusePointer(shown(path), text);
    return text;
  },
  readBytes: (path) => attempt("read", path, async () => new Uint8Array(await fs.readFile(path))),
  open,
  createAtomic,
  kind,
  entry,
  list: (path) => attempt("list", path, async () => (await fs.readdir(path)).sort()),
  async makeDirectory(path) {
    await attempt("create", path, () => makeFolder(path));
  },
  append,
  openPartial,
  link,
  freeDisk,
  async rename(from, to) {
    await attempt("write", to, () => fs.rename(from, to));
    await syncDirectory(dirname(to));
  },
  remove: (path) => attempt("remove", path, () => fs.rm(path, { recursive: true, force: true })),
  // A tenth is left to the rest of the machine: software Vulkan aborts the process where an allocation fails.
  freeMemory: () => Math.floor(availableMemory() * 0.9),
  sha256: () => digest("sha256"),
  sha1: () => digest("sha1"),
  cacheDirectory,
  homeDirectory: homedir,
  environment,
};

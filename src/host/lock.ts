/** One process at a time writes to a folder: the file `lock` in it names that process. */
import {
  linkSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";
import * as v from "valibot";
import { parseJson } from "../io/json.ts";
import { integer, object, parse } from "../io/schema.ts";
import { reasonOf } from "./files.ts";
import type { FolderLock } from "./host.ts";
import { processField } from "./process_stat.ts";

const ownerSchema = object({
  pid: integer(1),
  host: v.string(),
  /** When the process began: its number may be another's by now. Absent where the system does not tell. */
  began: v.optional(v.string()),
});

type Owner = Readonly<v.InferOutput<typeof ownerSchema>>;

/** Milliseconds after which a file beside the lock is no longer one that is being written. */
const WRITTEN_AFTER = 10_000;
/** Milliseconds in which another process writes its name, on a disk without links. */
const WRITES = 100;

/** Locks `folder`, also where a process that died left its lock. Throws as Host.lock(). */
export function lockFolder(folder: string, action: string): FolderLock {
  const path = join(folder, "lock");
  const own: Owner = { pid: process.pid, host: hostname(), began: beginOf(process.pid) };
  const content = JSON.stringify(own);
  while (!take(path, content)) {
    const found = read(path);
    if (found === undefined) continue; // released meanwhile
    const owner = ownerIn(found);
    if (owner && holds(owner, own)) {
      const who = `process ${owner.pid} of ${owner.host} is at it`;
      const error = new Error(`Cannot ${action} ${folder}: ${who}; if it is not, remove ${path}`);
      throw Object.assign(error, { code: "ELOCKED" });
    }
    // A lock without an owner: its process died or had no disk space while it wrote it, or is writing it right now.
    if (!owner) wait(WRITES);
    if (read(path) === found) moveAway(path, found);
  }
  sweep(folder);
  return {
    release() {
      try {
        if (read(path) === content) rmSync(path, { force: true });
      } catch {
        // A disk that cannot be written to was reported already. The next start sees that the process is dead.
      }
    },
  };
}

/** Makes the lock with its content at once, or not at all; false where one is there. Throws where none can be made. */
function take(path: string, content: string): boolean {
  const own = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(own, content);
    linkSync(own, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (code === "EPERM" || code === "ENOTSUP" || code === "EOPNOTSUPP" || code === "ENOSYS")
      return takeWithoutLink(path, content);
    throw cannotWrite(path, error);
  } finally {
    rmSync(own, { force: true });
  }
}

/** On a disk without links: made empty, then written. What could not be written is removed. */
function takeWithoutLink(path: string, content: string): boolean {
  try {
    writeFileSync(path, "", { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw cannotWrite(path, error);
  }
  try {
    writeFileSync(path, content);
    return true;
  } catch (error) {
    rmSync(path, { force: true });
    throw cannotWrite(path, error);
  }
}

const cannotWrite = (path: string, cause: unknown): Error =>
  new Error(`Cannot write ${path}: ${reasonOf(cause as NodeJS.ErrnoException)}`, { cause });

/** Removes what processes that died while they took the lock left beside it. */
function sweep(folder: string): void {
  for (const name of readdirSync(folder).filter((each) => /^lock\.\d+(\.tmp)?$/.test(each))) {
    const path = join(folder, name);
    const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY);
    if (age > WRITTEN_AFTER) rmSync(path, { force: true });
  }
}

const wait = (milliseconds: number): void =>
  void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);

/** Takes a dead lock out of the way. Of two processes that try, one moves it; what is no longer the dead one goes back. */
function moveAway(path: string, dead: string): void {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
    if (read(aside) === dead) rmSync(aside, { force: true });
    else renameSync(aside, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Undefined where nothing is. Throws where it is no file that can be read. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    const link = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink();
    if (link) throw new Error(`Cannot read ${path}: it is a link to nothing`, { cause: error });
    if (failure.code === "ENOENT" || failure.code === "ENOTDIR") return undefined;
    throw new Error(`Cannot read ${path}: ${reasonOf(failure)}`, { cause: error });
  }
}

/** Undefined where the file names nobody. */
function ownerIn(text: string): Owner | undefined {
  try {
    return parse(ownerSchema, parseJson(text), "the lock");
  } catch {
    return undefined;
  }
}

/** A process of another machine cannot be asked; one with our own number is a past life of a container. */
function holds(owner: Owner, own: Owner): boolean {
  if (owner.host !== own.host) return true;
  if (owner.pid === own.pid) return false;
  const began = beginOf(owner.pid);
  if (owner.began !== undefined && began !== undefined && owner.began !== began) return false;
  try {
    process.kill(owner.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** The start of the system and, in its ticks since then, that of a process; undefined where the system does not tell. */
function beginOf(pid: number): string | undefined {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    const start = processField(pid, 22);
    return start && `${boot} ${start}`;
  } catch {
    return undefined;
  }
}

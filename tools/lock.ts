/** One process at a time writes to a run: RUN/lock names it. */
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";

interface Owner {
  readonly pid: number;
  readonly host: string;
}

/** Milliseconds after which a lock that names nobody is no longer one that is being written. */
const WRITTEN_AFTER = 10_000;

/** Takes the lock, also from a process that died. Throws where another holds it: "Cannot ACTION RUN: …". */
export function lockRun(run: string, action = "train in"): { release(): void } {
  const path = join(run, "lock");
  const own: Owner = { pid: process.pid, host: hostname() };
  const content = JSON.stringify(own);
  const take = (): boolean => {
    try {
      writeFileSync(path, content, { flag: "wx" });
      return true;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === "EEXIST") return false;
      throw new Error(`Cannot write ${path}: ${message}`, { cause: error });
    }
  };
  while (!take()) {
    const found = read(path);
    if (found === undefined) continue; // released meanwhile
    const owner = ownerIn(found);
    if (owner ? holds(owner, own) : Date.now() - statSync(path).mtimeMs < WRITTEN_AFTER) {
      const who = owner ? `process ${owner.pid} of ${owner.host}` : "another process";
      throw new Error(`Cannot ${action} ${run}: ${who} is at it; if it is not, remove ${path}`);
    }
    moveAway(path, found);
  }
  return {
    release() {
      if (read(path) === content) rmSync(path, { force: true });
    },
  };
}

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

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Undefined where the file was cut short: its process died while it wrote. */
function ownerIn(text: string): Owner | undefined {
  try {
    return JSON.parse(text) as Owner;
  } catch {
    return undefined;
  }
}

/** A process of another machine cannot be asked; one with our own number is a past life of a container. */
function holds(owner: Owner, own: Owner): boolean {
  if (owner.host !== own.host) return true;
  if (owner.pid === own.pid) return false;
  try {
    process.kill(owner.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

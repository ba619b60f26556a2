/** One process at a time writes to a run: RUN/lock names it. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";

interface Owner {
  readonly pid: number;
  readonly host: string;
}

/** Takes the lock, also from a process that died. Throws where another holds it. */
export function lockRun(run: string): { release(): void } {
  const path = join(run, "lock");
  const own: Owner = { pid: process.pid, host: hostname() };
  const take = () => writeFileSync(path, JSON.stringify(own), { flag: "wx" });
  try {
    take();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "EEXIST") throw new Error(`Cannot write ${path}: ${message}`, { cause: error });
    const owner = readOwner(path);
    if (owner && holds(owner, own))
      throw new Error(
        `Cannot train in ${run}: process ${owner.pid} of ${owner.host} is at it; if it is not, remove ${path}`,
      );
    rmSync(path, { force: true });
    take();
  }
  return { release: () => rmSync(path, { force: true }) };
}

/** Undefined where the file was cut short: its process died while it wrote. */
function readOwner(path: string): Owner | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Owner;
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

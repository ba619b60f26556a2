/** Keeps native code from writing on stderr for the length of one call. */

import { closeSync, fstatSync, openSync, readFileSync, readlinkSync } from "node:fs";
import process, { platform } from "node:process";
import { isMainThread } from "node:worker_threads";

/** Milliseconds between two looks, and until no more is waited for. */
const WAIT = 5;
const LONGEST_WAIT = 300;

/** Leads descriptor 2 to nowhere; what it returns leads it back. Undefined where that cannot be done without harm. */
type Divert = () => (() => void) | undefined;

/**
 * Runs `call` while file descriptor 2 leads to nowhere. `call` is synchronous, so that no line of anybody else is lost.
 * On Linux alone. Under Node stderr must be a terminal, a pipe or a file: Node cannot copy a descriptor, and a socket
 * (which is what a parent that is Node hands down) cannot be opened by name.
 */
export function withoutNativeStderr<T>(call: () => T): T {
  const back = platform !== "linux" ? undefined : "Deno" in globalThis ? divertByCopy() : divertByName();
  try {
    return call();
  } finally {
    back?.();
  }
}

/** Whether Node's own threads are at work, which open and read files. */
const readsFiles = () => process.getActiveResourcesInfo().some((name) => name.includes("Req"));

/** Waits a while for the files that this program is reading: meanwhile withoutNativeStderr() is not safe. */
export async function untilFilesAreRead(): Promise<void> {
  if ("Deno" in globalThis) return;
  for (let waited = 0; waited < LONGEST_WAIT && readsFiles(); waited += WAIT)
    await new Promise((resolve) => setTimeout(resolve, WAIT));
}

const divertByName: Divert = () => {
  let kept: number;
  try {
    // A file that another thread opens while 2 is closed would become 2: pending reads go on in threads.
    if (!isMainThread || readsFiles()) return undefined;
    if (!reopens(2) && !appendAll(2)) return undefined;
    kept = openSync("/proc/self/fd/2", "a");
  } catch {
    return undefined;
  }
  // The lowest free number is taken: closing 2 makes the next file 2. False where another thread was faster.
  const lead = (path: string): boolean => {
    closeSync(2);
    return openSync(path, "a") === 2;
  };
  const led = lead("/dev/null");
  return () => {
    if (led) lead(`/proc/self/fd/${kept}`);
    closeSync(kept);
  };
};

/** O_APPEND on Linux. */
const APPEND = 0o2000;

/**
 * Whether the descriptor, opened anew by its name, is what it was. After `2>file` whoever inherited it writes at one common
 * position, and of two positions writers would overwrite each other; after `2>>file` all write at the end. A named pipe
 * that lost its reader would wait for another one.
 */
function reopens(descriptor: number): boolean {
  const stat = fstatSync(descriptor);
  if (stat.isFIFO()) return readlinkSync(`/proc/self/fd/${descriptor}`).startsWith("pipe:");
  if (!stat.isFile()) return true;
  const info = readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8");
  return (Number.parseInt(/^flags:\s*(\d+)/m.exec(info)?.[1] ?? "0", 8) & APPEND) !== 0;
}

/**
 * Makes all who share the position of a file write at its end, as after `2>>file`: then it may be opened anew. Of all that
 * Node has, WASI alone can set that flag. It warns that it is experimental, by a name that is swapped for the length of
 * this synchronous call. False where it does not work.
 */
function appendAll(descriptor: number): boolean {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    if (!fstatSync(descriptor).isFile()) return false;
    const { WASI } = process.getBuiltinModule("node:wasi");
    const all = { stdin: descriptor, stdout: descriptor, stderr: descriptor };
    const wasi = new WASI({ version: "preview1", ...all });
    wasi.initialize({ exports: { memory: new WebAssembly.Memory({ initial: 1 }) } });
    const FDFLAGS_APPEND = 1;
    wasi.wasiImport.fd_fdstat_set_flags(2, FDFLAGS_APPEND);
    return reopens(descriptor);
  } catch {
    return false;
  } finally {
    process.emitWarning = emitWarning;
  }
}

interface Descriptors {
  dup(descriptor: number): number;
  dup2(from: number, to: number): number;
  close(descriptor: number): number;
}
declare const Deno: {
  permissions: { querySync(of: { name: "ffi" }): { state: string } };
  dlopen(library: string, symbols: object): { symbols: Descriptors };
};

/** Deno can call the C library, where it is allowed to: a copy of any descriptor leads back. */
const divertByCopy: Divert = () => {
  try {
    if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
    const { symbols: c } = Deno.dlopen("libc.so.6", {
      dup: { parameters: ["i32"], result: "i32" },
      dup2: { parameters: ["i32", "i32"], result: "i32" },
      close: { parameters: ["i32"], result: "i32" },
    });
    const nowhere = openSync("/dev/null", "a");
    const kept = c.dup(2);
    if (kept >= 0) c.dup2(nowhere, 2);
    closeSync(nowhere);
    if (kept < 0) return undefined;
    return () => {
      c.dup2(kept, 2);
      c.close(kept);
    };
  } catch {
    return undefined;
  }
};

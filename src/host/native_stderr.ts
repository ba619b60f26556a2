/** Keeps native code from writing on stderr for the length of one call. */

import { closeSync, openSync } from "node:fs";
import { platform } from "node:process";
import { openLibrary } from "./ffi.ts";

/** The C library, which alone can copy a file descriptor. */
const LIBRARY = "libc.so.6";

/**
 * Runs `call` while file descriptor 2 leads to nowhere, whatever it is. `call` is synchronous, so that no line of anybody
 * else is lost. On Linux with glibc alone; elsewhere, and under Deno without --allow-ffi, it is just called.
 */
export function withoutNativeStderr<T>(call: () => T): T {
  const back = divert();
  try {
    return call();
  } finally {
    back?.();
  }
}

/** Leads descriptor 2 to nowhere; what it returns leads it back. Undefined where that cannot be done. */
function divert(): (() => void) | undefined {
  if (platform !== "linux") return undefined;
  try {
    const c = openLibrary(LIBRARY).declare({ dup: ["i32"], dup2: ["i32", "i32"], close: ["i32"] });
    const nowhere = openSync("/dev/null", "a");
    const kept = c.call("dup", 2);
    if (kept >= 0) c.call("dup2", nowhere, 2);
    closeSync(nowhere);
    if (kept < 0) return undefined;
    return () => {
      c.call("dup2", kept, 2);
      c.call("close", kept);
    };
  } catch {
    return undefined;
  }
}

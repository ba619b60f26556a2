/** Keeps native code from writing on stderr for the length of one call. */

import { closeSync, openSync } from "node:fs";
import { createRequire } from "node:module";
import { platform } from "node:process";

/** Of the C library, which alone can copy a file descriptor. */
interface Descriptors {
  dup(descriptor: number): number;
  dup2(from: number, to: number): number;
  close(descriptor: number): number;
}

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
    const c = "Deno" in globalThis ? throughDeno() : throughPackage();
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
}

const LIBRARY = "libc.so.6";

declare const Deno: {
  permissions: { querySync(of: { name: "ffi" }): { state: string } };
  dlopen(library: string, symbols: object): { symbols: Descriptors };
};

function throughDeno(): Descriptors {
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") throw new Error("no --allow-ffi");
  return Deno.dlopen(LIBRARY, {
    dup: { parameters: ["i32"], result: "i32" },
    dup2: { parameters: ["i32", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  }).symbols;
}

/** Node has no such call. A bundler does not see this import: without the package the call is just made. */
function throughPackage(): Descriptors {
  const { DataType, load, open } = createRequire(import.meta.url)("ffi-rs") as typeof import("ffi-rs");
  open({ library: LIBRARY, path: LIBRARY });
  const call = (funcName: string, values: number[]): number => {
    const paramsType = values.map(() => DataType.I32);
    return load({ library: LIBRARY, funcName, retType: DataType.I32, paramsType, paramsValue: values });
  };
  return {
    dup: (descriptor) => call("dup", [descriptor]),
    dup2: (from, to) => call("dup2", [from, to]),
    close: (descriptor) => call("close", [descriptor]),
  };
}

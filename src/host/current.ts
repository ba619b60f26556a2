/** The host that this process runs on. */

import type { Host } from "./host.ts";

let current: Promise<Host> | undefined;

/** Always the same object. The other host's code is never loaded. */
export function currentHost(): Promise<Host> {
  current ??=
    "Deno" in globalThis
      ? import("./deno.ts").then((module) => module.deno)
      : import("./node.ts").then((module) => module.node);
  return current;
}

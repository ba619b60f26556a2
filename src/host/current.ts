/** The host that this process runs on. */

import type { Host } from "./host.ts";

let current: Promise<Host> | undefined;

/**
 * The host that this process runs on: Node or Deno. Always the same object; the other host's code is never loaded.
 *
 * @example
 * ```ts
 * const host = await currentHost();
 * console.log(host.name === "node" || host.name === "deno"); // true
 * ```
 */
export function currentHost(): Promise<Host> {
  current ??=
    "Deno" in globalThis
      ? import("./deno.ts").then((module) => module.deno)
      : import("./node.ts").then((module) => module.node);
  return current;
}

/** The garbage collector on request, for Node and Deno: V8's own, under the name that its flag --expose-gc gives it. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collector: (() => void) | undefined;

/** Undefined where the runtime allows neither. The flag concerns contexts made while it is set, and that is one. */
function expose(): (() => void) | undefined {
  try {
    setFlagsFromString("--expose-gc");
    const collect: () => void = runInNewContext("gc");
    setFlagsFromString("--no-expose-gc");
    return collect;
  } catch {
    return undefined;
  }
}

/** Native objects are freed by finalisers, which run in a later turn of the event loop. */
export async function collectGarbage(): Promise<void> {
  collector ??= expose() ?? (() => {});
  collector();
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
}

/** Waits for files to be saved. Looks at them now and then: editors replace files, and not every disk tells of it. */
import { stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds between looks. A file counts as saved once it was the same at two. */
const INTERVAL = 150;

/** What tells one state of a file from another; "" where there is none. */
const stateOf = (path: string): Promise<string> =>
  stat(path).then(
    ({ mtimeMs, size, ino }) => `${mtimeMs} ${size} ${ino}`,
    () => "",
  );

/** States of files, by their paths. */
export type States = ReadonlyMap<string, string>;

export async function look(paths: readonly string[]): Promise<States> {
  return new Map(await Promise.all(paths.map(async (path) => [path, await stateOf(path)] as const)));
}

/** Resolves with the files that are no longer as in `before`, once they rest. */
export async function changed(before: States, signal?: AbortSignal): Promise<string[]> {
  const paths = [...before.keys()];
  let last = before;
  for (;;) {
    await sleep(INTERVAL, undefined, { signal });
    const now = await look(paths);
    const different = paths.filter((path) => now.get(path) !== before.get(path));
    const rests = paths.every((path) => now.get(path) === last.get(path));
    // A file that is away is being replaced.
    if (different.length > 0 && rests && different.every((path) => now.get(path) !== "")) return different;
    last = now;
  }
}

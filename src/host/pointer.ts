/** Small text files that stand in place of large ones until they are fetched. */

/** No pointer is longer. */
export const POINTER_BYTES = 1024;

const POINTERS: [RegExp, string][] = [
  [/^version https:\/\/(git-lfs|hawser)\.github\.com\/spec\/v/, "it is a Git LFS pointer: run git lfs pull"],
  [/^([^\s"{}]*[/\\])?(\.git)?[/\\]annex[/\\]objects[/\\]/, "it is a git-annex pointer: run git annex get"],
];

/** What to do about a file that begins with `head` and is such a pointer; undefined for any other. */
export function pointerReason(head: string): string | undefined {
  // Some editors and shells on Windows put a byte order mark before it, read as UTF-8 or byte by byte.
  const text = head.replace(/^(\ufeff|\xef\xbb\xbf)/, "");
  return POINTERS.find(([pattern]) => pattern.test(text))?.[1];
}

/** Throws for a file that begins with `head`, as text or as bytes, where that is such a pointer. */
export function refusePointer(path: string, head: string | Uint8Array): void {
  const begin = head.slice(0, POINTER_BYTES);
  const reason = pointerReason(typeof begin === "string" ? begin : String.fromCharCode(...begin));
  if (reason) throw new Error(`Cannot read ${path}: ${reason}`);
}

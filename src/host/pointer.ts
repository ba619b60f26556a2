/** Small text files that stand in place of large ones until they are fetched. */

/** No pointer is longer. */
export const POINTER_BYTES = 1024;

const POINTERS: [RegExp, string][] = [
  [/^version https:\/\/(git-lfs|hawser)\.github\.com\/spec\/v/, "it is a Git LFS pointer: run git lfs pull"],
  [/^(\.\.\/)*(\.git)?\/annex\/objects\//, "it is a git-annex pointer: run git annex get"],
];

/** What to do about a file that begins with `head` and is such a pointer; undefined for any other. */
export function pointerReason(head: string): string | undefined {
  return POINTERS.find(([pattern]) => pattern.test(head))?.[1];
}

/** "Did you mean …?" */

/** The word of `words` that is nearest to `word`, within `farthest` insertions, deletions and changes of a character. */
export function nearest(word: string, words: Iterable<string>, farthest = 3): string | undefined {
  let best: { word: string; far: number } | undefined;
  for (const each of words) {
    const far = editDistance(word, each);
    if (far <= farthest && far < (best?.far ?? Number.POSITIVE_INFINITY)) best = { word: each, far };
  }
  return best?.word;
}

/** Levenshtein's. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

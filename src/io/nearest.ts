/** "Did you mean …?" */

/** The word of `words` with the least edit distance to `word`; undefined where that exceeds `maxDistance`. */
export function nearest(word: string, words: Iterable<string>, maxDistance = 3): string | undefined {
  let best: { word: string; distance: number } | undefined;
  for (const each of words) {
    const distance = editDistance(word, each);
    if (distance <= maxDistance && distance < (best?.distance ?? Number.POSITIVE_INFINITY))
      best = { word: each, distance };
  }
  return best?.word;
}

/** Levenshtein distance. */
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

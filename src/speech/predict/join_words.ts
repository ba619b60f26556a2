/** Words of windows that overlap, joined to one text. */
import type { DecodedWord, Transcript } from "../../io/decode.ts";
import type { CtcVocabulary } from "../../io/vocabulary.ts";

/** Seconds by which the times of one word may differ in two windows. */
const MAX_SHIFT = 0.3;

/**
 * Where the words of two windows are to be cut that share the time from `begin` to `end`: words `before` of the first are kept, and
 * of the second those from `from` on. The cut goes through a word that both have at the same time, the one nearest to the middle; where
 * there is none, through the middle.
 */
export function cutOf(
  first: readonly DecodedWord[],
  second: readonly DecodedWord[],
  [begin, end]: readonly [number, number],
): { before: number; from: number } {
  const middle = (begin + end) / 2;
  let best: { before: number; from: number; distance: number } | undefined;
  for (let i = first.length - 1; i >= 0 && first[i].end > begin - MAX_SHIFT; i--)
    for (let j = 0; j < second.length && second[j].start < end + MAX_SHIFT; j++) {
      const [a, b] = [centre(first[i]), centre(second[j])];
      if (first[i].text !== second[j].text || Math.abs(a - b) > MAX_SHIFT) continue;
      const distance = Math.abs((a + b) / 2 - middle);
      if (!best || distance < best.distance) best = { before: i + 1, from: j + 1, distance };
    }
  if (best) return best;
  const before = first.findIndex((word) => centre(word) >= middle);
  const from = second.findIndex((word) => centre(word) >= middle);
  return { before: before < 0 ? first.length : before, from: from < 0 ? second.length : from };
}

const centre = ({ start, end }: DecodedWord): number => (start + end) / 2;

/** A word later by `seconds`. */
export const laterBy = (seconds: number, { characters, ...word }: DecodedWord): DecodedWord => ({
  ...word,
  start: word.start + seconds,
  end: word.end + seconds,
  characters: characters.map((each) => ({ ...each, start: each.start + seconds, end: each.end + seconds })),
});

/** The transcript of words. */
export function transcriptOf(words: DecodedWord[], vocabulary: CtcVocabulary): Transcript {
  const idOf = new Map(vocabulary.tokens.map((token, id) => [token, id]));
  const ids = words.flatMap(({ characters }, i) => [
    ...(i > 0 && vocabulary.delimiter !== undefined ? [vocabulary.delimiter] : []),
    ...characters.flatMap(({ text }) => idOf.get(text) ?? []),
  ]);
  return { text: words.map(({ text }) => text).join(" "), words, ids };
}

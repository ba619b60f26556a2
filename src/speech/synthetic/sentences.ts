/**
 * Sentences of the synthetic corpus: clauses that carry no emotion, with a slot for a keyword that does. Clauses without a
 * slot only lengthen a sentence.
 */
import { normalizeTranscript } from "../../io/text.ts";
import { type Keywords, type PartOfSpeech, slicePool } from "./lexicon.ts";
import { TYPES } from "./prosody.ts";
import type { Random } from "../corpora/random.ts";

export interface Clause {
  readonly words: readonly string[];
  /** Index of the keyword in words. */
  readonly keyword?: number;
}

const SLOTS: readonly string[] = [
  "i think the {noun} is over there",
  "you know this is your {noun}",
  "and then the {noun} came back",
  "he told me about the {noun}",
  "there was that {noun} again",
  "we saw the {noun} last night",
  "you said it was so {adjective}",
  "it all looks {adjective} to me now",
  "she was always {adjective} with us",
  "that was a really {adjective} day",
  "they are so {adjective} today",
  "he said the place was {adjective}",
  "they {verb} me again last night",
  "we {verb} him in the end",
  "you {verb} my mother today",
  "she {verb} all of them",
  "i know that he {verb} you",
  "my father {verb} her this time",
];

/** Templates of the smallest corpus, one per part of speech. */
const FEW_SLOTS: readonly string[] = [
  "there was that {noun} again",
  "you said it was so {adjective}",
  "they {verb} me today",
];

const FILLERS: readonly string[] = [
  "you know how it is",
  "i was at home",
  "we talked about it",
  "that is what she said",
  "i do not know why",
  "it was so late",
  "listen to me now",
  "he came back at 5",
  "so here we are",
  "i told you before",
  "it is what it is",
  "she was there too",
  "they said it again",
  "we have all day",
  "this is my home",
  "look at me",
];

/** Templates of alignment items: two nouns, of which the stressed one decides the label. */
const PAIRS: readonly string[] = [
  "there was the {noun} and the {noun} again",
  "he told me about the {noun} and the {noun}",
  "you know about the {noun} and that {noun} now",
  "we saw the {noun} and then the {noun} today",
];

const SLOT = /^\{(adjective|noun|verb)\}$/;

function fill(template: string, nextWord: (part: PartOfSpeech) => string): Clause & { keywords: number[] } {
  const keywords: number[] = [];
  const words = template.split(" ").map((word, i) => {
    const slot = SLOT.exec(word);
    if (slot === null) return word;
    keywords.push(i);
    return nextWord(slot[1] as PartOfSpeech);
  });
  return { words, keyword: keywords[0], keywords };
}

/** Chooses a keyword of the wanted part of speech. */
export type Choose = (part: PartOfSpeech) => string;

export function chooseFrom(keywords: Keywords, random: Random): Choose {
  return (part) => random.pick(keywords[part]);
}

/** One clause with a keyword. `few` keeps to three templates. */
function slotClause(choose: Choose, random: Random, few = false): Clause {
  const { words, keyword } = fill(random.pick(few ? FEW_SLOTS : SLOTS), choose);
  return { words, keyword };
}

/** Two clauses, 7 to 14 words, the keyword in one of them or in both. */
export function longSentence(choose: Choose, random: Random): Clause[] {
  if (random.uniform() < 0.5) return [slotClause(choose, random), slotClause(choose, random)];
  return random.shuffled([slotClause(choose, random), { words: random.pick(FILLERS).split(" ") }]);
}

/** One or two clauses, 4 to 14 words, at least one keyword. */
export function sentence(choose: Choose, random: Random, few = false): Clause[] {
  return few || random.uniform() < 0.3 ? [slotClause(choose, random, few)] : longSentence(choose, random);
}

/** A clause with both nouns, in this order, and where they stand. */
export function pairClause(
  first: string,
  second: string,
  random: Random,
): { clause: Clause; places: number[] } {
  const nouns = [first, second];
  const { words, keywords } = fill(random.pick(PAIRS), () => nouns.shift()!);
  return { clause: { words }, places: keywords };
}

/** "There was that liar again, look at me." */
export function written(clauses: readonly Clause[]): string {
  const text = `${clauses.map((clause) => clause.words.join(" ")).join(", ")}.`;
  const capital = text[0].toUpperCase() + text.slice(1);
  return capital.replace(/\bi\b/g, "I");
}

/**
 * Plain text for masked language modelling. Nearly every line has two to four keywords of one type from the whole lexicon,
 * so that BERT learns the type of keywords that no training clip contains.
 */
export function* textCorpus(lines: number, perPart: number, random: Random, few = false): Generator<string> {
  const pool = slicePool(0, perPart);
  for (let i = 0; i < lines; i++) {
    const choose = chooseFrom(pool[random.pick(TYPES)], random);
    const described: Choose = (part) =>
      part === "noun" && random.uniform() < 0.5 ? `${choose("adjective")} ${choose("noun")}` : choose(part);
    const draw = few ? 0 : random.uniform();
    const first = slotClause(described, random, few);
    const second =
      draw < 0.7
        ? slotClause(described, random, few)
        : draw < 0.85
          ? { words: random.pick(FILLERS).split(" ") }
          : pairClause(choose("noun"), choose("noun"), random).clause;
    yield written(random.shuffled([first, second]));
  }
}

/** Every word that the generator can produce, in lower case, sorted. */
export function vocabulary(perPart: number, few = false): string[] {
  const words = new Set<string>();
  for (const template of few ? FEW_SLOTS : [...SLOTS, ...FILLERS, ...PAIRS]) {
    for (const word of template.split(" ")) if (!SLOT.test(word)) words.add(word);
  }
  const pool = slicePool(0, perPart);
  for (const type of TYPES)
    for (const list of Object.values(pool[type])) for (const word of list) words.add(word);
  return [...new Set([...words].map((word) => normalizeTranscript(word).toLowerCase()))].sort();
}

/** A WordPiece vocabulary: special tokens, every character alone and inside a word, then `words`. */
export function wordPieces(words: readonly string[]): string[] {
  const special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
  const characters = [..."abcdefghijklmnopqrstuvwxyz'"];
  return [...new Set([...special, ...characters, ...characters.map((c) => `##${c}`), ...words])];
}

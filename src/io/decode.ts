/**
 * CTC decoding: from the log probabilities of a CTC head to words with times and confidences.
 *
 * All functions take natural log probabilities (T, V). Frame t begins at t·secondsPerFrame and lasts until the next.
 */

import { prefixBeamSearch } from "./beam.ts";
import type { LanguageModel } from "./language_model.ts";
import type { Sequence } from "./sequence_search.ts";
import type { CtcVocabulary } from "./vocabulary.ts";

/** Options of decodeGreedy(). */
export interface DecodeOptions {
  /** Time between frames: secondsPerFrame() of the encoder's config, 0.02 for the published ones. */
  readonly secondsPerFrame: number;
}

/** A recognised character. */
export interface DecodedCharacter {
  /** The token. */
  text: string;
  /** Begin of its first frame, in seconds. */
  start: number;
  /** End of its last frame, in seconds. */
  end: number;
  /** Mean probability over its frames. */
  confidence: number;
}

/** A recognised word. */
export interface DecodedWord {
  /** Its characters, joined. */
  text: string;
  /** Begin of its first character, in seconds. */
  start: number;
  /** End of its last character, in seconds. */
  end: number;
  /** Geometric mean of the confidences of its characters. */
  confidence: number;
  /** Its characters, in order. */
  characters: DecodedCharacter[];
}

/** A recognised text. */
export interface Transcript {
  /** Words joined by single spaces. */
  text: string;
  /** In order. */
  words: DecodedWord[];
  /** Token ids of the text, without blanks and other special tokens: the input of `CtcVocabulary.decode`. */
  ids: number[];
}

/**
 * Greedy decoding: the likeliest token of each frame, repeats collapsed, blanks removed. Throws a TypeError where logProbs is no
 * whole number of frames, a RangeError for a secondsPerFrame that is not above 0.
 */
export function decodeGreedy(
  logProbs: Float32Array,
  vocabulary: CtcVocabulary,
  { secondsPerFrame }: DecodeOptions,
): Transcript {
  const V = vocabulary.size;
  const T = countFrames(logProbs, V);
  const spans: TokenSpan[] = [];
  let previous = vocabulary.blank;
  for (let t = 0; t < T; t++) {
    let best = 0;
    for (let v = 1; v < V; v++) if (logProbs[t * V + v] > logProbs[t * V + best]) best = v;
    if (best !== vocabulary.blank) {
      if (best === previous) spans.at(-1)!.end = t + 1;
      else spans.push({ id: best, begin: t, end: t + 1 });
    }
    previous = best;
  }
  return transcript(spans, logProbs, vocabulary, secondsPerFrame);
}

/** Options of decodeBeam(). */
export interface BeamOptions extends DecodeOptions {
  /** Prefixes that are kept. Default 16, with a language model 32. */
  readonly beamWidth?: number;
  /** Decides between texts together with the speech. */
  readonly languageModel?: LanguageModel;
  /** False: speech follows, and the language model takes neither the last word nor the sentence for whole. Default true. */
  readonly isEnd?: boolean;
}

/**
 * Prefix beam search; times are those of the likeliest path of the text that it finds, and confidences by the speech alone. Throws
 * as decodeGreedy(), and a RangeError where a language model is given and the vocabulary has no space between words.
 */
export function decodeBeam(
  logProbs: Float32Array,
  vocabulary: CtcVocabulary,
  { secondsPerFrame, languageModel, beamWidth = languageModel ? 32 : 16, isEnd }: BeamOptions,
): Transcript {
  countFrames(logProbs, vocabulary.size);
  const scorer = languageModel?.scorer(vocabulary);
  const { size, blank } = vocabulary;
  const [{ ids }] = prefixBeamSearch(logProbs, size, blank, beamWidth, scorer, isEnd);
  const spans = forcedAlign(logProbs, size, blank, ids);
  return transcript(spans, logProbs, vocabulary, secondsPerFrame);
}

/** A token and its frames. */
export interface TokenSpan {
  id: number;
  /** First frame. */
  begin: number;
  /** One past the last frame. */
  end: number;
}

/**
 * Forced alignment: the likeliest path that collapses to `ids`, by Viterbi over the states blank, l₁, blank, … l_S, blank.
 * Throws a RangeError where no path of so many frames does.
 */
export function forcedAlign(
  logProbs: Float32Array,
  V: number,
  blank: number,
  ids: readonly number[],
): TokenSpan[] {
  if (ids.length === 0) return [];
  const T = countFrames(logProbs, V);
  const S = 2 * ids.length + 1;
  const label = (s: number) => (s % 2 === 0 ? blank : ids[(s - 1) / 2]);
  const steps = new Uint8Array(T * S); // how many states the best path into each state advanced
  let score = new Float64Array(S).fill(Number.NEGATIVE_INFINITY);
  score[0] = logProbs[blank];
  score[1] = logProbs[ids[0]];
  for (let t = 1; t < T; t++) {
    const next = new Float64Array(S);
    for (let s = 0; s < S; s++) {
      const skips = s % 2 === 1 && s > 1 && label(s) !== label(s - 2);
      let step = 0;
      if (s > 0 && score[s - 1] > score[s]) step = 1;
      if (skips && score[s - 2] > score[s - step]) step = 2;
      steps[t * S + s] = step;
      next[s] = score[s - step] + logProbs[t * V + label(s)];
    }
    score = next;
  }
  let s = score[S - 1] > score[S - 2] ? S - 1 : S - 2;
  if (T === 0 || score[s] === Number.NEGATIVE_INFINITY) {
    throw new RangeError(`Cannot align ${ids.length} labels: no path of ${T} frames spells them`);
  }
  const spans = ids.map((id) => ({ id, begin: T, end: 0 }));
  for (let t = T - 1; t >= 0; s -= steps[t * S + s], t--) {
    if (s % 2 === 0) continue;
    const span = spans[(s - 1) / 2];
    span.begin = t;
    span.end = Math.max(span.end, t + 1);
  }
  return spans;
}

/**
 * The spans without special tokens. As in transformers equal characters on both sides of a special token are one: only a
 * blank separates them.
 */
function textSpans(spans: readonly TokenSpan[], vocabulary: CtcVocabulary): TokenSpan[] {
  const kept: TokenSpan[] = [];
  let covered = -1; // the end of the last span and of special ones that adjoin it
  for (const span of spans) {
    const last = kept.at(-1);
    const adjoins = span.begin === covered;
    if (vocabulary.isSpecial(span.id)) {
      if (adjoins) covered = span.end;
      continue;
    }
    if (adjoins && last?.id === span.id) last.end = span.end;
    else kept.push({ ...span });
    covered = span.end;
  }
  return kept;
}

function transcript(
  found: readonly TokenSpan[],
  logProbs: Float32Array,
  vocabulary: CtcVocabulary,
  secondsPerFrame: number,
): Transcript {
  checkSeconds(secondsPerFrame);
  const spans = textSpans(found, vocabulary);
  return written(
    spans.map(({ id, begin, end }) => {
      let sum = 0;
      for (let t = begin; t < end; t++) sum += Math.exp(logProbs[t * vocabulary.size + id]);
      const times = { start: begin * secondsPerFrame, end: end * secondsPerFrame };
      return { id, ...times, confidence: sum / (end - begin) };
    }),
    vocabulary,
  );
}

/**
 * The transcript of a sequence that an attention decoder wrote, special tokens left out. A character has the time of the frame
 * that the attention weighed most, which need not be in order. Throws a RangeError for a secondsPerFrame that is not above 0.
 */
export function spelledTranscript(
  { ids, logProbabilities, positions }: Sequence,
  vocabulary: CtcVocabulary,
  { secondsPerFrame }: DecodeOptions,
): Transcript {
  checkSeconds(secondsPerFrame);
  const characters = ids.map((id, i) => ({
    ...{ id, confidence: Math.exp(logProbabilities[i]) },
    ...{ start: positions[i] * secondsPerFrame, end: (positions[i] + 1) * secondsPerFrame },
  }));
  return written(
    characters.filter(({ id }) => !vocabulary.isSpecial(id)),
    vocabulary,
  );
}

function checkSeconds(secondsPerFrame: number): void {
  if (!(secondsPerFrame > 0))
    throw new RangeError(`Cannot decode: secondsPerFrame is ${secondsPerFrame}, expected a number above 0`);
}

/** Characters, word delimiters among them, as words. */
function written(
  found: readonly (Omit<DecodedCharacter, "text"> & { readonly id: number })[],
  vocabulary: CtcVocabulary,
): Transcript {
  const words: DecodedWord[] = [];
  let characters: DecodedCharacter[] = [];
  const finish = () => {
    if (characters.length === 0) return;
    const logs = characters.reduce((sum, character) => sum + Math.log(character.confidence), 0);
    words.push({
      text: characters.map((character) => character.text).join(""),
      start: characters[0].start,
      end: characters.at(-1)!.end,
      confidence: Math.exp(logs / characters.length),
      characters,
    });
    characters = [];
  };
  for (const { id, ...character } of found) {
    if (id === vocabulary.delimiter) finish();
    else characters.push({ text: vocabulary.tokens[id], ...character });
  }
  finish();
  return { text: words.map((word) => word.text).join(" "), words, ids: found.map(({ id }) => id) };
}

function countFrames(logProbs: Float32Array, V: number): number {
  if (logProbs.length % V === 0) return logProbs.length / V;
  throw new TypeError(`Cannot decode: ${logProbs.length} log-probabilities are not whole frames of ${V}`);
}

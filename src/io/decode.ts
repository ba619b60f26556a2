/**
 * From the log-probabilities of a CTC head to words with times and confidences.
 *
 * All functions take T×V natural log-probabilities, row after row, V being the vocabulary's size. Frame t
 * stands for the time from t·secondsPerFrame on, until the next frame.
 */

import { prefixBeamSearch } from "./beam.ts";
import type { CtcVocabulary } from "./vocabulary.ts";

export interface DecodeOptions {
  /** Of one frame: secondsPerFrame() of the encoder's config, 0.02 for the published ones. */
  readonly secondsPerFrame: number;
}

export interface DecodedCharacter {
  text: string;
  /** Seconds: the frames that bear this character, from the first's begin to the last's end. */
  start: number;
  end: number;
  /** Mean probability of the character over those frames. */
  confidence: number;
}

export interface DecodedWord {
  text: string;
  /** Seconds: begin of the first character, end of the last. */
  start: number;
  end: number;
  /** Geometric mean of the confidences of its characters. */
  confidence: number;
  characters: DecodedCharacter[];
}

export interface Transcript {
  /** Words joined by single spaces. */
  text: string;
  words: DecodedWord[];
  /** Labels of the text, without blanks and other special tokens: the input of `CtcVocabulary.text`. */
  ids: number[];
}

/** The likeliest token of each frame, repeats collapsed, blanks dropped. */
export function decodeGreedy(
  logProbs: Float32Array,
  vocabulary: CtcVocabulary,
  { secondsPerFrame }: DecodeOptions,
): Transcript {
  const V = vocabulary.size;
  const T = countFrames(logProbs, V);
  const runs: TokenSpan[] = [];
  let previous = vocabulary.blank;
  for (let t = 0; t < T; t++) {
    let best = 0;
    for (let v = 1; v < V; v++) if (logProbs[t * V + v] > logProbs[t * V + best]) best = v;
    if (best !== vocabulary.blank) {
      if (best === previous) runs.at(-1)!.end = t + 1;
      else runs.push({ id: best, begin: t, end: t + 1 });
    }
    previous = best;
  }
  return transcript(runs, logProbs, vocabulary, secondsPerFrame);
}

/** The likeliest labelling by prefix beam search, with the times of its own likeliest path. */
export function decodeBeam(
  logProbs: Float32Array,
  vocabulary: CtcVocabulary,
  { secondsPerFrame, beamWidth = 16 }: DecodeOptions & { readonly beamWidth?: number },
): Transcript {
  countFrames(logProbs, vocabulary.size);
  const [{ ids }] = prefixBeamSearch(logProbs, vocabulary.size, vocabulary.blank, beamWidth);
  const runs = forcedAlign(logProbs, vocabulary.size, vocabulary.blank, ids);
  return transcript(runs, logProbs, vocabulary, secondsPerFrame);
}

/** One label and the frames that bear it. */
export interface TokenSpan {
  id: number;
  begin: number;
  end: number;
}

/** The likeliest path that spells `ids` (Viterbi over blank, l₁, blank, … l_S, blank), as runs of frames. */
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
  const steps = new Uint8Array(T * S); // how many states each best path came up
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
  const runs = ids.map((id) => ({ id, begin: T, end: 0 }));
  for (let t = T - 1; t >= 0; s -= steps[t * S + s], t--) {
    if (s % 2 === 0) continue;
    const run = runs[(s - 1) / 2];
    run.begin = t;
    run.end = Math.max(run.end, t + 1);
  }
  return runs;
}

/**
 * Runs of what is text. A label that is none leaves no trace, as in transformers: on both sides of it the same letter is
 * one, for only a blank parts letters.
 */
function textSpans(runs: readonly TokenSpan[], vocabulary: CtcVocabulary): TokenSpan[] {
  const kept: TokenSpan[] = [];
  let covered = -1; // the end of the last run and of the special ones right behind it
  for (const run of runs) {
    const last = kept.at(-1);
    const adjoins = run.begin === covered;
    if (vocabulary.isSpecial(run.id)) {
      if (adjoins) covered = run.end;
      continue;
    }
    if (adjoins && last?.id === run.id) last.end = run.end;
    else kept.push({ ...run });
    covered = run.end;
  }
  return kept;
}

function transcript(
  found: readonly TokenSpan[],
  logProbs: Float32Array,
  vocabulary: CtcVocabulary,
  secondsPerFrame: number,
): Transcript {
  if (!(secondsPerFrame > 0))
    throw new RangeError(`Cannot decode: secondsPerFrame is ${secondsPerFrame}, expected a number above 0`);
  const runs = textSpans(found, vocabulary);
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
  for (const { id, begin, end } of runs) {
    if (id === vocabulary.delimiter) finish();
    else {
      let sum = 0;
      for (let t = begin; t < end; t++) sum += Math.exp(logProbs[t * vocabulary.size + id]);
      characters.push({
        text: vocabulary.tokens[id],
        start: begin * secondsPerFrame,
        end: end * secondsPerFrame,
        confidence: sum / (end - begin),
      });
    }
  }
  finish();
  return { text: words.map((word) => word.text).join(" "), words, ids: runs.map((run) => run.id) };
}

function countFrames(logProbs: Float32Array, V: number): number {
  if (logProbs.length % V === 0) return logProbs.length / V;
  throw new TypeError(`Cannot decode: ${logProbs.length} log-probabilities are not whole frames of ${V}`);
}

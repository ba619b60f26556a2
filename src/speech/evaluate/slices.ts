/** Scores of the parts of a test set: by speaker, kind of dialogue, duration and word errors. */
import { LABELS } from "../corpora/corpus.ts";
import { editsOf, meanGates } from "../metrics/answer.ts";
import { argmax, score } from "../metrics/metrics.ts";
import { totalEdits, wer } from "../metrics/wer.ts";
import type { Answer } from "./report.ts";

/** Scores of a part of the test set. */
export interface Slice {
  /** Number of utterances. */
  readonly count: number;
  /** Unweighted accuracy. */
  readonly ua: number;
  /** Weighted accuracy. */
  readonly wa: number;
  /** Word error rate; absent where the system recognises no words. */
  readonly wer?: number;
  /** Means of the gates, the weight of the own modality against the other; absent where the system has none. */
  readonly gates?: { readonly acoustic: number; readonly text: number };
}

/** A part of the test set. */
export interface Part extends Slice {
  /** What the parts differ in. */
  readonly by: "speaker" | "kind" | "duration" | "word errors";
  /** "speaker 01F", "improvised", "under 2 s", "no word errors". */
  readonly name: string;
}

type Bins = readonly (readonly [below: number, name: string])[];

const DURATIONS: Bins = [
  [2, "under 2 s"],
  [4, "2 to 4 s"],
  [8, "4 to 8 s"],
  [Number.POSITIVE_INFINITY, "8 s and over"],
];

/** By the WER of the utterance. */
const WORD_ERRORS: Bins = [
  [Number.MIN_VALUE, "no word errors"],
  [0.25, "WER under 25 %"],
  [0.5, "WER 25 to 50 %"],
  [Number.POSITIVE_INFINITY, "WER 50 % and over"],
];

const binOf = (bins: Bins, value: number): string | undefined => bins.find(([below]) => value < below)?.[1];

/** The parts that have an utterance: speakers by name, then kinds, durations and word errors in their order. */
export function partsOf(answers: readonly Answer[]): Part[] {
  const speakers = [...new Set(answers.map(({ utterance }) => utterance.speaker))].sort();
  const rates = editsOf(answers)?.map(wer);
  const groups: [Part["by"], readonly string[], (answer: Answer, i: number) => string | undefined][] = [
    [
      "speaker",
      speakers.map((speaker) => `speaker ${speaker}`),
      ({ utterance }) => `speaker ${utterance.speaker}`,
    ],
    [
      "kind",
      ["improvised", "scripted"],
      ({ utterance }) => (utterance.improvised ? "improvised" : "scripted"),
    ],
    [
      "duration",
      DURATIONS.map(([, name]) => name),
      ({ utterance: { seconds } }) => (seconds === undefined ? undefined : binOf(DURATIONS, seconds)),
    ],
    [
      "word errors",
      WORD_ERRORS.map(([, name]) => name),
      (_, i) => (rates === undefined || Number.isNaN(rates[i]) ? undefined : binOf(WORD_ERRORS, rates[i])),
    ],
  ];
  return groups.flatMap(([by, names, nameOf]) => {
    const of = answers.map(nameOf);
    return names.flatMap((name) => {
      const part = answers.filter((_, i) => of[i] === name);
      return part.length === 0 ? [] : [{ by, name, ...sliceOf(part) }];
    });
  });
}

function sliceOf(part: readonly Answer[]): Slice {
  const { ua, wa, count } = score(
    part.map((answer) => LABELS.indexOf(answer.utterance.label)),
    part.map((answer) => argmax(answer.probabilities)),
    LABELS.length,
  );
  const edits = editsOf(part);
  return { count, ua, wa, wer: edits && wer(totalEdits(edits)), gates: meanGates(part) };
}

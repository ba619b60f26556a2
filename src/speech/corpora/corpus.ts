/** What every reader of a corpus returns, whatever lies on disk. */
import type { Label } from "../system/labels.ts";

export { LABELS, type Label } from "../system/labels.ts";

export interface Utterance {
  readonly id: string;
  /** Path of the wav file. */
  readonly wav: string;
  /** The transcript as the corpus gives it. */
  readonly text: string;
  /** The transcript after normalizeTranscript(): CTC target, WER reference and BERT input. */
  readonly words: string;
  /** Absent where the corpus has a label outside the four classes. */
  readonly label?: Label;
  /** The one who speaks, not the one who wears the markers. */
  readonly speaker: string;
  readonly session: string;
  /** Utterances of one dialogue stay on one side of a split. */
  readonly dialogue: string;
  readonly improvised: boolean;
  /** Length of the wav; known after examine(). */
  readonly seconds?: number;
  /** Place in the dialogue, in seconds. */
  readonly start?: number;
  readonly end?: number;
}

export type ProblemKind =
  | "missing wav"
  | "unreadable wav"
  | "wrong wav length"
  | "unknown label"
  | "missing transcript"
  | "empty transcript"
  | "text not UTF-8"
  | "dropped characters"
  | "transcript too long"
  | "short clip"
  | "long clip"
  | "silent clip"
  | "duplicate id"
  | "incomplete release";

/** Something wrong with one utterance or one file, and what was done about it. */
export interface Problem {
  /** The utterance's id, or the file's path in the corpus. */
  readonly id: string;
  readonly kind: ProblemKind;
  readonly handled: string;
}

export interface Corpus {
  readonly name: string;
  readonly root: string;
  /** Names of the sessions that lie there, whether or not something in them can be used. */
  readonly sessions: readonly string[];
  readonly utterances: readonly Utterance[];
  /** Label codes outside the four classes, with their counts: left out, and no problem. */
  readonly otherLabels: ReadonlyMap<string, number>;
  readonly problems: readonly Problem[];
}

/** One problem as a line: whose, what, and what was done about it. */
export const problemLine = ({ id, kind, handled }: Problem): string => `${id}: ${kind}, ${handled}`;

/** "missing wav 2, short clip 1", most frequent first; empty where there is none. */
export function summarizeProblems(problems: readonly Problem[]): string {
  const counts = new Map<ProblemKind, number>();
  for (const { kind } of problems) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([kind, n]) => `${kind} ${n}`)
    .join(", ");
}

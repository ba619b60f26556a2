/** A corpus in memory: utterances, and the problems that its reader found. */
import type { Label } from "../system/labels.ts";

export { LABELS, type Label } from "../system/labels.ts";

/** One utterance of a corpus: its recording, transcript and label. */
export interface Utterance {
  /** Unique in the corpus. */
  readonly id: string;
  /** Path of the wav file. */
  readonly wav: string;
  /** The transcript as the corpus gives it. */
  readonly text: string;
  /** The transcript after normalizeTranscript(): CTC target, WER reference and input of BERT. */
  readonly words: string;
  /** Absent where the corpus has a label outside the four classes. */
  readonly label?: Label;
  /** The one who speaks, not the one who wears the markers. */
  readonly speaker: string;
  /** Name of the session, which is what folds hold out. */
  readonly session: string;
  /** Utterances of one dialogue stay on one side of a split. */
  readonly dialogue: string;
  /** False: scripted. */
  readonly improvised: boolean;
  /** Length of the recording in seconds, set by examine(). */
  readonly seconds?: number;
  /** Begin in the dialogue, in seconds. */
  readonly start?: number;
  /** End in the dialogue, in seconds. */
  readonly end?: number;
}

/** What is wrong. */
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

/** A problem of one utterance or file, and what was done about it. */
export interface Problem {
  /** The utterance's id, or the file's path in the corpus. */
  readonly id: string;
  /** What is wrong. */
  readonly kind: ProblemKind;
  /** What was done: "left out: …", "kept: …". */
  readonly handled: string;
}

/** A corpus as its reader found it. */
export interface Corpus {
  /** "IEMOCAP" or "synthetic". */
  readonly name: string;
  /** The folder that holds the sessions. */
  readonly root: string;
  /** Names of all sessions, also of those without a usable utterance. */
  readonly sessions: readonly string[];
  /** Without those that cannot be used. */
  readonly utterances: readonly Utterance[];
  /** Label codes outside the four classes with their counts: left out, and no problem. */
  readonly otherLabels: ReadonlyMap<string, number>;
  /** What is wrong with utterances and files. */
  readonly problems: readonly Problem[];
}

/** A problem as one line. */
export const problemLine = ({ id, kind, handled }: Problem): string => `${id}: ${kind}, ${handled}`;

/** "missing wav 2, short clip 1", the most frequent first; empty where there are none. */
export function summarizeProblems(problems: readonly Problem[]): string {
  const counts = new Map<ProblemKind, number>();
  for (const { kind } of problems) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([kind, n]) => `${kind} ${n}`)
    .join(", ");
}

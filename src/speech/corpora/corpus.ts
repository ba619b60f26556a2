/** A corpus in memory: utterances, and the problems that its reader found. */
import { LABELS, type Label } from "../system/labels.ts";

export { LABELS, type Label } from "../system/labels.ts";

/** Side of a split that a corpus comes with. */
export type Split = "train" | "dev" | "test";

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
  /** Name of the session, which is what folds hold out: of a corpus without sessions a group of speakers, or its split. */
  readonly session: string;
  /** Where the corpus comes with a split of its own, which is then its only fold. */
  readonly split?: Split;
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

/** The rule of folds of a corpus that has sessions. */
export const SESSIONS = "sessions";

/** Stands for the speaker where a corpus does not say who it is. */
export const UNKNOWN_SPEAKER = "unknown";

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
  | "other name"
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
  /** "IEMOCAP", "synthetic", "RAVDESS", …; of a manifest its file's name. */
  readonly name: string;
  /** The folder that holds the sessions. */
  readonly root: string;
  /** Names of all sessions, also of those without a usable utterance. */
  readonly sessions: readonly string[];
  /** Without those that cannot be used. */
  readonly utterances: readonly Utterance[];
  /** Label codes outside the four classes with their counts: left out, and no problem. */
  readonly otherLabels: ReadonlyMap<string, number>;
  /** The corpus's labels that are one of the four classes, with the class and their counts. */
  readonly ownLabels: ReadonlyMap<string, { readonly label: Label; readonly count: number }>;
  /** False where it has no transcripts at all. */
  readonly transcribed: boolean;
  /** What its folds are: sessions, groups of speakers or a split of its own. */
  readonly foldRule: string;
  /** What is wrong with utterances and files. */
  readonly problems: readonly Problem[];
}

/** Counts of a corpus's labels by class and of those left out: "neutral 288 = calm 192 + neutral 96; left out: fearful 192". */
export function labelLine({ ownLabels, otherLabels }: Pick<Corpus, "ownLabels" | "otherLabels">): string {
  const classes = LABELS.map((label) => {
    const own = [...ownLabels].filter(([, each]) => each.label === label).sort();
    const all = own.reduce((sum, [, { count }]) => sum + count, 0);
    const same = own.length === 0 || (own.length === 1 && own[0][0] === label);
    return `${label} ${all}${same ? "" : ` = ${own.map(([name, { count }]) => `${name} ${count}`).join(" + ")}`}`;
  });
  const others = [...otherLabels].sort().map(([name, n]) => `${name} ${n}`);
  return `${classes.join(", ")}; left out: ${others.join(", ") || "none"}`;
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

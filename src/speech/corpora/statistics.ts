/** Statistics of a corpus. */
import { LABELS, type Label } from "./corpus.ts";
import type { Examined } from "./examine.ts";
import { bySession } from "./folds.ts";

/** Number of utterances of a session by label, and others. */
export interface SessionStatistics extends Readonly<Record<Label, number>> {
  /** Its name. */
  readonly session: string;
  /** Number of utterances, with or without a label. */
  readonly all: number;
  /** Number of improvised utterances. */
  readonly improvised: number;
  /** Of all utterances, rounded. */
  readonly seconds: number;
}

/** The result of corpusStatistics(). */
export interface CorpusStatistics {
  /** Number of utterances. */
  readonly clips: number;
  /** All sessions, in the order of their numbers. */
  readonly sessions: readonly SessionStatistics[];
  /** Lengths of the clips and their total; NaN and undefined where there are none. */
  readonly seconds: Readonly<Record<"total" | "mean" | "min" | "median" | "p95" | "max", number>>;
  /** Number of words, and of different words. */
  readonly words: { readonly count: number; readonly types: number };
}

/** Statistics of the usable utterances; `sessions` names all sessions of the corpus. */
export function corpusStatistics(
  utterances: Examined["utterances"],
  sessions: readonly string[],
): CorpusStatistics {
  const seconds = utterances.map((u) => u.seconds ?? 0).sort((a, b) => a - b);
  const total = seconds.reduce((a, b) => a + b, 0);
  const at = (q: number) => seconds[Math.floor(q * (seconds.length - 1))];
  const words = utterances.flatMap((u) => u.words.split(" ").filter((word) => word !== ""));
  return {
    clips: utterances.length,
    sessions: [...sessions].sort(bySession).map((session) => {
      const own = utterances.filter((u) => u.session === session);
      const labels = LABELS.map((label) => [label, own.filter((u) => u.label === label).length]);
      return {
        session,
        ...(Object.fromEntries(labels) as Record<Label, number>),
        all: own.length,
        improvised: own.filter((u) => u.improvised).length,
        seconds: Math.round(own.reduce((sum, u) => sum + (u.seconds ?? 0), 0)),
      };
    }),
    seconds: { total, mean: total / seconds.length, min: at(0), median: at(0.5), p95: at(0.95), max: at(1) },
    words: { count: words.length, types: new Set(words).size },
  };
}

/** What a corpus holds, in figures. */
import { LABELS, type Label } from "./corpus.ts";
import type { Examined } from "./examine.ts";
import { bySession } from "./folds.ts";

/** A session, with its number of utterances by label. */
export interface SessionStatistics extends Readonly<Record<Label, number>> {
  readonly session: string;
  readonly all: number;
  readonly improvised: number;
  /** Of speech, rounded. */
  readonly seconds: number;
}

export interface CorpusStatistics {
  readonly clips: number;
  /** In the order of their numbers; also those of which nothing can be used. */
  readonly sessions: readonly SessionStatistics[];
  /** Lengths of the clips and their total; NaN and undefined where there are none. */
  readonly seconds: Readonly<Record<"total" | "mean" | "min" | "median" | "p95" | "max", number>>;
  /** All words, and how many different ones. */
  readonly words: { readonly count: number; readonly types: number };
}

/** Counts the utterances that can be used; `sessions` names all that the corpus has. */
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

/** The text files of a dialogue in the format of IEMOCAP's release. */
import type { Label } from "../corpora/corpus.ts";

/** One turn of a generated dialogue. */
export interface Turn {
  readonly id: string;
  readonly code: string;
  readonly label?: Label;
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** Typical valence, activation and dominance of a class, 1 to 5. */
const ATTRIBUTES: Readonly<Record<Label | "other", readonly [number, number, number]>> = {
  angry: [2, 4, 4],
  happy: [4, 3.5, 3],
  sad: [2, 2, 2.5],
  neutral: [3, 2.5, 3],
  other: [2.5, 3, 3],
};
const VOTES: Readonly<Record<string, string>> = {
  ang: "Anger",
  hap: "Happiness",
  exc: "Excited",
  sad: "Sadness",
  neu: "Neutral state",
  fru: "Frustration",
  sur: "Surprise",
  xxx: "Other",
};

/**
 * dialog/EmoEvaluation/<dialogue>.txt: consensus, categories and attributes of three raters, a self-report. Every seventh
 * turn lacks the raters' attributes, as some of the release do.
 */
export function evaluationFile(turns: readonly Turn[]): string {
  const blocks = turns.map(({ id, code, label, start, end }, i) => {
    const [v, a, d] = ATTRIBUTES[label ?? "other"];
    const attributes = `val ${Math.round(v)}; act ${Math.round(a)}; dom ${Math.round(d)};`;
    const raters = [1, 2, 3];
    return [
      `[${start.toFixed(4)} - ${end.toFixed(4)}]\t${id}\t${code}\t[${[v, a, d].map((x) => x.toFixed(4)).join(", ")}]`,
      ...raters.map((r) => `C-E${r}:\t${VOTES[r === 3 && i % 2 === 0 ? "neu" : code]};\t()`),
      `C-${id.at(-4)}1:\t${VOTES[code]};\t()`,
      ...(i % 7 === 6 ? [] : raters.map((r) => `A-E${r}:\t${attributes}\t()`)),
    ].join("\n");
  });
  return `% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n${blocks.join("\n\n")}\n\n`;
}

/** dialog/transcriptions/<dialogue>.txt; as in the release one line has no id, and one is of a turn that has no wav. */
export function transcriptFile(dialogue: string, turns: readonly Turn[]): string {
  const time = (seconds: number) => seconds.toFixed(4).padStart(8, "0");
  const lines = turns.map(({ id, start, end, text }) => `${id} [${time(start)}-${time(end)}]: ${text}`);
  const last = turns.at(-1)!.end;
  lines.splice(1, 0, "M: [OVERLAP]");
  lines.push(`${dialogue}_MXX0 [${time(last)}-${time(last + 0.5)}]: Mm-hmm.`);
  return `${lines.join("\n")}\n`;
}

/** sentences/ForcedAlignment/<dialogue>/<utterance>.wdseg: words and their frames of 10 ms; `times` in seconds. */
export function alignmentFile(words: readonly string[], times: readonly number[]): string {
  const frame = (seconds: number) => String(Math.round(seconds * 100)).padStart(5);
  const rows = words.map((word, i) => `${frame(times[i])} ${frame(times[i + 1])}         0 ${word}`);
  return `\t SFrm  EFrm    SegAScr Word\n${rows.join("\n")}\n Total score:          0\n`;
}

/** A cross-validation without models: utterances and answers from seeded random numbers. */
import { LABELS, type Label, type Utterance } from "../src/speech/corpora/corpus.ts";
import { random } from "../src/speech/corpora/random.ts";
import type { Cell, CrossPlan } from "../src/speech/crossvalidate/results.ts";
import { type PaperRow, rowsOf } from "../src/speech/recipes/tables.ts";

const WORDS = "I YOU WELL NEVER WANT THAT AGAIN PLEASE LISTEN SORRY REALLY GREAT HOME".split(" ");

export type Labelled = Utterance & { readonly label: Label };

/** `sessions` sessions of two speakers, each with `dialogues` dialogues of `turns` utterances. */
export function utterancesOf(sessions: number, dialogues: number, turns: number): Labelled[] {
  const list: Labelled[] = [];
  for (let s = 1; s <= sessions; s++)
    for (let d = 1; d <= dialogues; d++)
      for (let t = 0; t < turns; t++) {
        const dialogue = `Ses0${s}F_${d % 2 ? "impro" : "script"}0${d}`;
        const id = `${dialogue}_${t % 2 ? "M" : "F"}${String(t).padStart(3, "0")}`;
        const draw = random("utterance", id);
        const words = Array.from({ length: 1 + draw.below(9) }, () => draw.pick(WORDS)).join(" ");
        list.push({
          ...{ id, wav: `/none/${id}.wav`, text: words, words, label: LABELS[draw.below(4)] },
          ...{ speaker: `0${s}${t % 2 ? "M" : "F"}`, session: `Session${s}`, dialogue },
          ...{ improvised: d % 2 === 1, seconds: 0.5 + 10 * draw.uniform() ** 2 },
        });
      }
  return list;
}

/** Answers right with probability `skill`, more or less by dialogue; `wordErrors`: share of words that are wrong. */
export function answersOf(
  utterances: readonly Labelled[],
  { skill, wordErrors, name }: { skill: number; wordErrors?: number; name: string },
): Cell["answers"] {
  return utterances.map((utterance) => {
    const draw = random(name, utterance.id);
    const hard = random("dialogue", utterance.dialogue).between(-0.15, 0.15);
    const truth = LABELS.indexOf(utterance.label);
    const said = draw.uniform() < skill + hard ? truth : (truth + 1 + draw.below(3)) % 4;
    const weights = LABELS.map((_, k) => (k === said ? 1 + 3 * draw.uniform() : draw.uniform()));
    const total = weights.reduce((a, b) => a + b);
    const probabilities = weights.map((w) => Math.fround(w / total));
    if (wordErrors === undefined) return { utterance, probabilities };
    const heard = utterance.words.split(" ").map((word) => (draw.uniform() < wordErrors ? "UH" : word));
    return { utterance, probabilities, hypothesis: heard.join(" ") };
  });
}

/** Skills that rise with the row. */
export function fixture({
  names = ["table1", "table2"],
  sessions = 3,
  seeds = [1, 2],
  dialogues = 4,
  turns = 10,
}: {
  names?: readonly string[];
  sessions?: number;
  seeds?: readonly number[];
  dialogues?: number;
  turns?: number;
} = {}): { cells: Cell[]; plan: CrossPlan; utterances: Labelled[] } {
  const utterances = utterancesOf(sessions, dialogues, turns);
  const folds = [...new Set(utterances.map(({ session }) => session))];
  const rows: readonly PaperRow[] = rowsOf(names);
  const cells = new Map<string, Cell>();
  for (const [i, { system, words, published }] of rows.entries())
    for (const fold of folds)
      for (const seed of seeds) {
        const key = `${system}/${words}/${fold}/${seed}`;
        if (system === undefined || cells.has(key)) continue;
        const test = utterances.filter(({ session }) => session === fold);
        const wordErrors = system === "acoustic" ? undefined : (published.wer ?? 14) / 100;
        cells.set(key, {
          ...{ system, words, fold, seed, metrics: [] },
          answers: answersOf(test, { skill: 0.55 + 0.015 * i, wordErrors, name: key }),
          training: { known: true, unknown: [], heldOut: fold, ...NONE },
        });
      }
  const corpus = { name: "synthetic", utterances: utterances.length };
  return {
    cells: [...cells.values()],
    plan: { rows, folds, seeds, corpus, recipe: { preset: "nano", set: [] } },
    utterances,
  };
}

const NONE = { trainedOn: 0, selectedBy: 0, sameSamples: 0, otherSamples: 0 };

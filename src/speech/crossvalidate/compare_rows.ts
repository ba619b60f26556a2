/** Pairs of rows on the same utterances: paired bootstrap over dialogues, and McNemar's test. */
import type { Answer } from "../evaluate/report.ts";
import { type Difference, type McNemar, mcnemar, pairedBootstrap } from "../evaluate/significance.ts";
import { isRight, STATISTICS, summands } from "../evaluate/summands.ts";
import type { PaperRow } from "../recipes/tables.ts";
import { type Cell, cellsOf, type CrossPlan } from "./results.ts";
import { type Figures, figures } from "./row_report.ts";

/** Two rows on the utterances that both answered. */
export interface Comparison {
  /** Place of the first row in the plan, from 0. */
  readonly first: number;
  /** Place of the second row. */
  readonly second: number;
  /** Number of pairs of answers: each of one utterance, with one seed. */
  readonly pairs: number;
  /** Differences, first − second, of shares; dialogues are resampled, each with its answers of all seeds. */
  readonly differences: Figures<Difference>;
  /** Of each seed, since the answers of several seeds to an utterance are not independent. */
  readonly mcnemar: readonly ({ readonly seed: number } & McNemar)[];
}

/** Every pair of rows that have pairs of answers; rows of one cell, which differ in nothing, are not compared. */
export function compareRows(cells: readonly Cell[], plan: CrossPlan, seed: number): Comparison[] {
  const { rows } = plan;
  return rows.flatMap((a, first) =>
    rows.flatMap((b, second): Comparison[] => {
      if (second <= first || (a.system === b.system && a.words === b.words)) return [];
      const pairs = pairsOf(a, b, cells, plan);
      return pairs.length === 0 ? [] : [{ first, second, ...comparison(pairs, plan, seed) }];
    }),
  );
}

/** The answers of two systems to an utterance. */
interface Pair {
  readonly seed: number;
  readonly first: Answer;
  readonly second: Answer;
}

function pairsOf(a: PaperRow, b: PaperRow, cells: readonly Cell[], plan: CrossPlan): Pair[] {
  const others = cellsOf(b, cells, plan);
  return cellsOf(a, cells, plan).flatMap(({ fold, seed, answers }) => {
    const other = others.find((cell) => cell.fold === fold && cell.seed === seed)?.answers ?? [];
    const byId = new Map(other.map((answer) => [answer.utterance.id, answer]));
    return answers.flatMap((first): Pair[] => {
      const second = byId.get(first.utterance.id);
      return second === undefined ? [] : [{ seed, first, second }];
    });
  });
}

function comparison(pairs: readonly Pair[], { seeds }: CrossPlan, seed: number) {
  const [first, second] = [pairs.map((pair) => pair.first), pairs.map((pair) => pair.second)];
  const dialogues = first.map(({ utterance }) => utterance.dialogue);
  const sums = [summands(first), summands(second)] as const;
  const recognise = [first, second].every((side) => side.every(({ hypothesis }) => hypothesis !== undefined));
  return {
    pairs: pairs.length,
    differences: figures((figure) =>
      figure === "wer" && !recognise
        ? undefined
        : pairedBootstrap(dialogues, ...sums, STATISTICS[figure], { seed }),
    ),
    mcnemar: seeds.flatMap((each) => {
      const own = pairs.filter((pair) => pair.seed === each);
      if (own.length === 0) return [];
      const only = (one: "first" | "second", other: "first" | "second") =>
        own.filter((pair) => isRight(pair[one]) && !isRight(pair[other])).length;
      return [{ seed: each, ...mcnemar(only("first", "second"), only("second", "first")) }];
    }),
  };
}

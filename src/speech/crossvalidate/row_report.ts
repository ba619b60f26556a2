/** The figures of one row: by fold, over folds and seeds, and pooled. */
import { LABELS, type Label } from "../corpora/corpus.ts";
import { bootstrapSums, percentiles } from "../evaluate/intervals.ts";
import type { Answer, Estimate } from "../evaluate/report.ts";
import { FIGURES, type Figure, STATISTICS, summands } from "../evaluate/summands.ts";
import { type Part, partsOf } from "../evaluate/slices.ts";
import { editsOf } from "../metrics/answer.ts";
import { type Calibration, calibrationOf } from "../metrics/calibration.ts";
import { argmax, type ClassScores, meanAndDeviation, score } from "../metrics/metrics.ts";
import { totalEdits, wer } from "../metrics/wer.ts";
import type { PaperRow } from "../recipes/tables.ts";
import { type Cell, cellsOf, type CrossPlan } from "./results.ts";

/** Figures by name; those that a system does not have are absent. */
export type Figures<T> = Readonly<Partial<Record<Figure, T>>>;

/** A mean, and how far the values are from each other. */
export interface Spread {
  /** Mean of the values. */
  readonly mean: number;
  /** Sample standard deviation; absent of a single value. */
  readonly deviation?: number;
  /** Number of values. */
  readonly count: number;
}

/** Scores of one cell. */
export type CellScores = Figures<number> & {
  readonly fold: string;
  readonly seed: number;
  /** Number of utterances. */
  readonly count: number;
  /** Utterances of the test set that the model was trained on; absent where it is not known. */
  readonly trainedOn?: number;
};

/** All answers of a row, of all folds and seeds. */
export interface Pooled {
  /** Number of answers: an utterance has one of each seed. */
  readonly answers: number;
  /** With 95 % intervals: dialogues are resampled, each with its answers of all seeds. */
  readonly figures: Figures<Estimate>;
  /** Mean F1 over the classes. */
  readonly macroF1: number;
  /** Scores of each class. */
  readonly classes: Readonly<Record<Label, ClassScores>>;
  /** Rows: truth, columns: prediction, in the order of LABELS. */
  readonly confusion: readonly (readonly number[])[];
  /** By speaker, kind of dialogue, duration and word errors. */
  readonly parts: readonly Part[];
  readonly calibration: Calibration;
}

/** The figures of a row of the tables. */
export interface RowReport {
  readonly row: PaperRow;
  /** What was evaluated, in the order of folds and seeds; empty for a cited figure. */
  readonly cells: readonly CellScores[];
  /** What was asked and has no answers. */
  readonly missing: readonly { readonly fold: string; readonly seed: number }[];
  /** Of each fold, over its seeds. */
  readonly folds: readonly ({ readonly fold: string } & Figures<Spread>)[];
  /** Over the folds, of each the mean of its seeds. */
  readonly overFolds: Figures<Spread>;
  /** Over the seeds, of each the mean of its folds. */
  readonly overSeeds: Figures<Spread>;
  /** Absent where nothing was evaluated. */
  readonly pooled?: Pooled;
}

/** The figures of a row; `seed` is of the resampling. */
export function reportRow(row: PaperRow, all: readonly Cell[], plan: CrossPlan, seed: number): RowReport {
  const own = cellsOf(row, all, plan);
  const cells = own.map(scoresOf);
  const { folds, seeds } = plan;
  const of = (fold: string, seed: number) => cells.some((cell) => cell.fold === fold && cell.seed === seed);
  const asked = folds.flatMap((fold) => seeds.map((seed) => ({ fold, seed })));
  const by = (key: "fold" | "seed", values: readonly (string | number)[]) =>
    values.map((value) => cells.filter((cell) => cell[key] === value)).filter((group) => group.length > 0);
  const means = (groups: readonly (readonly CellScores[])[]) =>
    figures((figure) => spread(groups.map((group) => spread(group.map((cell) => cell[figure]))?.mean)));
  return {
    ...{ row, cells },
    missing: row.system === undefined ? [] : asked.filter(({ fold, seed }) => !of(fold, seed)),
    folds: by("fold", folds).map((group) => ({
      fold: group[0].fold,
      ...figures((figure) => spread(group.map((cell) => cell[figure]))),
    })),
    overFolds: means(by("fold", folds)),
    overSeeds: means(by("seed", seeds)),
    ...(own.length > 0
      ? {
          pooled: pool(
            own.flatMap(({ answers }) => answers),
            seed,
          ),
        }
      : {}),
  };
}

function scoresOf({ fold, seed, answers, training }: Cell): CellScores {
  const { ua, wa } = scored(answers);
  const edits = editsOf(answers);
  return {
    ...{ fold, seed, count: answers.length, ua, wa },
    ...(edits ? { wer: wer(totalEdits(edits)) } : {}),
    ...(training?.known ? { trainedOn: training.trainedOn } : {}),
  };
}

const scored = (answers: readonly Answer[]) =>
  score(
    answers.map(({ utterance }) => LABELS.indexOf(utterance.label)),
    answers.map(({ probabilities }) => argmax(probabilities)),
    LABELS.length,
  );

function pool(answers: readonly Answer[], seed: number): Pooled {
  const { perClass, confusion, macroF1, ...scores } = scored(answers);
  const dialogues = answers.map(({ utterance }) => utterance.dialogue);
  const sums = summands(answers);
  const edits = editsOf(answers);
  const values = { ua: scores.ua, wa: scores.wa, wer: edits && wer(totalEdits(edits)) };
  return {
    answers: answers.length,
    figures: figures((figure) => {
      const value = values[figure];
      if (value === undefined) return undefined;
      return { value, interval: percentiles(bootstrapSums(dialogues, sums, STATISTICS[figure], { seed })) };
    }),
    macroF1,
    classes: Object.fromEntries(LABELS.map((label, k) => [label, perClass[k]])) as Pooled["classes"],
    confusion,
    parts: partsOf(answers),
    calibration: calibrationOf(
      answers.map(({ utterance }) => LABELS.indexOf(utterance.label)),
      answers.map(({ probabilities }) => probabilities),
    ),
  };
}

/** Of each figure what `of` gives, without those that are undefined. */
export const figures = <T>(of: (figure: Figure) => T | undefined): Figures<T> =>
  Object.fromEntries(
    FIGURES.map((figure) => [figure, of(figure)]).filter(([, value]) => value !== undefined),
  );

/** Undefined where a value is: some cell lacks the figure. */
function spread(values: readonly (number | undefined)[]): Spread | undefined {
  const known = values.filter((value) => value !== undefined);
  if (known.length === 0 || known.length < values.length) return undefined;
  const { mean, deviation } = meanAndDeviation(known);
  return { mean, ...(known.length > 1 ? { deviation } : {}), count: known.length };
}

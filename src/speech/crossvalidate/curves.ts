/** Learning curves, from the metrics.jsonl of runs. */
import type { Host } from "../../host/host.ts";
import { anyObject, readJsonLinesAs } from "../../io/schema.ts";
import { cellsOf, type Cell, type CrossPlan } from "./results.ts";

/** The learning curve of one stage of one training, a value per epoch; null where there is none. */
export interface Curve {
  readonly fold: string;
  readonly seed: number;
  readonly stage: number;
  /** Numbers of the epochs, from 1. */
  readonly epochs: readonly number[];
  /** Mean training loss of the epoch's updates. */
  readonly train: readonly (number | null)[];
  /** Loss, UA and WER on the dev set; UA and WER as shares. */
  readonly dev: readonly (number | null)[];
  readonly ua: readonly (number | null)[];
  readonly wer: readonly (number | null)[];
}

/** The curves of each row of the plan, in its order, and a line for every file that cannot be read. */
export async function readCurves(
  host: Host,
  cells: readonly Cell[],
  plan: CrossPlan,
): Promise<{ curves: Curve[][]; notes: string[] }> {
  const files = new Map<string, StageCurve[]>();
  const notes: string[] = [];
  for (const path of new Set(cells.flatMap(({ metrics }) => metrics))) {
    try {
      files.set(path, stagesOf(await readJsonLinesAs(host, path, anyObject)));
    } catch (error) {
      notes.push(`Without the learning curves of ${path}: ${(error as Error).message}`);
    }
  }
  const curves = plan.rows.map((row) =>
    cellsOf(row, cells, plan).flatMap(({ fold, seed, metrics }) =>
      metrics.flatMap((path) => (files.get(path) ?? []).map((curve) => ({ fold, seed, ...curve }))),
    ),
  );
  return { curves, notes };
}

type StageCurve = Omit<Curve, "fold" | "seed">;
type Line = Readonly<Record<string, unknown>>;

/** The curves of the stages of a run. */
function stagesOf(lines: readonly Line[]): StageCurve[] {
  const stages = [...new Set(lines.map(({ stage }) => stage))].filter((stage) => typeof stage === "number");
  return stages.map((stage) => {
    const own = lines.filter((line) => line.stage === stage);
    const epochs = [...new Set(own.map(({ epoch }) => epoch))]
      .filter((epoch) => typeof epoch === "number")
      .sort((a, b) => a - b);
    const each = (name: string) =>
      epochs.map((epoch) => meanOf(own.filter((line) => line.epoch === epoch).map((line) => line[name])));
    return {
      stage,
      epochs: epochs.map((epoch) => epoch + 1),
      train: each("loss"),
      dev: each("dev_loss"),
      ua: each("dev_ua"),
      wer: each("dev_wer"),
    };
  });
}

/** The mean of the finite numbers, to five digits; null where there are none. */
function meanOf(values: readonly unknown[]): number | null {
  const known = values.filter((value): value is number => typeof value === "number");
  return known.length === 0 ? null : Number((known.reduce((a, b) => a + b) / known.length).toPrecision(5));
}

/**
 * What kernels may cost on the listed targets. No kernel may spill but those named here; those whose time goes into
 * multiply-adds must keep a share of them in their inner loop. Against the committed table none may lose more than a little.
 */
import { type Figures, partsOf, type Table, type TargetTable } from "./table.ts";

/** By target. Left out: no spill, and no share that must be kept. */
export interface Budget {
  /** Most spilled registers. */
  readonly spills?: Readonly<Record<string, number>>;
  /** Least percent of multiply-adds in the inner loop, in every variant that the models use. */
  readonly fma?: Readonly<Record<string, number>>;
}

/** By kernel and entry point. */
export const BUDGETS: Readonly<Record<string, Budget>> = {
  "matmul.forward": { fma: { navi31: 60, gfx1201: 59, sm_90: 61 }, spills: { bmg: 4 } },
  "attention.forward": { fma: { navi31: 19, gfx1201: 16, sm_90: 47 } },
  "attention.backward_q": { fma: { navi31: 22, gfx1201: 19, sm_90: 52 }, spills: { bmg: 4 } },
  "attention.backward_kv": { fma: { navi31: 23, gfx1201: 19, sm_90: 51 }, spills: { bmg: 22 } },
};

/** Percentage points that a share may lose: by the same compiler none, but for rounding; another orders things otherwise. */
const LOST = { same: 0.5, other: 3 };

/** Loops shorter than this lose points by one instruction more: their share is not held. */
const LONG_LOOP = 50;

/** A line for each budget that a target's figures break. */
export function overBudget(target: string, { kernels }: TargetTable): string[] {
  return Object.entries(kernels).flatMap(([line, { spills, fma, use }]) => {
    const budget = BUDGETS[partsOf(line).kernel];
    const [most, least] = [budget?.spills?.[target] ?? 0, budget?.fma?.[target] ?? 0];
    return [
      ...(spills > most ? [`${target}: ${line} spills ${spills} registers, at most ${most} expected`] : []),
      ...(use === "model" && fma < least
        ? [`${target}: ${line} has ${fma} % multiply-adds in its inner loop, at least ${least} % expected`]
        : []),
    ];
  });
}

/** A line for each pipeline that is worse than in the committed table, and for each that is not in it. */
export function worse(target: string, now: TargetTable, table: Table): string[] {
  const before = table[target];
  const tolerance = before.compiler === now.compiler ? LOST.same : LOST.other;
  const entries = new Set(Object.keys(before.kernels).map((line) => partsOf(line).kernel));
  const unknown = [...new Set(Object.keys(now.kernels).map((line) => partsOf(line).kernel))]
    .filter((kernel) => !entries.has(kernel))
    .map((kernel) => `${target}: ${kernel} is not in tools/isa/table.json: run tsx tools/isa.ts --write`);
  const lost = Object.entries(now.kernels).flatMap(([line, figures]) => {
    const old: Figures | undefined = before.kernels[line];
    if (!old || (old.loop ?? 0) < LONG_LOOP || old.fma - figures.fma <= tolerance) return [];
    return [`${target}: ${line} has ${figures.fma} % multiply-adds in its inner loop, ${old.fma} % before`];
  });
  return [...unknown, ...lost];
}

/**
 * What kernels may cost on the listed targets. No kernel may spill; those whose time goes into
 * multiply-adds must keep a share of them in their inner loop. Against the committed table none may lose more than a little.
 */
import { partsOf, type Table, type TargetTable } from "./table.ts";

/** Least percent of multiply-adds in the inner loop, by target, in every variant that the models use. */
interface Budget {
  /** Values of the variants that it is for; all by default. */
  readonly where?: Readonly<Record<string, unknown>>;
  readonly fma: Readonly<Record<string, number>>;
}

/** By kernel and entry point; the first that fits a variant counts. */
const BUDGETS: Readonly<Record<string, readonly Budget[]>> = {
  "matmul.forward": [
    // Where rows of B come in segments, each is compared with where the next one begins: gradients of convolutions over samples.
    { where: { mappedB: true, X: "f16" }, fma: { gfx1201: 78, bmg: 58, sm_90: 81 } },
    { where: { mappedB: true }, fma: { navi31: 79, gfx1201: 78, bmg: 61, sm_90: 84 } },
    { where: { X: "f16" }, fma: { navi31: 81, gfx1201: 80, bmg: 55, sm_90: 82 } },
    { fma: { navi31: 80, gfx1201: 79, bmg: 57, sm_90: 82 } },
  ],
  "attention.forward": [{ fma: { navi31: 60, gfx1201: 60, bmg: 41, sm_90: 86 } }],
  "attention.backward_q": [{ fma: { navi31: 61, gfx1201: 61, bmg: 43, sm_90: 86 } }],
  "attention.backward_kv": [{ fma: { navi31: 56, gfx1201: 56, bmg: 43, sm_90: 86 } }],
};

/** Percentage points that a share may lose: by the same compiler none, but for rounding; another orders things otherwise. */
const LOST = { same: 0.5, other: 3 };

/** Loops shorter than this lose points by one instruction more: their share is not held. */
const LONG_LOOP = 50;

function budgetOf(line: string): Budget | undefined {
  const { kernel, values } = partsOf(line);
  const fits = ({ where = {} }: Budget) =>
    Object.entries(where).every(([name, value]) => values[name] === value);
  return BUDGETS[kernel]?.find(fits);
}

/** A line for each budget that a target's figures break. */
export function overBudget(target: string, { kernels }: TargetTable): string[] {
  return Object.entries(kernels).flatMap(([line, { spills, fma, use }]) => {
    const least = budgetOf(line)?.fma[target] ?? 0;
    return [
      ...(spills > 0 ? [`${target}: ${line} spills ${spills} registers, none expected`] : []),
      ...(use === "model" && fma < least
        ? [`${target}: ${line} has ${fma} % multiply-adds in its inner loop, at least ${least} % expected`]
        : []),
    ];
  });
}

/** A pipeline's line without the flags that choose nothing: one that came or went since changes none of its code. */
function chosen(line: string): string {
  const { kernel, values } = partsOf(line);
  const set = Object.entries(values).filter(([, value]) => value !== false && value !== 0 && value !== "");
  return JSON.stringify([kernel, set.sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** A line for each pipeline that is worse than in the committed table, or is not in it, and so compared with nothing. */
export function worse(target: string, now: TargetTable, table: Table): string[] {
  const before = table[target];
  const tolerance = before.compiler === now.compiler ? LOST.same : LOST.other;
  const olds = new Map(Object.entries(before.kernels).map(([line, figures]) => [chosen(line), figures]));
  return Object.entries(now.kernels).flatMap(([line, figures]) => {
    const old = olds.get(chosen(line));
    if (!old) return [`${target}: ${line} is not in tools/isa/table.json: run tsx tools/isa.ts --write`];
    if ((old.loop ?? 0) < LONG_LOOP || old.fma - figures.fma <= tolerance) return [];
    return [`${target}: ${line} has ${figures.fma} % multiply-adds in its inner loop, ${old.fma} % before`];
  });
}

/** Two results of the benches side by side, with a verdict on every case. */
import { judge, type Verdict } from "../../src/profile/diff.ts";
import type { Measured } from "../../src/profile/profile.ts";
import { measured, quantile } from "../../src/profile/statistics.ts";
import { formatTable } from "../format.ts";
import type { Bench, Case, Results } from "./results.ts";

/** Processes from which on only their medians count: two processes differ by more than the samples of one. */
const PROCESSES = 4;
/** What fewer processes must differ by: as much as one process may differ from another of the same code. */
const DRIFT = 1.05;

/** One case in both. */
export interface Compared {
  readonly bench: string;
  readonly name: string;
  readonly wall: readonly [Measured | undefined, Measured | undefined];
  readonly gpu: readonly [Measured | undefined, Measured | undefined];
  /** By the GPU's clock where both have it, or else by the wall's. */
  readonly verdict: Verdict;
  readonly clock: "GPU" | "wall";
}

/** All cases of both, in the order of the first. */
export function compareResults(before: Results, after: Results): Compared[] {
  const names = (of: Results) => of.benches.map(({ bench }) => bench);
  return [...new Set([...names(before), ...names(after)])].flatMap((bench) => {
    const [a, b] = [before, after].map((of) => of.benches.find((each) => each.bench === bench));
    const cases = (of: Bench | undefined) => of?.cases.map(({ name }) => name) ?? [];
    return [...new Set([...cases(a), ...cases(b)])].map((name) => compareCase(bench, name, a, b));
  });
}

function compareCase(bench: string, name: string, a: Bench | undefined, b: Bench | undefined): Compared {
  const [one, two] = [a, b].map((of) => of?.cases.find((each) => each.name === name));
  const wall = [one, two].map((of) => samplesOf(of, "wall"));
  const gpu = [one, two].map((of) => samplesOf(of, "gpu"));
  const clock = gpu[0] && gpu[1] ? "GPU" : "wall";
  const [first, second] = clock === "GPU" ? gpu : wall;
  const processes = Math.min(one?.runs.length ?? 0, two?.runs.length ?? 0);
  const verdict =
    a && b && a.adapter !== b.adapter
      ? other(`other adapter, ${a.adapter} and ${b.adapter}`)
      : first && second
        ? guarded(first, second, processes)
        : other(first ? "only the first has it" : "only the second has it");
  const pair = <T>(of: T[]): readonly [T, T] => [of[0], of[1]];
  return { bench, name, wall: pair(wall), gpu: pair(gpu), verdict, clock };
}

/** The samples of few processes as they are; of many, one a process. */
function samplesOf(of: Case | undefined, clock: "wall" | "gpu"): Measured | undefined {
  const runs = (of?.runs ?? []).map((run) => run[clock]).filter((samples) => samples !== undefined);
  if (runs.length === 0) return undefined;
  return measured(runs.length >= PROCESSES ? runs.map((samples) => quantile(samples, 0.5)) : runs.flat());
}

function guarded(before: Measured, after: Measured, processes: number): Verdict {
  const verdict = judge(before, after);
  const { kind, ratio = 1 } = verdict;
  if (processes >= PROCESSES || kind === "same" || kind === "other") return verdict;
  if (Math.max(ratio, 1 / ratio) >= DRIFT) return verdict;
  const text = `no difference seen (${ratio.toFixed(2)}×: within the 5 % that processes differ by)`;
  return { ...verdict, kind: "same", text };
}

const other = (why: string): Verdict => ({ kind: "other", text: `not comparable: ${why}` });

/** The comparison as lines. */
export function* showCompared(before: Results, after: Results, all: readonly Compared[]): Generator<string> {
  const digits = (x: Measured | undefined) => (x ? x.median.toPrecision(3) : "–");
  for (const bench of new Set(all.map((each) => each.bench))) {
    yield bench;
    const rows = all
      .filter((each) => each.bench === bench)
      .map(({ name, wall, gpu, verdict, clock }) => [
        ...[name, digits(gpu[0]), digits(gpu[1]), digits(wall[0]), digits(wall[1])],
        `${verdict.text}${clock === "wall" && verdict.kind !== "other" ? ", wall" : ""}`,
      ]);
    const header = ["", "A GPU ms", "B GPU ms", "A wall ms", "B wall ms", "B is"];
    for (const line of formatTable(header, rows)) yield `  ${line}`;
  }
  const count = (kind: Verdict["kind"]) => all.filter((each) => each.verdict.kind === kind).length;
  const compared = all.length - count("other");
  yield `${count("faster")} faster, ${count("slower")} slower, ${count("same")} without a difference that shows, ${count("other")} not comparable`;
  yield `by chance alone about ${Math.round(0.05 * compared)} of ${compared} would seem to differ (p ≤ 0.05)`;
  for (const name of ["commit", "host"] as const)
    if (before[name] !== after[name])
      yield `${name} ${before[name] ?? "unknown"} → ${after[name] ?? "unknown"}`;
  const drivers = new Set([...before.benches, ...after.benches].map(({ driver }) => driver));
  if (drivers.size > 1) yield `drivers ${[...drivers].join(", ")}`;
}

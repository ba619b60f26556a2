/** Two profiles side by side, with a verdict that knows noise. */
import type { KernelGroup, Measured, Profile } from "./profile.ts";
import { mannWhitney, quantile } from "./statistics.ts";

/** What is said of a pair of measurements. */
export interface Verdict {
  /** "other": they are of different things and no times are compared. */
  readonly kind: "faster" | "slower" | "same" | "other";
  /** The first's median over the second's: 2 is twice as fast. Absent where they are not comparable. */
  readonly ratio?: number;
  /** Of the Mann-Whitney test on the runs. */
  readonly p?: number;
  /** "faster 1.12× (p = 0.008)", "no difference seen (0.99×, p = 0.55)", "not comparable: other adapter". */
  readonly text: string;
}

/** One row of a comparison; a time is undefined where that profile has none. */
export interface Comparison {
  /** "matmul.forward". */
  readonly name: string;
  /** "M=149 N=1024 K=1024", or where variants differ both of them. */
  readonly shape: string;
  readonly before: Measured | undefined;
  readonly after: Measured | undefined;
  readonly verdict: Verdict;
}

/** Two profiles, compared. */
export interface ProfileDiff {
  /** Wall time without the profiler. */
  readonly wall: Comparison;
  /** GPU time of all dispatches. */
  readonly gpu: Comparison;
  /** By kernel and shape, those of the most time first. */
  readonly kernels: readonly Comparison[];
  /** What else differs and may explain a difference, a line each. */
  readonly notes: readonly string[];
}

/** Largest p that counts as a difference. */
const SIGNIFICANT = 0.05;

const other = (why: string): Verdict => ({ kind: "other", text: `not comparable: ${why}` });

/** Compares the runs of two measurements. */
export function judge(before: Measured, after: Measured): Verdict {
  const ratio = before.median / after.median;
  const [n, m] = [before.samples.length, after.samples.length];
  const p = mannWhitney(before.samples, after.samples);
  const shown = `p = ${p < 0.001 ? "< 0.001" : p.toPrecision(2)}`.replace("= <", "<");
  // Of three runs each the most unlike samples have p = 0.1: no such measurement can show a difference.
  if (mannWhitney(ascending(0, n), ascending(n, m)) > SIGNIFICANT)
    return { ...other(`${n} and ${m} runs are too few to tell a difference, 4 each are enough`), ratio, p };
  if (p > SIGNIFICANT || ratio === 1)
    return { kind: "same", ratio, p, text: `no difference seen (${ratio.toFixed(2)}×, ${shown})` };
  return ratio > 1
    ? { kind: "faster", ratio, p, text: `faster ${ratio.toFixed(2)}× (${shown})` }
    : { kind: "slower", ratio, p, text: `slower ${(1 / ratio).toFixed(2)}× (${shown})` };
}

const ascending = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

const shapeText = (shape: KernelGroup["shape"]): string =>
  Object.entries(shape)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");

/** The groups of one kernel and shape, whatever their variant and grid, as one. */
interface Merged {
  readonly name: string;
  readonly shape: string;
  readonly calls: number;
  readonly variants: readonly string[];
  readonly time: Measured;
}

function merged(profile: Profile): Map<string, Merged> {
  const found = new Map<string, Merged>();
  for (const { name, shape: sizes, calls, variant, grid, time } of profile.kernels) {
    const shape = shapeText(sizes);
    const key = `${name} ${shape}`;
    const before = found.get(key);
    found.set(key, {
      ...{ name, shape, calls: calls + (before?.calls ?? 0) },
      variants: [...(before?.variants ?? []), `${variant} in ${grid.join("×")}`].sort(),
      time: before ? added(before.time, time) : time,
    });
  }
  return found;
}

/** Of two groups in the same runs. The spread of a sum is not that of its parts: it is not needed here. */
const added = (a: Measured, b: Measured): Measured => {
  const samples = a.samples.map((sample, i) => sample + b.samples[i]);
  return { median: quantile(samples, 0.5), spread: a.spread + b.spread, samples };
};

/** Compares `after` with `before`: on another adapter, or of another workload, only by what they do, not by times. */
export function diffProfiles(before: Profile, after: Profile): ProfileDiff {
  const obstacle = obstacleOf(before, after);
  const pair = (
    name: string,
    shape: string,
    a: Measured | undefined,
    b: Measured | undefined,
    why?: string,
  ): Comparison => ({
    ...{ name, shape, before: a, after: b },
    verdict: obstacle
      ? other(obstacle)
      : why
        ? other(why)
        : a && b
          ? judge(a, b)
          : other(a ? "only the first has it" : "only the second has it"),
  });
  const [own, others] = [merged(before), merged(after)];
  const kernels = [...new Set([...own.keys(), ...others.keys()])].map((key) => {
    const [a, b] = [own.get(key), others.get(key)];
    const { name, shape } = (a ?? b) as Merged;
    const changed = a && b && a.variants.join() !== b.variants.join();
    const calls = a && b && a.calls !== b.calls ? `${a.calls} calls against ${b.calls}` : undefined;
    const shown = changed ? `${shape} [${a.variants.join(", ")} → ${b.variants.join(", ")}]` : shape;
    return pair(name, shown, a?.time, b?.time, calls);
  });
  const weight = ({ before: a, after: b }: Comparison) => Math.max(a?.median ?? 0, b?.median ?? 0);
  return {
    wall: pair("wall", "", before.plain, after.plain),
    gpu: pair("GPU", "", before.parts.gpu, after.parts.gpu),
    kernels: kernels.sort((a, b) => weight(b) - weight(a)),
    notes: notesOf(before, after),
  };
}

/** Why times cannot be compared. */
function obstacleOf(before: Profile, after: Profile): string | undefined {
  if (before.adapter !== after.adapter) return `other adapter, ${before.adapter} and ${after.adapter}`;
  if (before.command !== after.command) return `other workload, ${before.command} and ${after.command}`;
  const options = (profile: Profile) => JSON.stringify(Object.entries(profile.options).sort());
  if (options(before) !== options(after)) return `other options, ${options(before)} and ${options(after)}`;
  return undefined;
}

function notesOf(before: Profile, after: Profile): string[] {
  return (["driver", "path", "commit"] as const).flatMap((name) =>
    before[name] === after[name]
      ? []
      : [`${name} ${before[name] ?? "unknown"} → ${after[name] ?? "unknown"}`],
  );
}

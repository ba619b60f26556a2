/** Profiles and their differences as lines of text. */
import type { ProfileDiff, Comparison } from "../../src/profile/diff.ts";
import type { WarmUp } from "../../src/profile/measure.ts";
import type { Group, Measured, Profile } from "../../src/profile/profile.ts";
import { formatBytes, formatSeconds, formatTable } from "../format.ts";

/** Most kernels that are shown. */
const MOST = 20;

const time = ({ median, spread }: Measured): string => `${digits(median)} ± ${digits(spread / 2)}`;
/** Three digits, and no exponent. */
const digits = (x: number): string =>
  x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(x >= 1 ? 2 : 3);
const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
const rate = (x: number | null): string => (x === null ? "–" : digits(x / 1e9));
const sizes = (shape: Readonly<Record<string, number>>): string =>
  Object.entries(shape)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");

/** Tables by stage, layer and kernel, then how the wall time adds up. */
export function* showProfile(
  profile: Profile,
  { first, created }: WarmUp,
  detail = false,
): Generator<string> {
  const { stages, layers, kernels, parts, events, peaks } = profile;
  const total = parts.gpu.median;
  const figures = ({ time: t, calls, flopsPerSecond, bytesPerSecond, ceiling, share }: Group) => [
    ...[
      calls,
      time(t),
      percent(total > 0 ? t.median / total : 0),
      rate(flopsPerSecond),
      rate(bytesPerSecond),
    ],
    ...(peaks ? [share === null ? "–" : `${percent(share)} of ${ceiling}`] : []),
  ];
  const columns = ["calls", "GPU ms", "share", "GFLOP/s", "GB/s", ...(peaks ? ["ceiling"] : [])];
  if (stages.length > 1 || stages[0]?.name !== "") {
    yield* formatTable(
      ["stage", ...columns],
      stages.map((g) => [g.name || "other", ...figures(g)]),
    );
    yield "";
  }
  yield* formatTable(
    ["layer", ...columns],
    layers.map((g) => [g.name || "other", ...figures(g)]),
  );
  yield "";
  const shown = detail ? kernels : kernels.slice(0, MOST);
  yield* formatTable(
    ["kernel", ...columns, "shape", "grid", "variant"],
    shown.map((g) => [g.name, ...figures(g), sizes(g.shape), g.grid.join("×"), g.variant]),
  );
  if (shown.length < kernels.length) {
    const rest = kernels.slice(MOST).reduce((sum, g) => sum + g.time.median, 0);
    yield `… ${kernels.length - MOST} more, ${digits(rest)} ms; --detail shows all`;
  }
  yield "";
  yield* showSums(profile);
  yield `${events.length} dispatches in ${profile.cpu.submits} submits, on ${profile.adapter}`;
  yield `the first run, which compiles kernels, took ${formatSeconds(first / 1000)}; the second made ${created} pipelines and bind groups`;
  if (!peaks) yield "ceilings are not known: run wavegate doctor --peaks";
}

function* showSums({ wall, plain, parts, cpu, runs, memory }: Profile): Generator<string> {
  const part = (name: string, t: Measured) => [name, time(t), percent(t.median / wall.median)];
  yield* formatTable(
    ["wall time of a profiled run", "ms", "share"],
    [
      part("GPU in dispatches", parts.gpu),
      part("CPU records or submits, GPU idle", parts.cpu),
      part("GPU between dispatches", parts.gaps),
      part("CPU waits, GPU done", parts.wake),
      part("unexplained", parts.unexplained),
      part(`wall, ${runs} runs`, wall),
    ],
  );
  yield `without the profiler ${time(plain)} ms: it slows a run ${(wall.median / plain.median).toFixed(2)}×`;
  yield `CPU: records ${time(cpu.record)} ms, submits ${time(cpu.submit)} ms, waits ${time(cpu.wait)} ms`;
  const most = memory.reduce((peak, [, live]) => Math.max(peak, live), 0);
  const held = memory.reduce((peak, [, , allocated]) => Math.max(peak, allocated), 0);
  yield `GPU buffers: at most ${formatBytes(most)} in use, ${formatBytes(held)} held`;
}

/** Two profiles side by side. */
export function* showDiff({ wall, gpu, kernels, notes }: ProfileDiff): Generator<string> {
  const cell = (t: Measured | undefined) => (t ? time(t) : "–");
  const row = ({ name, shape, before, after, verdict }: Comparison) => [
    ...[name, cell(before), cell(after), verdict.text, shape],
  ];
  yield* formatTable(["", "A ms", "B ms", "B is", ""], [row(wall), row(gpu), ...kernels.map(row)]);
  for (const note of notes) yield note;
}

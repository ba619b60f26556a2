/** From what the profiler saw of some runs to a Profile: groups, rates, ceilings, and how the wall time adds up. */
import type { CpuSpan, ProfileEvent } from "../gpu/profiler.ts";
import type { Peaks } from "../records/peaks.ts";
import {
  type CpuEvent,
  type DispatchEvent,
  type Group,
  type KernelGroup,
  PROFILE_VERSION,
} from "./profile.ts";
import type { Ceiling, Parts, Profile } from "./profile.ts";
import { measured } from "./statistics.ts";

/** One run as the profiler saw it. */
export interface Run {
  /** In milliseconds of performance.now(): from the first record to the end of the last wait. */
  readonly begin: number;
  readonly end: number;
  readonly events: readonly ProfileEvent[];
  readonly cpu: readonly CpuSpan[];
  readonly memory: readonly (readonly [time: number, live: number, allocated: number])[];
}

/** What a profile says of itself. */
export type About = Pick<Profile, "adapter" | "driver" | "path" | "commit" | "command" | "options" | "peaks">;

/** Puts a profile together. `plain` are wall times of as many runs without the profiler, in milliseconds. */
export function summarize(
  about: About,
  runs: readonly Run[],
  plain: readonly number[],
  detail = false,
): Profile {
  if (runs.length === 0)
    throw new RangeError("Cannot sum up a profile: there is no run, at least 1 expected");
  const timelines = runs.map(timeline);
  const walls = runs.map(({ begin, end }) => end - begin);
  const wall = measured(walls);
  // The run that is shown: the one nearest the median.
  const distance = (i: number) => Math.abs(walls[i] - wall.median);
  const shown = runs.reduce((best, _, i) => (distance(i) < distance(best) ? i : best), 0);
  const { events, cpu } = timelines[shown];
  const all = timelines.map((each) => each.events);
  const { peaks } = about;
  const grouped = <T>(name: (event: DispatchEvent) => string, more: (event: DispatchEvent) => T) =>
    group(all, shown, name, more, peaks);
  const merge = (layer: string) => (detail ? layer : layer.replace(/\.\d+(?=\.|$)/g, ".*"));
  const spent = (kind: CpuSpan["kind"]) =>
    timelines.map((each) => length(each.cpu.filter((span) => span.kind === kind)));
  const [submit, wait] = [spent("submit"), spent("wait")];
  const parts = timelines.map((each, i) => divide(each, walls[i]));
  const part = (name: keyof Parts) => measured(parts.map((each) => each[name]));
  return {
    version: PROFILE_VERSION,
    ...about,
    runs: runs.length,
    wall,
    plain: measured(plain),
    parts: {
      ...{ gpu: part("gpu"), cpu: part("cpu"), gaps: part("gaps") },
      ...{ wake: part("wake"), unexplained: part("unexplained") },
    },
    events,
    cpuEvents: cpu,
    kernels: grouped(
      ({ kernel, entry, shape, grid, variant }) => JSON.stringify([kernel, entry, shape, grid, variant]),
      ({ kernel, entry, shape, grid, variant }) => ({
        name: `${kernel}.${entry}`,
        kernel,
        entry,
        shape,
        grid,
        variant,
      }),
    ) satisfies KernelGroup[],
    layers: grouped(
      ({ layer }) => merge(layer),
      ({ layer }) => ({ name: merge(layer) }),
    ),
    stages: grouped(
      ({ stage }) => stage,
      ({ stage }) => ({ name: stage }),
    ),
    cpu: {
      record: measured(walls.map((each, i) => each - submit[i] - wait[i])),
      submit: measured(submit),
      wait: measured(wait),
      submits: cpu.filter(({ kind }) => kind === "submit").length,
    },
    memory: runs[shown].memory.map(([time, live, allocated]) => [time - runs[shown].begin, live, allocated]),
  };
}

interface Timeline {
  readonly events: readonly DispatchEvent[];
  /** The submit of each event, in milliseconds from the begin of the run: when the GPU may have begun it. */
  readonly submitted: readonly number[];
  readonly cpu: readonly CpuEvent[];
}

/**
 * Lays the GPU's clock over the CPU's, and counts from the begin of the run. WebGPU does not tell how the two stand to each
 * other. What is known: no dispatch begins before its submit was begun, and none ends after the wait for it. The earliest
 * that the submits allow is taken, as if the quickest of them had no latency.
 */
function timeline({ begin, end, events, cpu }: Run): Timeline {
  const submits = cpu.filter(({ kind }) => kind === "submit");
  const submitted = events.map(({ submit }) => submits[submit]?.begin ?? begin);
  const least = events.reduce(
    (most, event, i) => Math.max(most, submitted[i] - event.begin / 1e6),
    -Infinity,
  );
  const most = events.reduce((less, event) => Math.min(less, end - event.end / 1e6), Infinity);
  const offset = Math.min(least, most) - begin;
  return {
    events: events.map(
      ({ phase, part, layer, label: _, submit: __, flops, recorded, begin: from, end: to, ...rest }) => ({
        ...rest,
        stage: [phase, part].filter(Boolean).join(": "),
        layer: [part, layer].filter(Boolean).join(": "),
        flops: flops ?? null,
        begin: from / 1e6 + offset,
        end: to / 1e6 + offset,
        recorded: recorded - begin,
      }),
    ),
    submitted: submitted.map((time) => time - begin),
    cpu: cpu.map((span) => ({ kind: span.kind, begin: span.begin - begin, end: span.end - begin })),
  };
}

type Span = readonly [from: number, to: number];

/** Spans in order, those that touch made one. */
function union(spans: Iterable<Span>): Span[] {
  const sorted = [...spans].sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = merged.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}

const spanOf = ({ begin, end }: { readonly begin: number; readonly end: number }): Span => [begin, end];
const sum = (spans: readonly Span[]): number => spans.reduce((total, [from, to]) => total + (to - from), 0);
const length = (spans: readonly CpuEvent[]): number => sum(union(spans.map(spanOf)));

/** What of `spans` lies within [from, to]. */
const clipped = (spans: readonly Span[], [from, to]: Span): Span[] =>
  spans.flatMap(([a, b]) =>
    Math.min(b, to) > Math.max(a, from) ? [[Math.max(a, from), Math.min(b, to)] as const] : [],
  );

/** What `spans`, in order and apart, leave of [0, wall]. */
function rest(spans: readonly Span[], wall: number): Span[] {
  const left: Span[] = [];
  let at = 0;
  for (const [from, to] of clipped(spans, [0, wall])) {
    if (from > at) left.push([at, from]);
    at = to;
  }
  if (wall > at) left.push([at, wall]);
  return left;
}

/** The parts of a run's wall time, in milliseconds. */
function divide({ events, submitted, cpu }: Timeline, wall: number): Record<keyof Parts, number> {
  const busy = union(events.map(spanOf));
  const waits = union(cpu.filter(({ kind }) => kind === "wait").map(spanOf));
  const order = events.map((_, i) => i).sort((a, b) => events[a].begin - events[b].begin);
  const idle = rest(busy, wall);
  const parts = { gpu: wall - sum(idle), cpu: 0, gaps: 0, wake: 0, unexplained: 0 };
  let next = 0;
  for (const [from, to] of idle) {
    const waiting = clipped(waits, [from, to]);
    parts.cpu += to - from - sum(waiting);
    while (next < order.length && events[order[next]].begin < to) next++;
    // Until the next dispatch is submitted nothing is left to do; from then on it is late.
    const due = next < order.length ? submitted[order[next]] : Infinity;
    const late = sum(clipped(waiting, [due, to]));
    parts.wake += sum(waiting) - late;
    if (from > 0 && due <= from) parts.gaps += late;
    else parts.unexplained += late;
  }
  return parts;
}

/** Least milliseconds that the ceilings leave for a dispatch, and which of them binds it; undefined where that is unknown. */
export function leastTime(
  { flops, bytes, unit }: Pick<DispatchEvent, "flops" | "bytes" | "unit">,
  peaks: Peaks | undefined,
): { milliseconds: number; ceiling: Ceiling } | undefined {
  const peak = peaks?.[unit] ?? peaks?.f32;
  if (!peaks || !peak || flops === null) return undefined;
  const [arithmetic, traffic] = [flops / peak, bytes / peaks.copy];
  return arithmetic > traffic
    ? { milliseconds: 1000 * arithmetic, ceiling: peaks[unit] ? unit : "f32" }
    : { milliseconds: 1000 * traffic, ceiling: "copy" };
}

/** Groups the dispatches of all runs by name, those of the most time first. */
function group<T>(
  runs: readonly (readonly DispatchEvent[])[],
  shown: number,
  nameOf: (event: DispatchEvent) => string,
  more: (event: DispatchEvent) => T,
  peaks: Peaks | undefined,
): (T & Omit<Group, "name">)[] {
  const groups = new Map<string, { first: DispatchEvent; times: number[]; events: DispatchEvent[] }>();
  for (const [i, events] of runs.entries()) {
    for (const event of events) {
      const name = nameOf(event);
      let found = groups.get(name);
      if (!found) {
        found = { first: event, times: new Array<number>(runs.length).fill(0), events: [] };
        groups.set(name, found);
      }
      found.times[i] += event.end - event.begin;
      if (i === shown) found.events.push(event);
    }
  }
  return [...groups.values()]
    .map(({ first, times, events }) => {
      const time = measured(times);
      const known = events.every(({ flops }) => flops !== null);
      const flops = known ? events.reduce((total, event) => total + (event.flops ?? 0), 0) : null;
      const bytes = events.reduce((total, event) => total + event.bytes, 0);
      const seconds = time.median / 1000;
      const rate = (amount: number | null) => (amount !== null && seconds > 0 ? amount / seconds : null);
      const least = events.map((event) => leastTime(event, peaks));
      const bounds = new Map<Ceiling, number>();
      for (const bound of least)
        if (bound) bounds.set(bound.ceiling, (bounds.get(bound.ceiling) ?? 0) + bound.milliseconds);
      const total = [...bounds.values()].reduce((a, b) => a + b, 0);
      const whole = events.length > 0 && least.every((bound) => bound !== undefined);
      const [[ceiling] = [null]] = [...bounds].sort((a, b) => b[1] - a[1]);
      return {
        ...more(first),
        ...{ time, calls: events.length, flops, bytes },
        flopsPerSecond: rate(flops),
        bytesPerSecond: rate(bytes),
        ceiling: whole ? ceiling : null,
        share: whole && time.median > 0 ? total / time.median : null,
      };
    })
    .sort((a, b) => b.time.median - a.time.median);
}

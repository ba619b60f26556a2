/** A profile in Chrome's trace event format, which Perfetto and chrome://tracing show. */
import type { DispatchEvent, Profile } from "./profile.ts";
import { leastTime } from "./summary.ts";

/** An event of the format; times are microseconds. */
interface TraceEvent {
  readonly name: string;
  /** M: a name of a track, X: a span, C: values of a counter. */
  readonly ph: "M" | "X" | "C";
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

const DEVICE_TRACK = { pid: 1 };
const CPU = { pid: 2 };
const MEMORY = { pid: 3 };

/**
 * Tracks for the GPU (stages, layers, dispatches), the CPU (recording, submits, waits) and a counter of the GPU's buffers. Every
 * dispatch has as arguments what it was and how fast.
 */
export function chromeTrace(profile: Profile) {
  const { events, cpuEvents, memory, peaks, adapter, command } = profile;
  const process = (name: string, { pid }: { pid: number }): TraceEvent => ({
    ...{ name: "process_name", ph: "M", pid, tid: 0, args: { name } },
  });
  const thread = (name: string, { pid }: { pid: number }, tid: number): TraceEvent => ({
    ...{ name: "thread_name", ph: "M", pid, tid, args: { name } },
  });
  const span = (
    name: string,
    track: { pid: number; tid: number },
    begin: number,
    end: number,
    args = {},
  ): TraceEvent => ({ name, ph: "X", ...track, ts: 1000 * begin, dur: 1000 * (end - begin), args });
  const traceEvents: TraceEvent[] = [
    ...[
      process("GPU", DEVICE_TRACK),
      thread("stages", DEVICE_TRACK, 1),
      thread("layers", DEVICE_TRACK, 2),
      thread("dispatches", DEVICE_TRACK, 3),
    ],
    ...[process("CPU", CPU), thread("recording, submits and waits", CPU, 1)],
    process("memory", MEMORY),
    ...spansOf(events, ({ stage }) => stage).map(([name, a, b]) =>
      span(name, { ...DEVICE_TRACK, tid: 1 }, a, b),
    ),
    ...spansOf(events, ({ layer }) => layer).map(([name, a, b]) =>
      span(name, { ...DEVICE_TRACK, tid: 2 }, a, b),
    ),
    ...events.map((event) => {
      const { kernel, entry, begin, end } = event;
      return span(`${kernel}.${entry}`, { ...DEVICE_TRACK, tid: 3 }, begin, end, argumentsOf(event, peaks));
    }),
    ...events.map(({ kernel, entry, recorded, recording, layer }) =>
      span(`record ${kernel}.${entry}`, { ...CPU, tid: 1 }, recorded, recorded + recording, { layer }),
    ),
    ...cpuEvents.map(({ kind, begin, end }) => span(kind, { ...CPU, tid: 1 }, begin, end)),
    ...memory.map(
      ([time, live, allocated]): TraceEvent => ({
        ...{ name: "GPU buffers", ph: "C", pid: MEMORY.pid, tid: 0, ts: 1000 * time },
        args: { "in use": live, "held for reuse": allocated - live },
      }),
    ),
  ];
  return { traceEvents, displayTimeUnit: "ms", otherData: { adapter, command } };
}

function argumentsOf(event: DispatchEvent, peaks: Profile["peaks"]): Record<string, unknown> {
  const { stage, layer, shape, grid, variant, flops, bytes, unit, begin, end } = event;
  const seconds = (end - begin) / 1000;
  const rate = (amount: number | null) => (amount === null || seconds <= 0 ? null : amount / seconds / 1e9);
  const least = leastTime(event, peaks);
  return {
    ...{ stage, layer, shape, grid: grid.join("×"), variant, flops, bytes },
    ...{ "GFLOP/s": rate(flops), "GB/s": rate(bytes) },
    ...(least && seconds > 0
      ? { unit, ceiling: least.ceiling, share: least.milliseconds / 1000 / seconds }
      : {}),
  };
}

/** Runs of dispatches that share a name, one after the other; those without one are left out. */
export function spansOf(
  events: readonly DispatchEvent[],
  nameOf: (event: DispatchEvent) => string,
): [name: string, begin: number, end: number][] {
  const runs: [string, number, number][] = [];
  let before: string | undefined;
  for (const event of [...events].sort((a, b) => a.begin - b.begin)) {
    const name = nameOf(event);
    const last = runs.at(-1);
    if (name !== "" && name === before && last) last[2] = Math.max(last[2], event.end);
    else if (name !== "") runs.push([name, event.begin, event.end]);
    before = name;
  }
  return runs;
}

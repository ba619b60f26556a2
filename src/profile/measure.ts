/** Profiles a workload: some runs with timestamps, in turns with plain ones. */
import { identify } from "../gpu/adapter.ts";
import type { Device } from "../gpu/device.ts";
import type { Profile } from "./profile.ts";
import { type About, type Run, summarize } from "./summary.ts";

/** Options of measureProfile(). */
export interface MeasureOptions extends Pick<About, "command" | "options" | "commit" | "peaks"> {
  /** Runs that are measured with timestamps, and without; at least 1. */
  readonly runs: number;
  /** Leaves layers apart that differ by a number alone. */
  readonly detail?: boolean;
  /** Told after each run how many of all are done, the two that warm up included. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** What the runs before the measured ones tell. */
export interface WarmUp {
  /** Milliseconds of the first run, which compiles kernels. */
  readonly first: number;
  /** Pipelines and bind groups that the second one made; a repeated shape should make none. */
  readonly created: number;
}

/**
 * Profiles `run`, which records work and waits for it. It runs twice to warm up, then plain and with timestamps in turns.
 * Throws where the adapter has no timestamps, and where a run dispatches nothing.
 */
export async function measureProfile(
  device: Device,
  run: () => Promise<void>,
  { runs, detail, onProgress, ...about }: MeasureOptions,
): Promise<{ profile: Profile; warmUp: WarmUp }> {
  const total = 2 + 2 * runs;
  let done = 0;
  const timed = async () => {
    const begin = performance.now();
    await run();
    await device.idle();
    const end = performance.now();
    onProgress?.(++done, total);
    return { begin, end };
  };
  const { counters, recorder } = device;
  const first = await timed();
  const before = { ...counters };
  await timed();
  const created = counters.pipelines - before.pipelines + counters.bindGroups - before.bindGroups;
  const plain: number[] = [];
  const profiled: Run[] = [];
  for (let i = 0; i < runs; i++) {
    const { begin, end } = await timed();
    plain.push(end - begin);
    device.startProfile();
    const { profiler } = recorder;
    const span = await timed().catch(async (error) => {
      await device.endProfile().catch(() => {});
      throw error;
    });
    await device.endProfile();
    if (!profiler || profiler.events.length === 0)
      throw new Error("Cannot profile: a run dispatched nothing to the GPU");
    const { events, memory } = profiler;
    // The last wait, which ends the profile, is not of the run.
    profiled.push({ ...span, events, memory, cpu: profiler.cpu.filter((each) => each.begin < span.end) });
  }
  const { name, path } = device.info;
  const profile = summarize(
    { adapter: name, driver: identify(device).driver, path, ...about },
    profiled,
    plain,
    detail,
  );
  return { profile, warmUp: { first: first.end - first.begin, created } };
}

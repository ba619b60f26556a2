/**
 * Times candidates in turns, so that what disturbs a second disturbs all alike. Warm: dispatches one after another on the same
 * buffers, after one that is not counted. Cold: one dispatch after a copy that is larger than the caches.
 */
import type { Device } from "../gpu/device.ts";
import { gridFor } from "../gpu/launch.ts";
import { measured } from "../profile/statistics.ts";
import type { Measured } from "../profile/profile.ts";
import { copy } from "../records/peak_kernels.ts";
import type { PoolBuffer } from "../gpu/pool.ts";
import type { Candidate } from "./candidate.ts";

/** Milliseconds of one call. */
export interface Times {
  readonly warm: Measured;
  readonly cold: Measured;
  /** Calls of which a warm time is the mean. */
  readonly calls: number;
}

/** Milliseconds that a warm time takes together, and most calls in it. */
const GOAL = { timestamps: 2, wall: 20 };
const MOST = 64;
/** Bytes of the copy that empties the caches; read and written, so twice as many pass through them. */
export const flushBytes = ({ info, limits }: Device): number =>
  Math.min(info.cpu ? 2 ** 26 : 2 ** 27, 2 ** Math.floor(Math.log2(limits.maxStorageBufferBindingSize)));

/** The two buffers of the copy, on each device. */
class Flush {
  readonly #held = new Map<Device, [PoolBuffer, PoolBuffer]>();

  record(device: Device): void {
    const bytes = flushBytes(device);
    const [from, to] = this.#held.get(device) ?? [device.pool.acquire(bytes), device.pool.acquire(bytes)];
    this.#held.set(device, [from, to]);
    const WG = device.info.cpu ? 8 : 64;
    const quads = bytes / 16;
    copy.run(
      "forward",
      { x: { device, buffer: from }, y: { device, buffer: to } },
      { quads },
      gridFor(quads / 4, WG),
      { flags: { QUADS: 4, LAST: 3 }, overrides: { WG } },
    );
  }

  release(): void {
    for (const [device, buffers] of this.#held) for (const buffer of buffers) device.pool.release(buffer);
  }
}

/** One time of a candidate, in milliseconds of a call. */
async function once(candidate: Candidate, calls: number, flush: Flush | undefined): Promise<number> {
  const { device, run, reset } = candidate;
  if (device.info.timestamps) return await onceByGpu(candidate, calls, flush);
  let total = 0;
  // Copies must not count: with them every call is waited for by itself.
  const batches = reset ? calls : 1;
  for (let batch = 0; batch < batches; batch++) {
    reset?.();
    flush?.record(device);
    await device.idle();
    const begin = performance.now();
    for (let i = 0; i < calls / batches; i++) run();
    await device.idle();
    total += performance.now() - begin;
  }
  return total / calls;
}

async function onceByGpu(
  { device, run, reset }: Candidate,
  calls: number,
  flush: Flush | undefined,
): Promise<number> {
  device.startProfile();
  const { profiler } = device.recorder;
  if (!profiler) throw new Error("Cannot time: the profiler did not start");
  const own: boolean[] = [];
  let noted = 0;
  const note = (counts: boolean, body: () => void) => {
    const before = device.recorder.dispatches;
    body();
    noted = device.recorder.dispatches - before;
    for (let i = 0; i < noted; i++) own.push(counts);
  };
  if (flush) note(false, () => flush.record(device));
  else {
    reset?.();
    note(false, run); // warms up
  }
  for (let i = 0; i < calls; i++) {
    reset?.();
    note(true, run);
  }
  await device.endProfile();
  const { events } = profiler;
  const nanoseconds = events.reduce((sum, { begin, end }, i) => sum + (own[i] ? end - begin : 0), 0);
  return nanoseconds / 1e6 / calls;
}

/** Times all candidates `runs` times each, in turns. `onTime` is called after every time. */
export async function timeAll(
  candidates: readonly Candidate[],
  runs: number,
  onTime: (done: number, total: number) => void,
): Promise<Times[]> {
  const flush = new Flush();
  try {
    const all: { candidate: Candidate; calls: number; warm: number[]; cold: number[] }[] = [];
    for (const candidate of candidates) {
      const { timestamps } = candidate.device.info;
      await once(candidate, 1, undefined);
      const one = await once(candidate, 1, undefined);
      const goal = timestamps ? GOAL.timestamps : GOAL.wall;
      const calls = Math.max(1, Math.min(MOST, Math.ceil(goal / Math.max(one, 1e-3))));
      await once(candidate, 1, flush);
      all.push({ candidate, calls, warm: [], cold: [] });
      onTime(0, runs);
    }
    for (let round = 0; round < runs; round++) {
      // Another begins each round, and every second one goes backwards.
      const from = round % all.length;
      const turn = [...all.slice(from), ...all.slice(0, from)];
      if (round % 2 === 1) turn.reverse();
      for (const { candidate, calls, warm, cold } of turn) {
        warm.push(await once(candidate, calls, undefined));
        cold.push(await once(candidate, 1, flush));
        onTime(round, runs);
      }
    }
    return all.map(({ warm, cold, calls }) => ({ warm: measured(warm), cold: measured(cold), calls }));
  } finally {
    flush.release();
  }
}

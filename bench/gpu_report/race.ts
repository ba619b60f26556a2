/** Times several ways of doing the same, in turns. */
import type { Device } from "../../src/gpu/device.ts";
import { quantile } from "../../src/profile/statistics.ts";

/** Milliseconds of a run: the median, and the least. */
export interface Time {
  readonly median: number;
  readonly least: number;
}

/** One way of doing it. */
export interface Contender {
  /** Records one run. */
  readonly record: () => void;
}

/**
 * The time of each, in their order: by the GPU's clock the sum of its dispatches, where it has none by the wall's with the wait.
 * A round runs all of them `repeats` times; another one begins each time, so that caches favour nobody.
 */
export async function race(
  device: Device,
  contenders: readonly Contender[],
  { rounds = 6, repeats = 3 }: { readonly rounds?: number; readonly repeats?: number } = {},
): Promise<Time[]> {
  const times = contenders.map((): number[] => []);
  // Once untimed: the first run of a pipeline does what later ones need not.
  for (const { record } of contenders) record();
  await device.idle();
  for (let round = 0; round < rounds; round++) {
    const order = contenders.map((_, i) => (i + round) % contenders.length);
    const taken = await (device.info.timestamps ? onGpu : byWall)(
      device,
      order.map((i) => contenders[i]),
      repeats,
    );
    for (const [i, at] of order.entries()) times[at].push(taken[i]);
  }
  return times.map((all) => ({ median: quantile(all, 0.5), least: Math.min(...all) }));
}

async function onGpu(device: Device, all: readonly Contender[], repeats: number): Promise<number[]> {
  device.startProfile();
  const { recorder } = device;
  const { profiler } = recorder;
  const counts = all.map(({ record }) => {
    const before = recorder.dispatches;
    for (let i = 0; i < repeats; i++) record();
    return recorder.dispatches - before;
  });
  await device.endProfile();
  let at = 0;
  return counts.map((count) => {
    const events = profiler?.events.slice(at, at + count) ?? [];
    at += count;
    return events.reduce((sum, { begin, end }) => sum + end - begin, 0) / 1e6 / repeats;
  });
}

async function byWall(device: Device, all: readonly Contender[], repeats: number): Promise<number[]> {
  const times: number[] = [];
  for (const { record } of all) {
    const begin = performance.now();
    for (let i = 0; i < repeats; i++) record();
    await device.idle();
    times.push((performance.now() - begin) / repeats);
  }
  return times;
}

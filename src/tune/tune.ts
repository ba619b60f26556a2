/** The search for launch choices that are faster than the defaults, on one adapter. */
import type { LaunchSizes, LaunchValue } from "../gpu/choices.ts";
import type { Device } from "../gpu/device.ts";
import { candidatesOf, shapeClass, type Tunable } from "../gpu/tunable.ts";
import { mannWhitney, quantile } from "../profile/statistics.ts";
import { relativeL2 } from "../records/float64.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Trial, trialOf } from "./trials.ts";
import { kernelDigest, type Tuned } from "./tuning.ts";

/** A class of shapes that a workload launches kernels with. */
export interface Wanted {
  readonly choice: Tunable;
  /** Of the first launch of the class. */
  readonly sizes: LaunchSizes;
  /** Launches in the workload. */
  readonly count: number;
}

/** The classes of shapes that `run` launches kernels with, where there is something to choose. */
export async function launchesOf(device: Device, run: () => Promise<void>): Promise<Wanted[]> {
  const { choices } = device;
  const found = new Map<string, { choice: Tunable; sizes: LaunchSizes; count: number }>();
  choices.watcher = (choice, sizes) => {
    const name = shapeClass(choice, sizes);
    const known = found.get(name);
    if (known) known.count++;
    else found.set(name, { choice, sizes, count: 1 });
  };
  try {
    await run();
  } finally {
    choices.watcher = undefined;
  }
  return [...found.values()].filter(({ choice, sizes }) => candidatesOf(device, choice, sizes).length > 0);
}

/** One way to run a trial. */
export interface Contender {
  /** Undefined: the default. */
  readonly value: LaunchValue | undefined;
  /** Records it once. */
  readonly record: () => void;
  /** As Trial.kernel. */
  readonly kernel?: string;
}

/** Milliseconds of each, in order. */
export type Timer = (device: Device, contenders: readonly Contender[]) => Promise<number[]>;

/** Options of tune(). */
export interface TuneOptions {
  /** Opens the device, and again after a candidate has broken it. */
  readonly openDevice: () => Promise<Device>;
  /** Seconds after which no other class is begun. */
  readonly budget: number;
  /** Told of candidates that are wrong or do not run, and of what there was no time for. */
  readonly note?: (line: string) => void;
  /** Told of each class that was measured, as soon as it was. */
  readonly onTuned?: (tuned: Tuned) => void;
  /** Told how many classes of all are done. */
  readonly onProgress?: (done: number, total: number) => void;
  /** In place of the GPU's clock, or the CPU's where that has none. */
  readonly timer?: Timer;
  /** In place of the operators on noise. */
  readonly trial?: (device: Device, choice: Tunable, sizes: LaunchSizes) => Trial;
}

/** What tune() found. */
export interface Found {
  /** Each class that was measured, with what is faster than its default if anything is. */
  readonly tuned: readonly Tuned[];
  /** Classes that there was no time for. */
  readonly left: number;
}

/** Rounds after which the slow ones go, and in all; as many again for the last two alone. */
const FIRST_ROUNDS = 3;
const ROUNDS = 7;
const CONFIRMING = 9;
/** How much slower than the fastest one may be after the first rounds. */
const HOPELESS = 1.25;
/** How much faster than the default the winner must be, and how surely. */
const FASTER = 0.97;
const SURE = 0.01;

/**
 * Measures for each class whether another value is faster than the default. Each candidate must give the default's results within
 * the operator's tolerance before it is timed; then all run in turns, and the fastest once more against the default alone, which
 * it must clearly beat. The classes that take most of the workload come first.
 */
export async function tune(wanted: readonly Wanted[], options: TuneOptions): Promise<Found> {
  const { openDevice, budget, note = () => {}, onTuned, onProgress } = options;
  const end = performance.now() + budget * 1000;
  const search = new Search(await openDevice(), options);
  try {
    const weighed: (Wanted & { readonly cost: number })[] = [];
    for (const each of wanted) {
      // An estimate ends when half of the time is over: what is left is weighed by the launches alone.
      const cost = performance.now() < end - budget * 500 ? await search.estimate(each) : 0;
      if (cost !== undefined) weighed.push({ ...each, cost: cost * each.count });
    }
    weighed.sort((a, b) => b.cost - a.cost);
    const tuned: Tuned[] = [];
    for (const [i, each] of weighed.entries()) {
      if (performance.now() >= end) {
        const left = weighed.length - i;
        note(`no time for ${left} of ${weighed.length} classes of shapes: --budget allows ${budget} s`);
        return { tuned, left };
      }
      const found = await search.search(each);
      if (found) {
        tuned.push(found);
        onTuned?.(found);
      }
      onProgress?.(i + 1, weighed.length);
    }
    return { tuned, left: 0 };
  } finally {
    search.device.dispose();
  }
}

/** As "ROWS=24". */
export const showValue = (value: LaunchValue): string =>
  Object.entries(value)
    .map(([name, v]) => `${name}=${v}`)
    .join(" ");

class Search {
  device: Device;
  readonly #options: TuneOptions;

  constructor(device: Device, options: TuneOptions) {
    this.device = device;
    this.#options = options;
    device.choices.use([]);
  }

  #note(line: string): void {
    this.#options.note?.(line);
  }

  /** A device that failed stays so: another takes its place. */
  async #reopen(): Promise<void> {
    this.device.dispose();
    this.device = await this.#options.openDevice();
    this.device.choices.use([]);
  }

  #trial({ choice, sizes }: Wanted): { trial: Trial; release: () => void } {
    const { trial = trialOf } = this.#options;
    const made: { release(): void }[] = [];
    const { scopes } = this.device;
    scopes.push(made);
    try {
      return {
        trial: trial(this.device, choice, sizes),
        release: () => {
          for (const each of made.splice(0)) each.release();
        },
      };
    } catch (error) {
      for (const each of made) each.release();
      throw error;
    } finally {
      scopes.length = scopes.indexOf(made);
    }
  }

  #contender(
    { choice }: Wanted,
    { run, kernel }: Trial,
    value?: LaunchValue,
  ): Contender & { run: Trial["run"] } {
    const { device } = this;
    const tried = () => (value ? device.choices.trying(choice, value, run) : run());
    return { value, run: tried, record: () => void scope(device, () => void tried()), kernel };
  }

  /** Milliseconds of the default; undefined where it cannot run here, as for want of memory. */
  async estimate(wanted: Wanted): Promise<number | undefined> {
    try {
      const { trial, release } = this.#trial(wanted);
      try {
        const contender = this.#contender(wanted, trial);
        await this.device.precompile(contender.record);
        contender.record();
        return (await this.#time([contender]))[0];
      } finally {
        release();
      }
    } catch (error) {
      this.#note(`${shapeClass(wanted.choice, wanted.sizes)} is left as it is: ${firstLine(error)}`);
      await this.#reopen();
      return undefined;
    }
  }

  async search(wanted: Wanted): Promise<Tuned | undefined> {
    const { choice, sizes } = wanted;
    let values = candidatesOf(this.device, choice, sizes);
    // Compiled side by side it is quicker, and unknown which one does not: then one after the other, until all that are left do.
    let together = true;
    for (;;) {
      const trying: LaunchValue[] = [];
      try {
        return await this.#search(wanted, values, trying, together);
      } catch (error) {
        const culprit = trying.at(-1);
        const name = shapeClass(choice, sizes);
        if (culprit) this.#note(`${name}: ${showValue(culprit)} does not run: ${firstLine(error)}`);
        else if (!together) this.#note(`${name} is left as it is: ${firstLine(error)}`);
        await this.#reopen();
        if (!culprit && !together) return undefined;
        together = false;
        values = values.filter((value) => value !== culprit);
      }
    }
  }

  /** The last of `trying` is what runs, where one runs alone. */
  async #search(
    wanted: Wanted,
    values: readonly LaunchValue[],
    trying: LaunchValue[],
    together: boolean,
  ): Promise<Tuned> {
    const { device } = this;
    const { choice, sizes } = wanted;
    const { trial, release } = this.#trial(wanted);
    try {
      const usual = this.#contender(wanted, trial);
      const others = values.map((value) => ({ ...this.#contender(wanted, trial, value), value }));
      if (together)
        await device.precompile(() => {
          for (const { record } of [usual, ...others]) record();
        });
      const expected = await this.#results(usual);
      const right: Contender[] = [usual];
      for (const contender of others) {
        const { value } = contender;
        trying.push(value);
        if (!together) await device.precompile(contender.record);
        const got = await this.#results(contender);
        const far = Math.max(...got.map((each, i) => relativeL2(each, expected[i])));
        if (got.length === expected.length && far <= trial.tolerance) right.push(contender);
        else
          this.#note(
            `${shapeClass(choice, sizes)}: ${showValue(value)} is wrong here, ${far} from the default's result, limit ${trial.tolerance}: it is not used`,
          );
      }
      trying.length = 0;
      const { winner, milliseconds } = await this.#race(right);
      const kernel = kernelDigest(device, choice);
      return { choice, sizes, ...(winner && { value: winner }), kernel, milliseconds };
    } finally {
      release();
    }
  }

  async #results({ run }: { readonly run: Trial["run"] }): Promise<Float32Array[]> {
    const { device } = this;
    const results = scope(device, () => [...run()]);
    const read: Float32Array[] = [];
    for (const each of results) read.push(await each.read());
    for (const each of new Set<Tensor>(results)) each.release();
    return read;
  }

  /** All in turns; the first is the default. */
  async #race(all: readonly Contender[]) {
    let left = all;
    const times = new Map(all.map((each) => [each, [] as number[]]));
    const median = (each: Contender) => quantile(times.get(each) ?? [], 0.5);
    const fastest = () => left.reduce((best, each) => (median(each) < median(best) ? each : best));
    const rounds = async (count: number) => {
      for (let round = 0; round < count; round++) {
        // Another one begins each time: what the one before left in the caches is nobody's advantage.
        const at = round % left.length;
        const order = [...left.slice(at), ...left.slice(0, at)];
        const taken = await this.#time(order);
        for (const [i, each] of order.entries()) times.get(each)?.push(taken[i]);
      }
    };
    if (all.length > 1) await rounds(FIRST_ROUNDS);
    const limit = HOPELESS * median(fastest());
    left = all.filter((each, i) => i === 0 || median(each) <= limit);
    await rounds(all.length > 1 ? ROUNDS - FIRST_ROUNDS : 1);
    const best = fastest();
    const [usual] = all;
    if (best === usual || median(best) > FASTER * median(usual)) return this.#kept(median(usual));
    // The fastest of many is one that was lucky: only new times count.
    left = [usual, best];
    for (const each of left) times.set(each, []);
    await rounds(CONFIRMING);
    const [a, b] = left.map((each) => times.get(each) ?? []);
    const clear = median(best) <= FASTER * median(usual) && mannWhitney(a, b) < SURE;
    if (!clear) return this.#kept(median(usual));
    return { winner: best.value, milliseconds: { default: median(usual), chosen: median(best) } };
  }

  #kept = (milliseconds: number) => ({
    winner: undefined,
    milliseconds: { default: milliseconds, chosen: milliseconds },
  });

  #time(contenders: readonly Contender[]): Promise<number[]> {
    const { timer = this.device.info.timestamps ? gpuTimes : wallTimes } = this.#options;
    return timer(this.device, contenders);
  }
}

const firstLine = (error: unknown): string => (error as Error).message.split("\n", 1)[0];

/** By the GPU's clock: the time of the dispatches that count. */
const gpuTimes: Timer = async (device, contenders) => {
  device.startProfile();
  const { recorder } = device;
  const { profiler } = recorder;
  const counts = contenders.map(({ record }) => {
    const before = recorder.dispatches;
    record();
    return recorder.dispatches - before;
  });
  await device.endProfile();
  let at = 0;
  return counts.map((count, i) => {
    const { kernel } = contenders[i];
    const all = profiler?.events.slice(at, at + count) ?? [];
    const events = all.filter((event) => kernel === undefined || event.kernel === kernel);
    at += count;
    return events.reduce((sum, { begin, end }) => sum + end - begin, 0) / 1e6;
  });
};

/** By the CPU's clock, waiting included: of as many runs as take a millisecond or more. */
const wallTimes: Timer = async (device, contenders) => {
  const times: number[] = [];
  for (const { record } of contenders) {
    let taken = 0;
    let runs = 1;
    for (; ; runs *= 4) {
      const begin = performance.now();
      for (let i = 0; i < runs; i++) record();
      await device.idle();
      taken = performance.now() - begin;
      if (taken >= 1 || runs >= 256) break;
    }
    times.push(taken / runs);
  }
  return times;
};

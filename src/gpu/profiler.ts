/**
 * Times every dispatch with two timestamps in a pass of its own, and adds them up by label. Passes of their own cost
 * a few microseconds each, so a profiled run is slower than a plain one; shares and ratios are what to read.
 *
 * Beside the GPU's times it notes what each dispatch is and costs, how long the CPU took to record, submit and wait, and
 * how much memory was in use.
 */
import { type Dispatched, describeRun, type Observer, type Place, type Run } from "./cost.ts";
import { type PoolStatistics, usage } from "./pool.ts";

/** Most that WebGPU allows in one set; two a dispatch. */
const QUERIES = 4096;

/** All dispatches of one label in a profile. */
export interface ProfileRow {
  /** "KERNEL.ENTRY", after what Device.labelled() says: "encoder/matmul.forward". */
  readonly label: string;
  /** Dispatches. */
  readonly count: number;
  /** GPU time in milliseconds, all dispatches of the label together. */
  readonly milliseconds: number;
}

/** One dispatch: what it was, and when it ran. */
export interface ProfileEvent extends Dispatched, Place {
  /** As ProfileRow.label. */
  readonly label: string;
  /** When the GPU began it, in nanoseconds of its own clock. */
  readonly begin: number;
  /** When it was done, likewise. */
  readonly end: number;
  /** Number of its submit in the profile, from 0. */
  readonly submit: number;
  /** When the CPU began to record it, in milliseconds of performance.now(). */
  readonly recorded: number;
  /** How long that took, in milliseconds. */
  readonly recording: number;
}

/** Something else that the CPU did. */
export interface CpuSpan {
  /** What. */
  readonly kind: "submit" | "wait";
  /** In milliseconds of performance.now(). */
  readonly begin: number;
  /** Likewise. */
  readonly end: number;
}

/** An event whose times are still on the GPU. */
type Pending = { -readonly [K in Exclude<keyof ProfileEvent, "begin" | "end">]: ProfileEvent[K] };

export class Profiler implements Observer {
  readonly #set: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #device: GPUDevice;
  readonly #most: number;
  readonly #memory: PoolStatistics;
  readonly #place: () => Place;
  #open: Pending[] = [];
  /** The last dispatch that begin() was told of. */
  #noted: Pending | undefined;
  #pending: { events: Pending[]; staging: GPUBuffer }[] = [];
  #submits = 0;
  /** Every dispatch that was collected, in order. */
  readonly events: ProfileEvent[] = [];
  /** Submits and waits, in order of their ends. */
  readonly cpu: CpuSpan[] = [];
  /** Bytes of the pool's buffers whenever they changed: [milliseconds of performance.now(), live, allocated]. */
  readonly memory: [time: number, live: number, allocated: number][] = [];

  /** `place` says where the next dispatch belongs. `queries`: timestamps of one submit. */
  constructor(device: GPUDevice, memory: PoolStatistics, place: () => Place, queries = QUERIES) {
    this.#device = device;
    this.#memory = memory;
    this.#place = place;
    this.#most = queries;
    this.#set = device.createQuerySet({ type: "timestamp", count: queries });
    this.#resolved = device.createBuffer({ size: queries * 8, usage: usage.QUERY_RESOLVE | usage.COPY_SRC });
    this.#sample();
  }

  /** Whether the next dispatch must go into another submit. */
  get full(): boolean {
    return 2 * this.#open.length + 2 > this.#most;
  }

  observe(run: Run, record: () => void): void {
    this.#sample();
    this.#noted = undefined;
    const begin = performance.now();
    record();
    const end = performance.now();
    // None where the grid was empty.
    if (this.#noted)
      Object.assign(this.#noted, describeRun(run), { recorded: begin, recording: end - begin });
  }

  /** Timestamps for the pass of the next dispatch. Of one that no run() gave rise to its label is all that is known. */
  begin(label: string, grid: readonly [number, number, number]): GPUComputePassTimestampWrites {
    const i = this.#open.length * 2;
    const dot = label.lastIndexOf(".");
    this.#noted = {
      ...{ label, grid, kernel: label.slice(0, dot), entry: label.slice(dot + 1), shape: {}, variant: "" },
      ...{ unit: "f32", flops: undefined, bytes: 0 },
      ...this.#place(),
      ...{ submit: this.#submits, recorded: performance.now(), recording: 0 },
    };
    this.#open.push(this.#noted);
    return { querySet: this.#set, beginningOfPassWriteIndex: i, endOfPassWriteIndex: i + 1 };
  }

  resolve(encoder: GPUCommandEncoder): void {
    const count = this.#open.length * 2;
    this.#submits++;
    if (count === 0) return;
    const staging = this.#device.createBuffer({ size: count * 8, usage: usage.MAP_READ | usage.COPY_DST });
    encoder.resolveQuerySet(this.#set, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, staging, 0, count * 8);
    this.#pending.push({ events: this.#open, staging });
    this.#open = [];
  }

  /** Notes what the CPU did since `begin`. */
  did(kind: CpuSpan["kind"], begin: number): void {
    this.cpu.push({ kind, begin, end: performance.now() });
    this.#sample();
  }

  #sample(): void {
    const { live, allocated } = this.#memory;
    const last = this.memory.at(-1);
    if (last?.[1] !== live || last[2] !== allocated) this.memory.push([performance.now(), live, allocated]);
  }

  /** Collects what was submitted so far; `wait` is the host's quiet wait. Rows are sorted by time, longest first. */
  async collect(wait: (start: () => Promise<undefined>) => Promise<undefined>): Promise<ProfileRow[]> {
    for (const { events, staging } of this.#pending.splice(0)) {
      await wait(() => staging.mapAsync(1));
      const times = new BigInt64Array(staging.getMappedRange());
      for (const [i, event] of events.entries()) {
        const begin = Number(times[2 * i]);
        this.events.push({ ...event, begin, end: Math.max(begin, Number(times[2 * i + 1])) });
      }
      staging.destroy();
    }
    const rows = new Map<string, { count: number; nanoseconds: number }>();
    for (const { label, begin, end } of this.events) {
      const row = rows.get(label) ?? { count: 0, nanoseconds: 0 };
      row.count++;
      row.nanoseconds += end - begin;
      rows.set(label, row);
    }
    return [...rows]
      .map(([label, r]) => ({ label, count: r.count, milliseconds: r.nanoseconds / 1e6 }))
      .sort((a, b) => b.milliseconds - a.milliseconds);
  }

  /** Frees its GPU objects. What was collected stays. */
  destroy(): void {
    this.#set.destroy();
    this.#resolved.destroy();
  }
}

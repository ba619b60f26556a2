/**
 * Times every dispatch with two timestamps in a pass of its own, and adds them up by label. Passes of their own cost
 * a few microseconds each, so a profiled run is slower than a plain one; shares and ratios are what to read.
 */
import { usage } from "./pool.ts";

const QUERIES = 1024;

/** All dispatches of one label in a profile. */
export interface ProfileRow {
  /** "KERNEL.ENTRY", after what Device.labelled() says: "encoder/matmul.forward". */
  readonly label: string;
  /** Dispatches. */
  readonly count: number;
  /** GPU time in milliseconds, all dispatches of the label together. */
  readonly milliseconds: number;
}

/** One dispatch, in nanoseconds of the GPU's own clock. */
export interface ProfileEvent {
  /** As ProfileRow.label. */
  readonly label: string;
  /** When it began. */
  readonly begin: number;
  /** When it was done. */
  readonly end: number;
}

export class Profiler {
  readonly #set: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #device: GPUDevice;
  #labels: string[] = [];
  #pending: { labels: string[]; staging: GPUBuffer }[] = [];
  /** Every dispatch that was collected, in order. */
  readonly events: ProfileEvent[] = [];
  readonly #rows = new Map<string, { count: number; nanoseconds: number }>();

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#set = device.createQuerySet({ type: "timestamp", count: QUERIES });
    this.#resolved = device.createBuffer({ size: QUERIES * 8, usage: usage.QUERY_RESOLVE | usage.COPY_SRC });
  }

  /** Timestamps for the next pass; undefined once the query set is full, until the next submit. */
  begin(label: string): GPUComputePassTimestampWrites | undefined {
    const i = this.#labels.length * 2;
    if (i + 2 > QUERIES) return undefined;
    this.#labels.push(label);
    return { querySet: this.#set, beginningOfPassWriteIndex: i, endOfPassWriteIndex: i + 1 };
  }

  resolve(encoder: GPUCommandEncoder): void {
    const count = this.#labels.length * 2;
    if (count === 0) return;
    const staging = this.#device.createBuffer({ size: count * 8, usage: usage.MAP_READ | usage.COPY_DST });
    encoder.resolveQuerySet(this.#set, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, staging, 0, count * 8);
    this.#pending.push({ labels: this.#labels, staging });
    this.#labels = [];
  }

  /** Collects what was submitted so far; `wait` is the host's quiet wait. Rows are sorted by time, longest first. */
  async collect(wait: (start: () => Promise<undefined>) => Promise<undefined>): Promise<ProfileRow[]> {
    for (const { labels, staging } of this.#pending.splice(0)) {
      await wait(() => staging.mapAsync(1));
      const times = new BigInt64Array(staging.getMappedRange());
      labels.forEach((label, i) => {
        this.events.push({ label, begin: Number(times[2 * i]), end: Number(times[2 * i + 1]) });
        const row = this.#rows.get(label) ?? { count: 0, nanoseconds: 0 };
        row.count++;
        row.nanoseconds += Math.max(0, Number(times[2 * i + 1] - times[2 * i]));
        this.#rows.set(label, row);
      });
      staging.destroy();
    }
    return [...this.#rows]
      .map(([label, r]) => ({ label, count: r.count, milliseconds: r.nanoseconds / 1e6 }))
      .sort((a, b) => b.milliseconds - a.milliseconds);
  }
}

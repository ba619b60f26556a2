/**
 * Bind groups made so far, by pipeline and buffers. A repeated step finds all of its own; steps of mixed shapes, or with
 * layers dropped at random, pair their buffers anew each time, so the least recently used ones are dropped.
 *
 * WebGPU cannot destroy a bind group: the driver's memory returns once the runtime has collected the object. Those that
 * wait for that are counted, and Device.tidy() asks for a collection where they are many: on Linux a CPU adapter spends a
 * memory map on each, of which a process has 65,530; a GPU spends descriptors.
 */
import type { PoolBuffer } from "./pool.ts";

interface Entry {
  readonly group: GPUBindGroup;
  readonly buffers: readonly PoolBuffer[];
}

/** Most that are kept: several steps of a full-size model. */
const MOST = 16_384;
/** Most that may wait to be collected before a collection is asked for. */
const MOST_WAITING = 8_192;

/** The bind groups of a device, by pipeline and buffers. */
export class BindGroups {
  readonly #half: number;
  readonly #mostWaiting: number;
  /** LRU in two halves: once `recent` is full it becomes `older`, which is dropped. What is found in `older` moves over. */
  #recent = new Map<string, Entry>();
  #older = new Map<string, Entry>();
  /** Dropped since the last collection. */
  #waiting = 0;

  /** `most` are kept; a collection is asked for once `mostWaiting` were dropped. */
  constructor(most = MOST, mostWaiting = MOST_WAITING) {
    this.#half = most / 2;
    this.#mostWaiting = mostWaiting;
  }

  /** Bind groups that are kept. */
  get size(): number {
    return this.#recent.size + this.#older.size;
  }

  /** Most bind groups whose memory the driver may still hold: the kept ones, and those dropped since the last collection. */
  get alive(): number {
    return this.size + this.#waiting;
  }

  /** The group that was kept under `key`. */
  find(key: string): GPUBindGroup | undefined {
    const recent = this.#recent.get(key);
    if (recent) return recent.group;
    const entry = this.#older.get(key);
    if (!entry) return undefined;
    this.#older.delete(key);
    this.#keep(key, entry);
    return entry.group;
  }

  /** Keeps a new group, which binds these buffers. */
  add(key: string, buffers: readonly PoolBuffer[], group: GPUBindGroup): GPUBindGroup {
    this.#keep(key, { group, buffers });
    return group;
  }

  #keep(key: string, entry: Entry): void {
    if (this.#recent.size >= this.#half) {
      this.#waiting += this.#older.size;
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(key, entry);
  }

  /** Drops those that name a destroyed buffer. */
  forget(ids: ReadonlySet<number>): void {
    for (const groups of [this.#recent, this.#older]) {
      for (const [key, { buffers }] of groups) {
        if (!buffers.some(({ id }) => ids.has(id))) continue;
        groups.delete(key);
        this.#waiting++;
      }
    }
  }

  /** Where many were dropped, waits for `collect`, which is to run the runtime's garbage collector. */
  async tidy(collect: () => Promise<void>): Promise<void> {
    if (this.#waiting <= this.#mostWaiting) return;
    this.#waiting = 0; // waits overlap: one asks
    await collect();
  }
}

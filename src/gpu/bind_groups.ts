/**
 * Bind groups made so far, by pipeline and buffers. A repeated step finds all of its own; steps of mixed shapes, or with
 * layers dropped at random, pair their buffers anew each time, so the least recently used ones are let go.
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

export class BindGroups {
  readonly #half: number;
  readonly #mostWaiting: number;
  /** Used since the last turn, and used in the turn before: least recently used by halves, at the cost of one look-up. */
  #recent = new Map<string, Entry>();
  #older = new Map<string, Entry>();
  #alive = 0;
  /** More than so many alive are too many. Rises where a collection did not help, so as not to ask at every turn. */
  #tolerated: number;
  readonly #collected = new FinalizationRegistry<undefined>(() => {
    this.#alive--;
  });

  constructor(most = MOST, mostWaiting = MOST_WAITING) {
    this.#half = most / 2;
    this.#mostWaiting = mostWaiting;
    this.#tolerated = most + mostWaiting;
  }

  /** Bind groups that are kept. */
  get size(): number {
    return this.#recent.size + this.#older.size;
  }

  /** Bind groups whose memory the driver still holds, as far as is known: the kept ones and those not yet collected. */
  get alive(): number {
    return this.#alive;
  }

  /** The group that was kept under `key`. */
  find(key: string): GPUBindGroup | undefined {
    const recent = this.#recent.get(key);
    if (recent) return recent.group;
    const entry = this.#older.get(key);
    if (entry) this.#keep(key, entry);
    return entry?.group;
  }

  /** Keeps a new group, which binds these buffers. */
  add(key: string, buffers: readonly PoolBuffer[], group: GPUBindGroup): GPUBindGroup {
    this.#alive++;
    this.#collected.register(group, undefined);
    this.#keep(key, { group, buffers });
    return group;
  }

  #keep(key: string, entry: Entry): void {
    this.#older.delete(key);
    if (this.#recent.size >= this.#half) {
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(key, entry);
  }

  /** Drops those that name a destroyed buffer. */
  forget(ids: ReadonlySet<number>): void {
    for (const groups of [this.#recent, this.#older])
      for (const [key, { buffers }] of groups) if (buffers.some(({ id }) => ids.has(id))) groups.delete(key);
  }

  /** Where too many are alive, waits for `collect`, which is to run the runtime's garbage collector. */
  async tidy(collect: () => Promise<void>): Promise<void> {
    if (this.#alive <= this.#tolerated) return;
    // Not twice at once: waits overlap.
    this.#tolerated = Number.POSITIVE_INFINITY;
    await collect();
    this.#tolerated = Math.max(2 * this.#half, this.#alive) + this.#mostWaiting;
  }
}

/**
 * Bind groups made so far, by pipeline and buffers. A repeated step finds all of its own; steps of mixed shapes, or with
 * layers dropped at random, pair their buffers anew each time, so the least recently used ones are dropped.
 *
 * WebGPU cannot destroy a bind group: the driver's memory returns once the runtime has collected the object. Those that
 * wait for that are counted, and Device.tidy() asks for a collection where they are many: on Linux a CPU adapter spends a
 * memory map on each, of which a process has 65,530; a GPU spends descriptors.
 */
import type { PoolBuffer } from "./pool.ts";

/** A group that is kept, and what it is found by. */
export interface BoundGroup {
  /** The group. */
  readonly group: GPUBindGroup;
  /** What it binds, in the order of the pipeline's bindings. */
  readonly buffers: readonly PoolBuffer[];
}

interface Entry extends BoundGroup {
  /** Number of the pipeline. */
  readonly pipeline: number;
  /** Another one of the same hash. */
  next: Entry | undefined;
}

/** Entries by a hash of pipeline and buffers: looked up for every dispatch, without a key to put together. */
class Table {
  readonly #chains = new Map<number, Entry>();
  size = 0;

  find(hash: number, pipeline: number, buffers: readonly PoolBuffer[]): Entry | undefined {
    let entry = this.#chains.get(hash);
    while (entry && !(entry.pipeline === pipeline && same(entry.buffers, buffers))) entry = entry.next;
    return entry;
  }

  add(hash: number, entry: Entry): void {
    entry.next = this.#chains.get(hash);
    this.#chains.set(hash, entry);
    this.size++;
  }

  delete(hash: number, entry: Entry): void {
    this.#relink(hash, (each) => each !== entry);
  }

  /** Drops those that name one of these buffers; returns how many. */
  forget(ids: ReadonlySet<number>): number {
    const before = this.size;
    for (const hash of this.#chains.keys())
      this.#relink(hash, ({ buffers }) => !buffers.some(({ id }) => ids.has(id)));
    return before - this.size;
  }

  #relink(hash: number, stays: (entry: Entry) => boolean): void {
    let chain: Entry | undefined;
    for (let entry = this.#chains.get(hash); entry; ) {
      const { next } = entry;
      if (stays(entry)) {
        entry.next = chain;
        chain = entry;
      } else this.size--;
      entry = next;
    }
    if (chain) this.#chains.set(hash, chain);
    else this.#chains.delete(hash);
  }
}

function same(a: readonly PoolBuffer[], b: readonly PoolBuffer[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i].id !== b[i].id) return false;
  return true;
}

/** 30 bits, which JavaScript engines keep as a small integer; FNV-1a over words, then mixed. */
function hashOf(pipeline: number, buffers: readonly PoolBuffer[]): number {
  let h = Math.imul(pipeline ^ 0x811c9dc5, 0x01000193);
  for (let i = 0; i < buffers.length; i++) h = Math.imul(h ^ (h >>> 15) ^ buffers[i].id, 0x01000193);
  return (h ^ (h >>> 13)) & 0x3fffffff;
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
  #recent = new Table();
  #older = new Table();
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

  /** The group that was kept for a pipeline, by its number, and these buffers. */
  find(pipeline: number, buffers: readonly PoolBuffer[]): BoundGroup | undefined {
    const hash = hashOf(pipeline, buffers);
    const recent = this.#recent.find(hash, pipeline, buffers);
    if (recent) return recent;
    const entry = this.#older.find(hash, pipeline, buffers);
    if (!entry) return undefined;
    this.#older.delete(hash, entry);
    this.#keep(hash, entry);
    return entry;
  }

  /** Keeps a new group, which binds these buffers; the array may change afterwards. */
  add(pipeline: number, buffers: readonly PoolBuffer[], group: GPUBindGroup): BoundGroup {
    const entry = { pipeline, buffers: [...buffers], group, next: undefined };
    this.#keep(hashOf(pipeline, buffers), entry);
    return entry;
  }

  #keep(hash: number, entry: Entry): void {
    if (this.#recent.size >= this.#half) {
      this.#waiting += this.#older.size;
      this.#older = this.#recent;
      this.#recent = new Table();
    }
    this.#recent.add(hash, entry);
  }

  /** Drops those that name a destroyed buffer. */
  forget(ids: ReadonlySet<number>): void {
    this.#waiting += this.#recent.forget(ids) + this.#older.forget(ids);
  }

  /** Where many were dropped, waits for `collect`, which is to run the runtime's garbage collector. */
  async tidy(collect: () => Promise<void>): Promise<void> {
    if (this.#waiting <= this.#mostWaiting) return;
    this.#waiting = 0; // waits overlap: one asks
    await collect();
  }
}

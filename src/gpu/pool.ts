/**
 * GPU buffers by size class. A freed buffer is reused at once: dispatches are ordered on the queue, so a later kernel
 * cannot overtake an earlier one. Only a write from the CPU can: Recorder.upload() submits first where that matters.
 *
 * The lowest-numbered free buffer goes first, so that a repeated step is handed the same buffers and finds its bind
 * groups in the cache.
 */

/** A pooled buffer. `id` is its identity in bind-group keys. */
export interface PoolBuffer {
  /** Counted from 1. */
  readonly id: number;
  /** WebGPU's own object. */
  readonly gpu: GPUBuffer;
  /** Capacity in bytes: the size class, not the request. */
  readonly bytes: number;
  /** Serial of the last recording that names it; see Recorder. */
  lastUse: number;
  /** How often it was handed back. */
  released: number;
  /** The capture that it belongs to. */
  reserve: Reserve | undefined;
}

/** Free buffers by size class, the lowest-numbered first. */
class FreeList {
  readonly #bySize = new Map<number, PoolBuffer[]>();

  take(size: number): PoolBuffer | undefined {
    return this.#bySize.get(size)?.shift();
  }

  put(buffer: PoolBuffer): void {
    const free = this.#bySize.get(buffer.bytes);
    if (!free) {
      this.#bySize.set(buffer.bytes, [buffer]);
      return;
    }
    // Kept sorted by id; free lists are short.
    let at = free.length;
    while (at > 0 && free[at - 1].id > buffer.id) at--;
    free.splice(at, 0, buffer);
  }

  all(): PoolBuffer[] {
    return [...this.#bySize.values()].flat();
  }

  /** Takes out those with these ids. */
  remove(ids: ReadonlySet<number>): PoolBuffer[] {
    const removed: PoolBuffer[] = [];
    for (const [size, free] of this.#bySize) {
      removed.push(...free.filter(({ id }) => ids.has(id)));
      this.#bySize.set(
        size,
        free.filter(({ id }) => !ids.has(id)),
      );
    }
    return removed;
  }
}

/**
 * The buffers that a captured body took, which nobody else is handed until the capture is disposed of: a replay writes to
 * them. While the body runs it reuses those that it freed, but never one that the CPU wrote: a replay does not write it again.
 */
export class Reserve {
  readonly buffers = new Set<PoolBuffer>();
  /** Handed back, and free for the body. */
  readonly free = new FreeList();
  /** Written by the CPU, to stay as they are. */
  readonly constants = new Set<PoolBuffer>();
  /** Those of them that were handed back. */
  readonly parked: PoolBuffer[] = [];
}

/** How much GPU memory a device's pool holds. */
export interface PoolStatistics {
  /** Bytes handed out now. */
  live: number;
  /** Bytes held from the GPU now, free buffers included. */
  allocated: number;
  /** Highest `allocated` so far. */
  peak: number;
  /** Buffers held from the GPU now. */
  buffers: number;
  /** Buffers created since the device was opened. */
  created: number;
}

// GPUBufferUsage and GPUMapMode as numbers: npm webgpu sets no globals unless asked.
export const usage = {
  MAP_READ: 1,
  MAP_WRITE: 2,
  COPY_SRC: 4,
  COPY_DST: 8,
  UNIFORM: 64,
  STORAGE: 128,
  QUERY_RESOLVE: 512,
} as const;
const STORAGE = usage.STORAGE | usage.COPY_SRC | usage.COPY_DST;

/** Rounds up to one of eight steps per power of two, at least 256 bytes: at most 12.5 % is wasted. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = Math.max(32, 2 ** (Math.floor(Math.log2(bytes - 1)) - 3));
  return Math.ceil(bytes / step) * step;
}

/** What is called before and after buffers are destroyed. */
interface PoolOwner {
  /** Submits what was recorded: it may name free buffers, and a destroyed one would be refused. */
  beforeDestroy(): void;
  /** Forgets the bind groups that name one of these buffers, by id. */
  onDestroy(ids: ReadonlySet<number>): void;
  /** Bytes of main memory left now, where buffers live there. */
  memoryLeft?(): number;
}

/**
 * Most that is held, free buffers included: so many times what was ever live at once, and these bytes besides. Batches of
 * many lengths want much of it, and a new buffer costs memory that nobody has touched yet.
 */
const SPARE = 4;
const SLACK = 256 * 2 ** 20;
/** Free main memory is measured again after GLANCE bytes of new buffers; RESERVE of it is left for everything else. */
const GLANCE = 4 * 2 ** 20;
const RESERVE = 64 * 2 ** 20;

export const formatMiB = (bytes: number) =>
  bytes < 2 ** 20 ? `${bytes} bytes` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** The buffers of a device: handed out, taken back, and kept for the next request of the same size class. */
export class Pool {
  readonly #device: GPUDevice;
  #limit: number;
  /** Most bytes that the adapter binds at once. */
  readonly #largest: number;
  readonly #free = new FreeList();
  /** Set while a body is captured: whose buffers are handed out. */
  reserve: Reserve | undefined;
  readonly #owner: PoolOwner;
  /** Counts as they are now; the object changes with them. */
  readonly statistics: PoolStatistics = { live: 0, allocated: 0, peak: 0, buffers: 0, created: 0 };
  #nextId = 1;
  #mostLive = 0;
  #unchecked = 0;
  /** Bytes of main memory that destroyed buffers may still hold, and how many of them the next settle() finds back. */
  #leaving = 0;
  #returned = 0;
  /** Whether anything was made or destroyed since settle(). */
  #changed = false;

  /** `limit`: most bytes this pool may hold; Infinity leaves it to the driver, or to what main memory has left. */
  constructor(device: GPUDevice, limit: number, owner: PoolOwner) {
    this.#device = device;
    this.#limit = limit;
    this.#owner = owner;
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
    this.#largest = Math.floor(Math.min(maxBufferSize, maxStorageBufferBindingSize) / 4) * 4;
    if (owner.memoryLeft) this.#measure(owner.memoryLeft());
  }

  /**
   * To be called when all submitted work is done: by then, and not before, buffers that it wrote have taken their memory,
   * and those destroyed before the last call have returned it. Free buffers that would leave no room for a step of other
   * sizes go here: to destroy them in the middle of that step would gain nothing.
   */
  settle(): void {
    const { memoryLeft } = this.#owner;
    if (!memoryLeft || !this.#changed) return;
    this.#leaving -= this.#returned;
    this.#measure(memoryLeft());
    this.#shrink(this.#limit - (this.#mostLive - this.statistics.live));
    this.#returned = this.#leaving;
    this.#changed = this.#leaving > 0;
  }

  #measure(left: number): void {
    this.#limit = this.#held + Math.max(0, left - RESERVE);
  }

  /** Bytes that count against the limit. */
  get #held(): number {
    return this.statistics.allocated + this.#leaving;
  }

  /**
   * A buffer of at least `bytes`, with whatever it held before. Throws a RangeError where it is larger than the adapter
   * binds, or than the limit leaves.
   */
  acquire(bytes: number): PoolBuffer {
    const size = this.classOf(bytes);
    const reserved = this.reserve?.free.take(size);
    return reserved ?? this.#hand(this.#free.take(size) ?? this.#create(size));
  }

  /** As acquire(), for values that the CPU writes. While a body is captured, nothing else is ever written to the buffer. */
  acquireWritten(bytes: number): PoolBuffer {
    if (!this.reserve) return this.acquire(bytes);
    const size = this.classOf(bytes);
    const buffer = this.#hand(this.#free.take(size) ?? this.#create(size));
    this.reserve.constants.add(buffer);
    return buffer;
  }

  #hand(buffer: PoolBuffer): PoolBuffer {
    this.statistics.live += buffer.bytes;
    this.#mostLive = Math.max(this.#mostLive, this.statistics.live);
    if (this.reserve) {
      buffer.reserve = this.reserve;
      this.reserve.buffers.add(buffer);
    }
    return buffer;
  }

  /** Bytes of the buffer that a request gets: its class, the last of which ends at what the adapter binds. */
  classOf(bytes: number): number {
    const size = sizeClass(bytes);
    return size > this.#largest && bytes <= this.#largest ? this.#largest : size;
  }

  /** Takes a buffer back. Work that was recorded with it is not disturbed. */
  release(buffer: PoolBuffer): void {
    buffer.released++;
    const { reserve } = buffer;
    if (reserve) {
      if (reserve.constants.has(buffer)) reserve.parked.push(buffer);
      else reserve.free.put(buffer);
      return;
    }
    this.statistics.live -= buffer.bytes;
    this.#free.put(buffer);
  }

  /** Takes back the buffers of a capture that is no more; those that are still held, when they are released. */
  disband(reserve: Reserve): void {
    const free = new Set([...reserve.free.all(), ...reserve.parked]);
    for (const buffer of reserve.buffers) {
      buffer.reserve = undefined;
      if (!free.has(buffer)) continue;
      this.statistics.live -= buffer.bytes;
      this.#free.put(buffer);
    }
  }

  /** Destroys every free buffer: returns their memory to the driver. */
  trim(): void {
    this.#shrink(0);
  }

  /** Destroys free buffers, the longest unused first, until no more than `bytes` are held. */
  #shrink(bytes: number): void {
    const oldest = this.#free.all().sort((a, b) => a.lastUse - b.lastUse || a.id - b.id);
    const doomed = new Set<number>();
    for (const buffer of oldest) {
      if (this.statistics.allocated <= bytes) break;
      doomed.add(buffer.id);
      this.statistics.allocated -= buffer.bytes;
      if (this.#owner.memoryLeft) this.#leaving += buffer.bytes;
    }
    if (doomed.size === 0) return;
    this.statistics.buffers -= doomed.size;
    this.#changed = true;
    this.#owner.beforeDestroy();
    this.#owner.onDestroy(doomed);
    for (const { gpu } of this.#free.remove(doomed)) gpu.destroy();
  }

  #create(size: number): PoolBuffer {
    if (size > this.#largest) {
      throw new RangeError(
        `Cannot allocate ${formatMiB(size)} on the GPU: the adapter binds at most ${formatMiB(this.#largest)} at once`,
      );
    }
    // Batches of many lengths would leave each class at its own high-water mark. A quarter is freed at once, so that not
    // every new buffer has to free others.
    const live = Math.max(this.#mostLive, this.statistics.live + size);
    const most = Math.min(this.#limit, SPARE * live + SLACK);
    if (this.statistics.allocated + size > most) this.#shrink(0.75 * most - size);
    if (this.#held + size > this.#limit) {
      throw new RangeError(
        `Cannot allocate ${formatMiB(size)} on the GPU: ${formatMiB(this.#held)} are in use and the limit is ${formatMiB(this.#limit)}`,
      );
    }
    this.#checkMemory(size);
    const id = this.#nextId++;
    const gpu = this.#device.createBuffer({
      label: `pool ${id} (${size} bytes)`,
      size,
      usage: STORAGE,
    });
    this.#changed = true;
    this.statistics.created++;
    this.statistics.buffers++;
    this.statistics.allocated += size;
    this.statistics.peak = Math.max(this.statistics.peak, this.statistics.allocated);
    return { id, gpu, bytes: size, lastUse: -1, released: 0, reserve: undefined };
  }

  /** The limit was measured some time ago; arrays, code and other processes have taken of it since. */
  #checkMemory(size: number): void {
    this.#unchecked += size;
    if (!this.#owner.memoryLeft || this.#unchecked < GLANCE) return;
    const needed = 2 * size + RESERVE; // a buffer is filled from a copy
    const left = this.#owner.memoryLeft();
    if (left < needed)
      throw new RangeError(
        `Cannot allocate ${formatMiB(size)} on the GPU: ${formatMiB(this.statistics.allocated)} are in use and ${formatMiB(left)} of main memory are left, at least ${formatMiB(needed)} are needed`,
      );
    this.#unchecked = 0;
  }
}

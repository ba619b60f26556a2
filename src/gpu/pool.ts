/**
 * GPU buffers by size class. A freed buffer is reused at once: dispatches are ordered on the queue, so a later kernel
 * cannot overtake an earlier one. Only CPU writes can; `Recorder.upload` looks after those.
 *
 * The lowest-numbered free buffer goes first, so that a repeated step is handed the same buffers and finds its bind
 * groups in the cache.
 */

/** A pooled buffer. `id` is its identity in bind-group keys. */
export interface PoolBuffer {
  readonly id: number;
  readonly gpu: GPUBuffer;
  /** Capacity in bytes: the size class, not the request. */
  readonly bytes: number;
  /** Serial of the last unsubmitted recording that names it; see Recorder. */
  lastUse: number;
}

export interface PoolStatistics {
  /** Bytes handed out now. */
  live: number;
  /** Bytes held from the GPU now, free buffers included. */
  allocated: number;
  /** Highest `allocated` so far. */
  peak: number;
  /** Buffers created since the device was opened. */
  created: number;
}

// GPUBufferUsage and GPUMapMode as numbers: npm webgpu sets no globals unless asked.
export const usage = {
  MAP_READ: 1,
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

/** Who must know that buffers go. */
interface PoolOwner {
  /** Submits what was recorded: it may name free buffers, and a destroyed one would be refused. */
  beforeDestroy(): void;
  /** Forgets the bind groups that name it. */
  onDestroy(buffer: PoolBuffer): void;
}

export const formatMiB = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export class Pool {
  readonly #device: GPUDevice;
  readonly #limit: number;
  readonly #free = new Map<number, PoolBuffer[]>();
  readonly #owner: PoolOwner;
  readonly statistics: PoolStatistics = { live: 0, allocated: 0, peak: 0, created: 0 };
  #nextId = 1;

  /** `limit`: most bytes this pool may hold; Infinity leaves it to the driver. */
  constructor(device: GPUDevice, limit: number, owner: PoolOwner) {
    this.#device = device;
    this.#limit = limit;
    this.#owner = owner;
  }

  acquire(bytes: number): PoolBuffer {
    const size = sizeClass(bytes);
    const free = this.#free.get(size);
    const buffer = free?.shift() ?? this.#create(size, false);
    this.statistics.live += buffer.bytes;
    return buffer;
  }

  /** A buffer of exactly the class of `bytes`, mapped for writing. The caller unmaps it. */
  acquireMapped(bytes: number): PoolBuffer {
    const buffer = this.#create(sizeClass(bytes), true);
    this.statistics.live += buffer.bytes;
    return buffer;
  }

  release(buffer: PoolBuffer): void {
    this.statistics.live -= buffer.bytes;
    const free = this.#free.get(buffer.bytes);
    if (!free) {
      this.#free.set(buffer.bytes, [buffer]);
      return;
    }
    // Kept sorted by id; free lists are short.
    let at = free.length;
    while (at > 0 && free[at - 1].id > buffer.id) at--;
    free.splice(at, 0, buffer);
  }

  /** Destroys every free buffer. */
  trim(): void {
    this.#owner.beforeDestroy();
    for (const free of this.#free.values()) for (const buffer of free) this.#destroy(buffer);
    this.#free.clear();
  }

  #create(size: number, mapped: boolean): PoolBuffer {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.#device.limits;
    const largest = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    if (size > largest) {
      throw new RangeError(
        `Cannot allocate ${formatMiB(size)} on the GPU: the adapter binds at most ${formatMiB(largest)} at once`,
      );
    }
    if (this.statistics.allocated + size > this.#limit) this.trim();
    if (this.statistics.allocated + size > this.#limit) {
      throw new RangeError(
        `Cannot allocate ${formatMiB(size)} on the GPU: ${formatMiB(this.statistics.allocated)} are in use and the limit is ${formatMiB(this.#limit)}`,
      );
    }
    const id = this.#nextId++;
    const gpu = this.#device.createBuffer({
      label: `pool ${id} (${size} bytes)`,
      size,
      usage: STORAGE,
      mappedAtCreation: mapped,
    });
    this.statistics.created++;
    this.statistics.allocated += size;
    this.statistics.peak = Math.max(this.statistics.peak, this.statistics.allocated);
    return { id, gpu, bytes: size, lastUse: -1 };
  }

  #destroy(buffer: PoolBuffer): void {
    this.#owner.onDestroy(buffer);
    buffer.gpu.destroy();
    this.statistics.allocated -= buffer.bytes;
  }
}

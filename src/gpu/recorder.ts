/**
 * Collects dispatches into one encoder and one compute pass, and decides when to submit: at a read, at an upload that
 * would overtake recorded work, or when the arena of `Dims` slots is full.
 *
 * Every dispatch owns one 256-byte slot of the arena (a dynamic uniform offset). The arena is written once per submit;
 * the queue orders that write between the submits, so the slots can be used again at once.
 */
import type { Observer } from "./cost.ts";
import type { PoolBuffer } from "./pool.ts";
import { usage } from "./pool.ts";
import type { Profiler } from "./profiler.ts";

const SLOT = 256;
const SLOTS = 128;

/** One dispatch with all that it needs. */
export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly buffers: readonly PoolBuffer[];
  readonly grid: readonly [number, number, number];
  readonly label: string;
}

/** The commands of a device that were recorded and not yet submitted. */
export class Recorder {
  readonly #device: GPUDevice;
  readonly #bytes = new Uint8Array(SLOT * SLOTS);
  /** The buffer of all slots. */
  readonly arena: GPUBuffer;
  #used = 0;
  #serial = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  /** Set between startProfile() and endProfile(). */
  profiler: Profiler | undefined;
  /** Sees each dispatch first: the profiler, or a plan. */
  observer: Observer | undefined;
  /** Dispatches since the device was opened. */
  dispatches = 0;
  /** Submits since the device was opened. */
  submits = 0;

  /** For Device. */
  constructor(device: GPUDevice) {
    this.#device = device;
    this.arena = device.createBuffer({
      label: "dims arena",
      size: SLOT * SLOTS,
      usage: usage.UNIFORM | usage.COPY_DST,
    });
  }

  /** Reserves a slot; the caller fills the returned view before the next call. */
  slot(): { offset: number; view: DataView } {
    if (this.#used === SLOTS || this.profiler?.full) this.flush();
    const offset = this.#used++ * SLOT;
    return { offset, view: new DataView(this.#bytes.buffer, offset, SLOT) };
  }

  /** Records a dispatch. `offsets` is that of the slot, or empty where the entry point reads no Dims. */
  dispatch(d: Dispatch, offsets: readonly number[]): void {
    this.dispatches++;
    for (const b of d.buffers) b.lastUse = this.#serial;
    const { profiler } = this;
    const pass = profiler ? this.#timedPass(profiler, d) : this.#openPass();
    if (this.#pipeline !== d.pipeline) {
      pass.setPipeline(d.pipeline);
      this.#pipeline = d.pipeline;
    }
    pass.setBindGroup(0, d.group, offsets);
    pass.dispatchWorkgroups(...d.grid);
    if (profiler) this.#closePass();
  }

  /** Records a copy from buffer to buffer. */
  copy(from: PoolBuffer, fromByte: number, to: PoolBuffer, toByte: number, bytes: number): void {
    this.#closePass();
    from.lastUse = to.lastUse = this.#serial;
    this.#open().copyBufferToBuffer(from.gpu, fromByte, to.gpu, toByte, bytes);
  }

  /** Copies into a buffer that the pool does not own (a staging buffer). */
  copyOut(from: PoolBuffer, fromByte: number, to: GPUBuffer, bytes: number): void {
    this.#closePass();
    this.#open().copyBufferToBuffer(from.gpu, fromByte, to, 0, bytes);
  }

  /** Writes from the CPU. Recorded work that names the buffer is submitted first, else it would see the new bytes. */
  upload(to: PoolBuffer, bytes: Uint8Array, toByte = 0): void {
    if (to.lastUse === this.#serial) this.flush();
    // Never over shared memory: Tensor.write() copies that first.
    this.#device.queue.writeBuffer(to.gpu, toByte, bytes as Uint8Array<ArrayBuffer>);
  }

  /** Submits what was recorded. Does not wait for it. */
  flush(): void {
    this.#closePass();
    const encoder = this.#encoder;
    if (!encoder) {
      this.#used = 0;
      return;
    }
    const { profiler } = this;
    const begin = profiler ? performance.now() : 0;
    profiler?.resolve(encoder);
    if (this.#used > 0) this.#device.queue.writeBuffer(this.arena, 0, this.#bytes, 0, this.#used * SLOT);
    this.#device.queue.submit([encoder.finish()]);
    this.submits++;
    this.#encoder = undefined;
    this.#used = 0;
    this.#serial++;
    profiler?.did("submit", begin);
  }

  #open(): GPUCommandEncoder {
    this.#encoder ??= this.#device.createCommandEncoder();
    return this.#encoder;
  }

  #openPass(): GPUComputePassEncoder {
    if (!this.#pass) {
      this.#pass = this.#open().beginComputePass();
      this.#pipeline = undefined;
    }
    return this.#pass;
  }

  #timedPass(profiler: Profiler, { label, grid }: Dispatch): GPUComputePassEncoder {
    this.#closePass();
    this.#pass = this.#open().beginComputePass({ timestampWrites: profiler.begin(label, grid) });
    this.#pipeline = undefined;
    return this.#pass;
  }

  #closePass(): void {
    this.#pass?.end();
    this.#pass = undefined;
  }
}

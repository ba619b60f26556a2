/**
 * Collects dispatches into one encoder and one compute pass, and decides when to submit: at a read, at an upload that
 * would overtake recorded work, or when the arena of `Dims` slots is full.
 *
 * Every dispatch owns one 256-byte slot of the arena (a dynamic uniform offset). The arena is written once per submit;
 * the queue orders that write between the submits, so the slots can be used again at once.
 */
import type { BoundGroup } from "./bind_groups.ts";
import type { Capture, Command } from "./capture.ts";
import type { Observer } from "./cost.ts";
import type { PoolBuffer } from "./pool.ts";
import { usage } from "./pool.ts";
import type { Profiler } from "./profiler.ts";

const SLOT = 256;
const SLOTS = 128;
/** Words of a slot: the 64 fields that Dims may have. */
export const SLOT_WORDS: number = SLOT / 4;
const NO_OFFSETS: readonly number[] = [];

/** The commands of a device that were recorded and not yet submitted. */
export class Recorder {
  readonly #device: GPUDevice;
  readonly #bytes = new Uint8Array(SLOT * SLOTS);
  /** The arena's words, as u32; WebGPU's machines are little-endian. */
  readonly u32 = new Uint32Array(this.#bytes.buffer);
  /** As i32. */
  readonly i32 = new Int32Array(this.#bytes.buffer);
  /** As f32. */
  readonly f32 = new Float32Array(this.#bytes.buffer);
  /** The buffer of all slots. */
  readonly arena: GPUBuffer;
  /** Most workgroups in one dimension of a grid: asking WebGPU each time would cost as much as a dispatch. */
  readonly mostWorkgroups: number;
  readonly #offsets = [0];
  #used = 0;
  #serial = 0;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  /** Set between startProfile() and endProfile(). */
  profiler: Profiler | undefined;
  /** Set while a body is captured. */
  capturing: Capture | undefined;
  /** Sees each dispatch first: the profiler, or a plan. */
  observer: Observer | undefined;
  /** Dispatches since the device was opened. */
  dispatches = 0;
  /** Submits since the device was opened. */
  submits = 0;

  /** For Device. */
  constructor(device: GPUDevice) {
    this.#device = device;
    this.mostWorkgroups = device.limits.maxComputeWorkgroupsPerDimension;
    this.arena = device.createBuffer({
      label: "dims arena",
      size: SLOT * SLOTS,
      usage: usage.UNIFORM | usage.COPY_DST,
    });
  }

  /** The first word of the slot that the next dispatch gets; the caller fills it before. */
  room(): number {
    if (this.#used === SLOTS || this.profiler?.full) this.flush();
    return this.#used * SLOT_WORDS;
  }

  /** Records a dispatch; `takesDims`: its entry point reads the slot. `label` is for the profiler. */
  dispatch(
    pipeline: GPUComputePipeline,
    { group, buffers }: BoundGroup,
    takesDims: boolean,
    x: number,
    y: number,
    z: number,
    label: string,
  ): void {
    this.dispatches++;
    if (this.capturing) {
      const dispatch = { pipeline, bound: { group, buffers }, takesDims, x, y, z, label };
      const from = this.#used * SLOT_WORDS;
      this.capturing.dispatched(dispatch, this.u32.subarray(from, from + SLOT_WORDS));
    }
    for (let i = 0; i < buffers.length; i++) buffers[i].lastUse = this.#serial;
    const { profiler } = this;
    if (profiler) this.#timedPass(profiler, label, [x, y, z]);
    this.#encode(pipeline, group, takesDims, x, y, z);
    if (profiler) this.#closePass();
  }

  #encode(
    pipeline: GPUComputePipeline,
    group: GPUBindGroup,
    takesDims: boolean,
    x: number,
    y: number,
    z: number,
  ): void {
    const pass = this.#openPass();
    if (this.#pipeline !== pipeline) {
      pass.setPipeline(pipeline);
      this.#pipeline = pipeline;
    }
    this.#offsets[0] = this.#used++ * SLOT;
    pass.setBindGroup(0, group, takesDims ? this.#offsets : NO_OFFSETS);
    pass.dispatchWorkgroups(x, y, z);
  }

  /** Records what was captured. `words` are the slots of its dispatches, side by side; `buffers` all that it names. */
  replay(commands: readonly Command[], words: Uint32Array, buffers: readonly PoolBuffer[]): void {
    let from = 0;
    let filled = 0;
    for (let i = 0; i < commands.length; i++) {
      const command = commands[i];
      if (command.copy) {
        this.copy(...command.copy);
        continue;
      }
      const at = this.room();
      if (from === filled) {
        // As many slots at once as there is room for.
        filled = Math.min(words.length, from + this.u32.length - at);
        this.u32.set(words.subarray(from, filled), at);
      }
      from += SLOT_WORDS;
      const { pipeline, bound, takesDims, x, y, z, label } = command.dispatch;
      if (this.profiler) this.dispatch(pipeline, bound, takesDims, x, y, z, label);
      else {
        this.dispatches++;
        this.#encode(pipeline, bound.group, takesDims, x, y, z);
      }
    }
    for (let i = 0; i < buffers.length; i++) buffers[i].lastUse = this.#serial;
  }

  /** Records a copy from buffer to buffer. */
  copy(from: PoolBuffer, fromByte: number, to: PoolBuffer, toByte: number, bytes: number): void {
    this.#closePass();
    this.capturing?.copied([from, fromByte, to, toByte, bytes]);
    from.lastUse = to.lastUse = this.#serial;
    this.#open().copyBufferToBuffer(from.gpu, fromByte, to.gpu, toByte, bytes);
  }

  /** Copies into a buffer that the pool does not own (a staging buffer). */
  copyOut(from: PoolBuffer, fromByte: number, to: GPUBuffer, bytes: number, toByte = 0): void {
    this.#closePass();
    this.#open().copyBufferToBuffer(from.gpu, fromByte, to, toByte, bytes);
  }

  /** Copies from a buffer that the pool does not own. */
  copyIn(from: GPUBuffer, to: PoolBuffer, toByte: number, bytes: number): void {
    this.#closePass();
    to.lastUse = this.#serial;
    this.#open().copyBufferToBuffer(from, 0, to.gpu, toByte, bytes);
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

  #timedPass(profiler: Profiler, label: string, grid: readonly [number, number, number]): void {
    this.#closePass();
    this.#pass = this.#open().beginComputePass({ timestampWrites: profiler.begin(label, grid) });
    this.#pipeline = undefined;
  }

  #closePass(): void {
    this.#pass?.end();
    this.#pass = undefined;
  }
}

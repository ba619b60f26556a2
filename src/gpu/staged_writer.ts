/** Writes of many pieces that are read from elsewhere, while the GPU takes those before. */
import type { Device } from "./device.ts";
import { twin } from "./kernel.ts";
import { type PoolBuffer, usage } from "./pool.ts";

/** Bytes of a staging buffer: new memory costs more to touch than to fill, so a few buffers that stay in a cache serve all. */
const BYTES = 2 ** 22;
/** Staging buffers at most: one is filled while the others are with the GPU. */
const MOST = 3;

/** Bytes of a page of main memory, on most machines. */
const PAGE = 4096;
/** Threads of a workgroup that touches pages. */
const WG = 8;

/**
 * Writes one number of each page. Where main memory is the GPU's, new pages cost more than all that is written to them, and a
 * copy meets them on one thread of the driver, a dispatch on all.
 */
const pages = twin(
  "wavegate/pages",
  `@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(${WG})
fn touch(@builtin(global_invocation_id) id: vec3u) { x[id.x * ${PAGE / 4}u] = 0u; }`,
);

/** Keeps the buffers by which it writes. Not for use while a body is captured: a replay would not write again. */
export class StagedWriter {
  readonly #device: Device;
  readonly #all: GPUBuffer[] = [];
  /** Mapped, and free. */
  readonly #spare: GPUBuffer[] = [];
  /** Waits for those that the GPU has yet to take. */
  readonly #taken = new Set<Promise<void>>();

  constructor(device: Device) {
    this.#device = device;
  }

  /**
   * Writes `bytes` bytes, a multiple of 4, from the begin of `to` on. `fill` is called for one piece after the other and writes
   * `target`, which stands at `from`; what it leaves is as it happens to be. Rejects as `fill` does, or where the device is lost.
   */
  async write(
    to: PoolBuffer,
    bytes: number,
    fill: (target: Uint8Array, from: number) => Promise<void>,
  ): Promise<void> {
    const { recorder } = this.#device;
    if (bytes >= BYTES) this.#touch(to, bytes);
    for (let from = 0; from < bytes; from += BYTES) {
      const length = Math.min(BYTES, bytes - from);
      const staging = await this.#take();
      this.#device.check();
      try {
        await fill(new Uint8Array(staging.getMappedRange(0, length)), from).finally(() => staging.unmap());
        recorder.copyIn(staging, to, from, length);
        recorder.flush();
      } finally {
        this.#handBack(staging);
      }
    }
  }

  /** In Node alone: wgpu, and Dawn in browsers, would fill the buffer with zeros first, on one thread. */
  #touch(buffer: PoolBuffer, bytes: number): void {
    const { info, host, gpu } = this.#device;
    if (!info.cpu || host.name !== "node") return;
    // The last few pages may be left: they cost little.
    const groups = Math.min(Math.floor(bytes / PAGE / WG), gpu.limits.maxComputeWorkgroupsPerDimension);
    pages.run("touch", { x: { device: this.#device, buffer } }, {}, [groups]);
  }

  async #take(): Promise<GPUBuffer> {
    if (this.#spare.length === 0 && this.#taken.size === MOST) await Promise.race(this.#taken);
    return this.#spare.pop() ?? this.#create();
  }

  #create(): GPUBuffer {
    const staging = this.#device.gpu.createBuffer({
      label: "staging of pieces",
      size: BYTES,
      usage: usage.MAP_WRITE | usage.COPY_SRC,
      mappedAtCreation: true,
    });
    this.#all.push(staging);
    return staging;
  }

  #handBack(staging: GPUBuffer): void {
    const taken = this.#device.host
      .quiet(() => staging.mapAsync(2))
      .then(() => {
        this.#spare.push(staging);
      })
      // Destroyed, or the device is lost: check() says so.
      .catch(() => {})
      .finally(() => this.#taken.delete(taken));
    this.#taken.add(taken);
  }

  /** Destroys the buffers; what was written is. */
  dispose(): void {
    for (const buffer of this.#all) buffer.destroy();
  }
}

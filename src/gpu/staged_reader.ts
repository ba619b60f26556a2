/** Reads of many pieces at once, while the GPU goes on with what is recorded after them. */
import type { Device } from "./device.ts";
import { type PoolBuffer, usage } from "./pool.ts";

/** Bytes of a buffer, and where they are to stand in the result. Multiples of 4. */
export interface ReadPiece {
  readonly buffer: PoolBuffer;
  readonly fromByte: number;
  readonly toByte: number;
  readonly bytes: number;
}

/** Keeps the buffers by which it reads. Unlike Device.read() its reads wait for no work but what they depend on. */
export class StagedReader {
  readonly #device: Device;
  readonly #size: number;
  readonly #spare: GPUBuffer[] = [];

  /** `size`: most bytes of a read. */
  constructor(device: Device, size: number) {
    this.#device = device;
    this.#size = size;
  }

  /** Copies the pieces, behind the work that was recorded so far, and submits. What no piece fills is as it happens to be. */
  async read(pieces: readonly ReadPiece[], bytes: number): Promise<ArrayBuffer> {
    const { gpu, recorder, host } = this.#device;
    const label = "staging of pieces";
    const staging =
      this.#spare.pop() ??
      gpu.createBuffer({ label, size: this.#size, usage: usage.MAP_READ | usage.COPY_DST });
    for (const piece of pieces)
      recorder.copyOut(piece.buffer, piece.fromByte, staging, piece.bytes, piece.toByte);
    recorder.flush();
    await host.quiet(() => staging.mapAsync(1, 0, bytes));
    const copy = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    this.#spare.push(staging);
    this.#device.check();
    return copy;
  }

  /** Destroys the buffers that no read is using. */
  dispose(): void {
    for (const buffer of this.#spare.splice(0)) buffer.destroy();
  }
}

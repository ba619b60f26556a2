/** Throughput of an adapter: a matrix product and a copy. */
import type { Device } from "../gpu/device.ts";
import { draw } from "../nn/init.ts";
import { linear } from "../ops/matmul.ts";
import { scope } from "../tensor/scope.ts";
import { Tensor } from "../tensor/tensor.ts";

export interface Speed {
  readonly gflops: number;
  /** Bytes read and written. */
  readonly gigabytesPerSecond: number;
}

const N = 1024;
const COPIED = 32 * 2 ** 20;

/** The best of a few short runs, about a second on a CPU adapter; each has enough work to hide the latency of submitting. */
export async function measureSpeed(device: Device): Promise<Speed> {
  const repeats = device.info.cpu ? 1 : 32;
  const x = Tensor.from(device, draw({ kind: "normal", std: 1 }, N * N, 1, "x"), [N, N]);
  const product = await best(device, () => {
    for (let i = 0; i < repeats; i++) scope(device, () => void linear(x, x));
  });
  x.release();
  const [from, to] = [device.pool.acquire(COPIED), device.pool.acquire(COPIED)];
  const copy = await best(device, () => {
    for (let i = 0; i < repeats; i++) device.recorder.copy(from, 0, to, 0, COPIED);
  });
  device.pool.release(from);
  device.pool.release(to);
  return {
    gflops: (2 * N ** 3 * repeats) / product / 1e9,
    gigabytesPerSecond: (2 * COPIED * repeats) / copy / 1e9,
  };
}

/** Seconds of the fastest of three runs; the one before them compiles. */
async function best(device: Device, work: () => void): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 4; run++) {
    await device.idle();
    const start = performance.now();
    work();
    await device.idle();
    if (run > 0) least = Math.min(least, (performance.now() - start) / 1000);
  }
  return least;
}

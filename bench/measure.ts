/**
 * What the benches of operators share: check first, then time. An iteration records twenty dispatches and waits
 * once, so that the cost of submitting and waiting is spread; times are of mitata's samples.
 */
import process from "node:process";
import { measure } from "mitata";
import { type Device, openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { distance } from "../src/validate/compare.ts";

const REPEATS = 20;

export interface Case {
  /** Shape, dtype and variant. */
  readonly name: string;
  /** Records the operator once. */
  readonly run: () => Tensor | undefined;
  /** What `run` gives and should give, from a float64 loop; a sample of it is enough. */
  readonly check?: () => Promise<{ got: ArrayLike<number>; want: ArrayLike<number> }>;
  readonly gflop?: number;
  /** Bytes that must move at least. */
  readonly bytes?: number;
}

export const openBenchDevice = async (): Promise<Device> =>
  openDevice(await currentHost(), { adapter: process.env.WAVEGATE_ADAPTER });

/** Times one case and prints its line; returns milliseconds a dispatch. */
export async function time(device: Device, c: Case): Promise<number> {
  if (c.check) {
    const { got, want } = await c.check();
    const { relL2 } = distance(got, want);
    if (!(relL2 < 1e-5))
      throw new Error(`Cannot time ${c.name}: it is ${relL2.toExponential(2)} from its reference`);
  }
  const stats = await measure(
    async () => {
      scope(device, () => {
        for (let i = 0; i < REPEATS; i++) c.run();
      });
      await device.idle();
    },
    { min_samples: 5, max_samples: 12, min_cpu_time: 1e8, warmup_samples: 1 },
  );
  const ms = (stats.p50 ?? stats.avg) / 1e6 / REPEATS;
  const rate = c.gflop
    ? `${((c.gflop / ms) * 1e3).toFixed(1)} GFLOP/s`
    : c.bytes
      ? `${(c.bytes / ms / 1e6).toFixed(2)} GB/s`
      : "";
  console.log(`  ${c.name.padEnd(58)} ${ms.toFixed(3).padStart(9)} ms  ${rate}`);
  return ms;
}

/**
 * What the benches share: check first, then time. A sample records a case up to twenty times and waits once, so that the cost of
 * submitting and waiting is spread. The wall's clock is mitata's; beside it stands the time of the dispatches by the GPU's clock.
 */
import { basename } from "node:path";
import process from "node:process";
import { measure } from "mitata";
import { identify } from "../src/gpu/adapter.ts";
import type { Device } from "../src/gpu/device.ts";
import { quantile } from "../src/profile/statistics.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { distance } from "../src/validate/compare.ts";
import { handOver } from "../tools/bench/results.ts";

/** Most runs of a case in a sample, and the milliseconds after which there are no more. */
const REPEATS = 20;
const LONG = 100;
/** Samples by the GPU's clock. */
const GPU_SAMPLES = 8;

/** What a case gives, and should give. */
export interface Answer {
  readonly got: ArrayLike<number>;
  readonly want: ArrayLike<number>;
}

export interface Case {
  /** Shape, dtype and variant. */
  readonly name: string;
  /** Records the operator once. */
  readonly run: () => Tensor | undefined;
  /** What `run` gives and should give, from a float64 loop; a sample of it is enough. */
  readonly check: () => Promise<Answer>;
  /** Largest relative L2 distance; 1e-5 by default. */
  readonly tolerance?: number;
  readonly gflop?: number;
  /** Bytes that must move at least. */
  readonly bytes?: number;
}

/** Throws where an answer is farther from what it should be than `tolerance`; returns the distance. */
export function checked(name: string, { got, want }: Answer, tolerance = 1e-5): number {
  const { relL2 } = distance(got, want);
  if (!(relL2 <= tolerance))
    throw new Error(`Cannot time ${name}: it is ${relL2.toExponential(2)} from its reference`);
  return relL2;
}

/** What was measured of a case, in milliseconds. */
export interface Timed {
  readonly name: string;
  readonly wall: readonly number[];
  readonly gpu?: readonly number[];
  readonly relL2?: number;
  readonly gflop?: number;
  readonly bytes?: number;
}

/** Hands a case over to `npm run bench`, under the name of the file that runs. */
export function note(device: Device, { wall, gpu, gflop, name, relL2, bytes }: Timed): void {
  handOver({
    bench: basename(process.argv[1]).replace(/(\.bench)?\.ts$/, ""),
    ...identify(device),
    ...{ name, relL2, bytes, flops: gflop && gflop * 1e9 },
    wall: [...wall],
    ...(gpu && { gpu: [...gpu] }),
  });
}

/** Milliseconds of the dispatches of `record`, by the GPU's clock, `samples` times; undefined where it has none, or nothing to do. */
export async function gpuTimes(
  device: Device,
  record: () => void,
  samples = GPU_SAMPLES,
): Promise<number[] | undefined> {
  if (!device.info.timestamps) return undefined;
  const times: number[] = [];
  for (let i = 0; i < samples; i++) {
    device.startProfile();
    record();
    const rows = await device.endProfile();
    if (rows.length === 0) return undefined;
    times.push(rows.reduce((sum, row) => sum + row.milliseconds, 0));
  }
  return times;
}

/** Times one case and prints its line; returns milliseconds of the wall a run. */
export async function time(device: Device, c: Case): Promise<number> {
  const relL2 = checked(c.name, await c.check(), c.tolerance);
  const record = (repeats: number) => () =>
    scope(device, () => {
      for (let i = 0; i < repeats; i++) c.run();
    });
  const begin = performance.now();
  record(1)();
  await device.idle();
  const repeats = Math.max(1, Math.min(REPEATS, Math.floor(LONG / (performance.now() - begin))));
  const sample = async () => {
    record(repeats)();
    await device.idle();
  };
  const stats = await measure(sample, {
    min_samples: 5,
    max_samples: 12,
    min_cpu_time: 1e8,
    warmup_samples: 1,
  });
  const wall = stats.samples.map((ns) => ns / 1e6 / repeats);
  const gpu = (await gpuTimes(device, record(repeats)))?.map((ms) => ms / repeats);
  const [ms, gpuMs] = [quantile(wall, 0.5), gpu && quantile(gpu, 0.5)];
  note(device, { ...c, relL2, wall, gpu });
  const of = gpuMs ?? ms;
  const rate = c.gflop
    ? `${((c.gflop / of) * 1e3).toFixed(1)} GFLOP/s`
    : c.bytes
      ? `${(c.bytes / of / 1e6).toFixed(2)} GB/s`
      : "";
  const shown = gpuMs === undefined ? "".padStart(16) : `GPU ${gpuMs.toFixed(3).padStart(9)} ms`;
  console.log(`  ${c.name.padEnd(58)} wall ${ms.toFixed(3).padStart(9)} ms  ${shown}  ${rate}`);
  return ms;
}

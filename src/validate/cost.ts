/** What a case costs: time, GPU bytes, and the host's memory while the weights are loaded. */
import type { Device } from "../gpu/device.ts";
import type { Host } from "../host/host.ts";

export interface Cost {
  /** Of the first run, kernels compiled on the way. */
  readonly seconds: number;
  /** The run also went backward. */
  readonly backward: boolean;
  /** Most bytes of GPU buffers that the pool held. */
  readonly gpuPeak: number;
  /** JavaScript heap and array buffers together, their most while loading. */
  readonly hostPeak: number;
  /** The whole process, its most while loading; on a CPU adapter the GPU's buffers are in it. */
  readonly rss: number;
}

const SAMPLE_MS = 5;

/** Runs `load`, which may sample by itself too, and returns the most bytes of memory that the host held meanwhile. */
export async function watchMemory(
  host: Pick<Host, "memoryUsage">,
  load: (sample: () => void) => Promise<void>,
): Promise<Pick<Cost, "hostPeak" | "rss">> {
  let [hostPeak, rss] = [0, 0];
  const sample = () => {
    const now = host.memoryUsage();
    hostPeak = Math.max(hostPeak, now.heap);
    rss = Math.max(rss, now.process);
  };
  sample();
  const timer = setInterval(sample, SAMPLE_MS);
  try {
    await load(sample);
  } finally {
    clearInterval(timer);
  }
  sample();
  return { hostPeak, rss };
}

/** Lets the pool count its peak anew. */
export function resetPeak(device: Device): void {
  device.pool.trim();
  device.pool.statistics.peak = device.pool.statistics.allocated;
}

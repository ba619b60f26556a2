/**
 * Measures what an adapter reaches at most. Each ceiling is asked for in several ways, its trials, as one adapter likes this way
 * and another that: the fastest counts. All run in turns, so that what disturbs a second disturbs all alike.
 */
import { identify } from "../gpu/adapter.ts";
import type { Device } from "../gpu/device.ts";
import { gridFor } from "../gpu/launch.ts";
import { type PoolBuffer, usage } from "../gpu/pool.ts";
import { copy, EMPTY, fmas, matrices, workgroupLoads } from "./peak_kernels.ts";
import type { Peaks, Rate } from "./peaks.ts";

/** One way to reach a ceiling. */
interface Trial {
  readonly peak: Rate;
  /** FLOP, bytes or dispatches of one unit. */
  readonly work: number;
  /** Does so many units, and says how many seconds they took. */
  seconds(units: number): Promise<number>;
  /** Seconds that one time should take, for the clock that it is told by. */
  readonly goal: number;
  /** Most units of one time. */
  readonly most?: number;
}

/** Times of each trial, the median of which counts; on a slow or busy machine no more than fit into some milliseconds. */
const TIMES = 9;
const FEWEST = 3;
const BUDGET = 10_000;
const MIB = 2 ** 20;
/** Bytes of an upload and of a readback. */
const MOVED = 32 * MIB;

/** Measures the ceilings of this adapter, a few seconds long. Throws a RangeError where a copy beyond its caches does not fit. */
export async function measurePeaks(device: Device): Promise<Peaks> {
  const taken: PoolBuffer[] = [];
  const take = (bytes: number): PoolBuffer => {
    const buffer = device.pool.acquire(bytes);
    taken.push(buffer);
    return buffer;
  };
  try {
    const trials = [
      ...arithmetic(device, take),
      ...(await matrixTrials(device, take)),
      ...memory(device, take),
      ...transfers(device, take),
      dispatches(device),
    ];
    return { ...identify(device), measured: new Date().toISOString(), ...best(await inTurns(trials)) };
  } finally {
    for (const buffer of taken) device.pool.release(buffer);
    await device.idle();
    device.pool.trim();
  }
}

/** A trial that is slower than this share of the fastest of its ceiling has lost at once. */
const CONTENDS = 0.6;

/** The rates of the trials that may be the fastest of their ceilings. */
async function inTurns(trials: readonly Trial[]): Promise<[Trial, number[]][]> {
  const first: { trial: Trial; units: number; rate: number }[] = [];
  for (const trial of trials) first.push({ trial, ...(await enough(trial)) });
  const fastest = new Map<Rate, number>();
  for (const { trial, rate } of first) fastest.set(trial.peak, Math.max(rate, fastest.get(trial.peak) ?? 0));
  const contenders = first
    .filter(({ trial, rate }) => rate >= CONTENDS * fastest.get(trial.peak)!)
    .map(({ trial, units }) => ({ trial, units, rates: [] as number[] }));
  const start = performance.now();
  for (let time = 0; time < TIMES && (time < FEWEST || performance.now() - start < BUDGET); time++)
    for (const { trial, units, rates } of contenders)
      rates.push((units * trial.work) / (await trial.seconds(units)));
  return contenders.map(({ trial, rates }) => [trial, rates]);
}

/** Units that take as long as they should, and the rate of those. The first time compiles. */
async function enough({
  work,
  seconds,
  goal,
  most = 2 ** 30,
}: Trial): Promise<{ units: number; rate: number }> {
  await seconds(1);
  for (let units = 1; ; ) {
    const took = await seconds(units);
    if (took >= goal / 2 || units >= most) return { units, rate: (units * work) / took };
    units = Math.min(most, Math.ceil(units * Math.min(64, Math.max(2, goal / Math.max(took, 1e-9)))));
  }
}

const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.round(share * (sorted.length - 1))];

/** By ceiling the median of its fastest trial, and how far that one's times lie apart. */
function best(measured: readonly [Trial, number[]][]) {
  const found = new Map<Rate, { rate: number; spread: number }>();
  for (const [{ peak }, rates] of measured) {
    const sorted = rates.toSorted((a, b) => a - b);
    const rate = at(sorted, 0.5);
    if (rate > (found.get(peak)?.rate ?? 0))
      found.set(peak, { rate, spread: (at(sorted, 0.75) - at(sorted, 0.25)) / rate });
  }
  const rate = (peak: Rate): number => found.get(peak)?.rate ?? Number.NaN;
  const optional = (peak: "f16" | "matrix") => (found.has(peak) ? { [peak]: rate(peak) } : {});
  return {
    ...{ f32: rate("f32"), ...optional("f16"), ...optional("matrix") },
    ...{ copy: rate("copy"), workgroup: rate("workgroup"), dispatch: 1 / rate("dispatch") },
    ...{ upload: rate("upload"), readback: rate("readback") },
    spread: Object.fromEntries([...found].map(([peak, { spread }]) => [peak, spread])),
  };
}

/** Seconds of what `record` dispatches: by the GPU's clock where it has one, else by the wall's, from submit to the end. */
async function gpuSeconds(device: Device, record: () => void): Promise<number> {
  if (!device.info.timestamps) return await wallSeconds(device, record);
  device.startProfile();
  record();
  const rows = await device.endProfile();
  return rows.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000;
}

async function wallSeconds(device: Device, work: () => unknown): Promise<number> {
  await device.idle();
  const start = performance.now();
  await work();
  await device.idle();
  return (performance.now() - start) / 1000;
}

/** A wait has some latency, which must not count, and a CPU adapter is disturbed by whatever else runs. */
const BY_WALL = 0.02;
const goalOf = ({ info }: Device): number => (info.timestamps && !info.cpu ? 0.004 : BY_WALL);
/** A CPU adapter runs a workgroup on one core. */
const threadsOf = ({ info }: Device): readonly number[] => (info.cpu ? [8, 64] : [64, 256]);
/** Threads that keep the whole adapter busy. */
const manyThreads = ({ info }: Device): number => (info.cpu ? 2 ** 13 : 2 ** 20);

type Take = (bytes: number) => PoolBuffer;

/** In which ways chains are laid out: adapters differ in registers and in how many operations are in flight. */
export const CHAINS = [
  { pairs: false, CHAINS: 2, FMAS: 16 },
  { pairs: false, CHAINS: 4, FMAS: 8 },
  { pairs: true, CHAINS: 4, FMAS: 4 },
  { pairs: true, CHAINS: 8, FMAS: 4 },
];

function arithmetic(device: Device, take: Take): Trial[] {
  const threads = manyThreads(device);
  const y = { device, buffer: take(4 * threads) };
  const types = [
    { X: "f32", enables: "" },
    { X: "f16", enables: "enable f16;" },
  ] as const;
  return types
    .filter(({ X }) => X === "f32" || device.info.f16)
    .flatMap(({ X, enables }) =>
      CHAINS.flatMap((chains) =>
        threadsOf(device).map((WG): Trial => {
          const variant = { flags: { X, enables, ...chains }, overrides: { WG } };
          const of = chains.pairs ? { a: 0.1, b: 0 } : { a: 0.9, b: 0.01 };
          return {
            peak: X,
            work: threads * chains.FMAS * chains.CHAINS * (chains.pairs ? 2 : 1) * 4 * 2,
            goal: goalOf(device),
            seconds: (rounds) =>
              gpuSeconds(device, () =>
                fmas.run("forward", { y }, { rounds, ...of }, [threads / WG], variant),
              ),
          };
        }),
      ),
    );
}

/** As WebGPU's extension lists it. */
interface MatrixConfiguration {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Those with f32 sums of what the adapter lists. */
async function matrixTrials(device: Device, take: Take): Promise<Trial[]> {
  const { features, adapterInfo } = device.gpu;
  if (!(features as ReadonlySet<string>).has("chromium-experimental-subgroup-matrix")) return [];
  const { subgroupMatrixConfigs = [], subgroupMaxSize } = adapterInfo as typeof adapterInfo & {
    subgroupMatrixConfigs?: readonly MatrixConfiguration[];
  };
  const groups = 4096;
  const trials: Trial[] = [];
  for (const { componentType: X, resultComponentType, M, N, K } of subgroupMatrixConfigs) {
    if (resultComponentType !== "f32" || !(X === "f32" || (X === "f16" && device.info.f16))) continue;
    const buffers = {
      x: { device, buffer: take(2 * (M + N) * K * 4) },
      y: { device, buffer: take(groups * 4 * M * N * 4) },
      lanes: { device, buffer: take(groups * 4) },
    };
    const WG = Math.max(32, subgroupMaxSize); // a multiple of the largest subgroup is asked for
    const variant = { flags: { enables: X === "f16" ? "enable f16;" : "", X, M, N, K }, overrides: { WG } };
    const run = (rounds: number) => matrices.run("forward", buffers, { rounds }, [groups], variant);
    run(1);
    const [lanes] = new Uint32Array(await device.read(buffers.lanes.buffer, 4));
    trials.push({
      peak: "matrix",
      work: groups * (WG / lanes) * 4 * 4 * 2 * M * N * K,
      goal: goalOf(device),
      seconds: (rounds) => gpuSeconds(device, () => run(rounds)),
    });
  }
  return trials;
}

function memory(device: Device, take: Take): Trial[] {
  const { limits, info } = device;
  const goal = goalOf(device);
  const bytes =
    2 ** Math.floor(Math.log2(Math.min(limits.maxStorageBufferBindingSize, info.cpu ? 64 * MIB : 256 * MIB)));
  const [x, y] = [take(bytes), take(bytes)].map((buffer) => ({ device, buffer }));
  const copies = [1, 4, 8].flatMap((QUADS) =>
    threadsOf(device).map((WG): Trial => {
      const quads = bytes / 16;
      const variant = { flags: { QUADS, LAST: QUADS - 1 }, overrides: { WG } };
      const run = () => copy.run("forward", { x, y }, { quads }, gridFor(quads / QUADS, WG), variant);
      return {
        ...{ peak: "copy", work: 2 * bytes, goal },
        seconds: (units) =>
          gpuSeconds(device, () => {
            for (let i = 0; i < units; i++) run();
          }),
      };
    }),
  );
  copies.push({
    ...{ peak: "copy", work: 2 * bytes, goal: BY_WALL },
    seconds: (units) =>
      wallSeconds(device, () => {
        for (let i = 0; i < units; i++) device.recorder.copy(x.buffer, 0, y.buffer, 0, bytes);
      }),
  });
  const threads = manyThreads(device);
  const loads = [4, 8].map((LOADS): Trial => {
    const WG = info.cpu ? 64 : 256;
    const variant = { flags: { LOADS }, overrides: { WG } };
    return {
      ...{ peak: "workgroup", work: threads * LOADS * 16, goal },
      seconds: (rounds) =>
        gpuSeconds(device, () => workgroupLoads.run("forward", { y }, { rounds }, [threads / WG], variant)),
    };
  });
  return [...copies, ...loads];
}

function transfers(device: Device, take: Take): Trial[] {
  const buffer = take(MOVED);
  const bytes = new Uint8Array(MOVED).fill(1);
  const shared = { work: MOVED, goal: BY_WALL, most: 8 };
  return [
    {
      ...shared,
      peak: "upload",
      seconds: (units) =>
        wallSeconds(device, () => {
          for (let i = 0; i < units; i++) device.recorder.upload(buffer, bytes);
        }),
    },
    {
      ...shared,
      peak: "readback",
      seconds: (units) =>
        wallSeconds(device, async () => {
          for (let i = 0; i < units; i++) await device.read(buffer, MOVED);
        }),
    },
  ];
}

/** Empty dispatches in one pass, each waiting for the one before; not by the recorder, whose work on the CPU is not meant here. */
function dispatches(device: Device): Trial {
  const { gpu, info } = device;
  const module = gpu.createShaderModule({ code: EMPTY });
  const pipeline = gpu.createComputePipeline({ layout: "auto", compute: { module } });
  const buffer = gpu.createBuffer({ size: 256, usage: usage.STORAGE });
  const group = gpu.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [{ binding: 0, resource: { buffer } }],
  });
  const set = info.timestamps ? gpu.createQuerySet({ type: "timestamp", count: 2 }) : undefined;
  const resolved = gpu.createBuffer({ size: 256, usage: usage.QUERY_RESOLVE | usage.COPY_SRC });
  const read = gpu.createBuffer({ size: 256, usage: usage.COPY_DST | usage.MAP_READ });

  const submit = (count: number) => {
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass(
      set && { timestampWrites: { querySet: set, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 } },
    );
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < count; i++) pass.dispatchWorkgroups(1);
    pass.end();
    if (set) {
      encoder.resolveQuerySet(set, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, read, 0, 16);
    }
    gpu.queue.submit([encoder.finish()]);
  };
  return {
    ...{ peak: "dispatch", work: 1, goal: goalOf(device), most: 4096 },
    async seconds(count) {
      if (!set) return await wallSeconds(device, () => submit(count));
      submit(count);
      await device.host.quiet(() => read.mapAsync(1));
      const [begin, end] = new BigInt64Array(read.getMappedRange().slice(0, 16));
      read.unmap();
      return Number(end - begin) / 1e9;
    },
  };
}

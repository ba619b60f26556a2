/**
 * A GPU, opened: limits and features, and the owner of everything made on it. No globals: two devices may coexist.
 *
 * What awaits: openDevice, precompile, read, idle. Everything between only records.
 */
import type { GpuOptions, Host } from "../host/host.ts";
import { BindGroups } from "./bind_groups.ts";
import type { Watcher } from "./kernel.ts";
import { KERNEL_TEXTS } from "./kernel_texts.ts";
import { FEWEST_LANES, KERNELS, PATHS, type Path } from "./launch.ts";
import { KernelLibrary } from "./library.ts";
import { Pool, type PoolBuffer, usage } from "./pool.ts";
import { Profiler, type ProfileRow } from "./profiler.ts";
import { Recorder } from "./recorder.ts";
import { INCLUDE } from "./wgsl.ts";

/** Which GPU to open, how much of its memory to take, and how kernels are launched on it. */
export interface DeviceOptions extends GpuOptions {
  /** Most bytes of GPU buffers; by default what the host says is free on a CPU adapter, no limit on a GPU. */
  memoryLimit?: number;
  /** What kernels choose workgroups and tiles by, where that should not be what suits the adapter best. */
  path?: Path;
}

/** What an adapter says of itself, and what the engine makes of that. */
export interface DeviceInfo {
  /** The adapter's description, as the driver gives it. */
  readonly name: string;
  /** Normalised by WebGPU, as "nvidia"; may be empty. */
  readonly vendor: string;
  /** Normalised by WebGPU, as "hopper"; may be empty. */
  readonly architecture: string;
  /** True where kernels run on the CPU (lavapipe, SwiftShader) and buffers are main memory. */
  readonly cpu: boolean;
  /** Whether kernels can read f16: WGSL's shader-f16. */
  readonly f16: boolean;
  /** Lanes of a subgroup where that is one fixed number and WGSL subgroups are there; else 0. */
  readonly subgroup: number;
  /** What kernels choose workgroups and tiles by. */
  readonly path: Path;
  /** Whether startProfile() works: WebGPU's timestamp-query. */
  readonly timestamps: boolean;
}

/** Most bytes of spare buffers for reads, which the pool does not count. */
const MOST_STAGING = 64 * 2 ** 20;

const wanted = ["shader-f16", "subgroups", "timestamp-query"] as const;

/**
 * Opens an adapter with its full limits and reads the package's kernels. Throws where there is no adapter, none of the name
 * asked for, or one that cannot take `path`.
 *
 * @example
 * ```ts
 * const device = await openDevice(await currentHost(), { memoryLimit: 256 * 2 ** 20 });
 * const x = Tensor.from(device, Float32Array.of(1, 2, 3), [3]);
 * console.log(await ops.mul(x, 2).read()); // [2, 4, 6]
 * device.dispose();
 * ```
 */
export async function openDevice(host: Host, options: DeviceOptions = {}): Promise<Device> {
  const gpu = await host.gpu(options);
  const adapter = await host.quiet(() => gpu.requestAdapter({ powerPreference: "high-performance" }));
  if (!adapter)
    throw new Error("Cannot open a GPU: WebGPU found no adapter; `wavegate doctor` says how to get one");
  const features = wanted.filter((f) => adapter.features.has(f));
  const info = describe(adapter, options.path);
  const limits: Record<string, number> = {};
  for (const name of [
    "maxBufferSize",
    "maxStorageBufferBindingSize",
    "maxStorageBuffersPerShaderStage",
    "maxComputeWorkgroupStorageSize",
    "maxComputeInvocationsPerWorkgroup",
    "maxComputeWorkgroupSizeX",
    "maxComputeWorkgroupSizeY",
    "maxComputeWorkgroupsPerDimension",
  ] as const) {
    limits[name] = adapter.limits[name];
  }
  const device = await host.quiet(() =>
    adapter.requestDevice({ requiredFeatures: features, requiredLimits: limits }),
  );
  const sources = await readKernels(host);
  return new Device(host, info, device, sources, options);
}

/** Throws where the adapter cannot take `wish`. */
function describe(adapter: GPUAdapter, wish: Path | undefined): DeviceInfo {
  const { info, features } = adapter;
  // Software adapters: Dawn names the driver and its version in the description, wgpu the driver alone in the device.
  const software = [info.description, info.device].find((text) => /llvmpipe|swiftshader/i.test(text));
  const name =
    software || info.description || info.device || info.architecture || info.vendor || "unnamed adapter";
  const cpu =
    info.isFallbackAdapter === true ||
    /llvmpipe|lavapipe|swiftshader/i.test(`${info.device} ${info.description} ${info.architecture}`);
  const fixed = info.subgroupMinSize === info.subgroupMaxSize ? (info.subgroupMinSize ?? 0) : 0;
  // lavapipe reports 32 lanes where LP_NATIVE_VECTOR_WIDTH is 1024, but its compute shaders never run more than 16.
  const lanes = cpu ? Math.min(fixed, 16) : fixed;
  const subgroup = features.has("subgroups") ? lanes : 0;
  return {
    name,
    vendor: info.vendor,
    architecture: info.architecture,
    cpu,
    f16: features.has("shader-f16"),
    subgroup,
    path: choosePath(wish, name, cpu, subgroup),
    timestamps: features.has("timestamp-query"),
  };
}

function choosePath(wish: Path | undefined, name: string, cpu: boolean, lanes: number): Path {
  if (wish === undefined) return !cpu ? "portable" : lanes >= FEWEST_LANES ? "subgroups" : "cpu";
  if (!PATHS.includes(wish))
    throw new RangeError(`Cannot take path ${JSON.stringify(wish)}: there are ${PATHS.join(", ")}`);
  if (wish === "subgroups" && lanes < FEWEST_LANES) {
    const has = lanes === 0 ? "has no subgroups of one fixed size" : `has subgroups of ${lanes} lanes`;
    throw new Error(`Cannot take path subgroups: ${name} ${has}, at least ${FEWEST_LANES} lanes expected`);
  }
  return wish;
}

/**
 * Texts of all kernels of the package and of what they include, by file name inside kernels/: operators that are imported
 * later find theirs, and kernels that users declare find what they include.
 */
async function readKernels(host: Host): Promise<Map<string, string>> {
  const sources = new Map<string, string>();
  const read = async (file: string): Promise<void> => {
    if (sources.has(file)) return;
    sources.set(file, "");
    const text = KERNEL_TEXTS[file] ?? (await readKernel(host, file));
    sources.set(file, text);
    await Promise.all([...text.matchAll(INCLUDE)].map((m) => read(m[1])));
  };
  await Promise.all(KERNELS.map((name) => read(`${name}.wgsl`)));
  return sources;
}

/** A file of a checkout. */
async function readKernel(host: Host, file: string): Promise<string> {
  try {
    return await host.readText(new URL(`../../kernels/${file}`, import.meta.url));
  } catch (cause) {
    const advice = "only the built package (npm run build) works without the folder kernels/, as in a bundle";
    throw new Error(`Cannot find kernel ${file}: ${advice}`, { cause });
  }
}

/**
 * An open GPU and all that was made on it. openDevice() makes one. Operators record their work here without waiting;
 * `idle`, `read` and `precompile` wait. An error that the GPU reports is thrown at the next of these.
 */
export class Device {
  /** Where it was opened. */
  readonly host: Host;
  /** WebGPU's own object. */
  readonly gpu: GPUDevice;
  /** The adapter. */
  readonly info: DeviceInfo;
  /** WebGPU's limits, as high as the adapter allows. */
  readonly limits: GPUSupportedLimits;
  /** All buffers of tensors. */
  readonly pool: Pool;
  /** What was recorded and not yet submitted. */
  readonly recorder: Recorder;
  /** Compiled kernels. */
  readonly kernels: KernelLibrary;
  /** Bind groups that are kept for the next dispatch of the same pipeline and buffers. */
  readonly bindGroups: BindGroups = new BindGroups();
  /** GPU objects made since the device was opened; a repeated forward must add none. */
  readonly counters: { pipelines: number; bindGroups: number } = { pipelines: 0, bindGroups: 0 };
  /** Is called for every dispatch and view. A tape sets it while it runs. */
  watcher: Watcher | undefined;
  /** One spare buffer for reads of each size class: a loop that reads the same loss every step needs no more. */
  readonly #staging = new Map<number, GPUBuffer>();
  readonly #watched = new Set<Promise<void>>();
  readonly #labels: string[] = [];
  #failure: Error | undefined;
  #disposed = false;

  /** For openDevice(). */
  constructor(
    host: Host,
    info: DeviceInfo,
    gpu: GPUDevice,
    sources: ReadonlyMap<string, string>,
    options: DeviceOptions,
  ) {
    this.host = host;
    this.gpu = gpu;
    this.limits = gpu.limits;
    this.info = info;
    const memoryLeft =
      this.info.cpu && options.memoryLimit === undefined ? () => host.freeMemory() : undefined;
    const limit = options.memoryLimit ?? Number.POSITIVE_INFINITY;
    this.recorder = new Recorder(gpu);
    this.pool = new Pool(gpu, limit, {
      beforeDestroy: () => this.recorder.flush(),
      onDestroy: (ids) => this.bindGroups.forget(ids),
      memoryLeft,
    });
    this.kernels = new KernelLibrary(this, sources);
    gpu.lost.then((lost) => {
      if (!this.#disposed)
        this.#fail(new Error(`Lost the GPU (${this.info.name}): ${lost.message || lost.reason}`));
    });
    gpu.onuncapturederror = (event) => {
      event.preventDefault();
      const { error } = event;
      const memory = /out.?of.?memory/i.test(`${error.constructor.name} ${error.message}`);
      const what = memory ? "Ran out of GPU memory" : "The GPU refused a command";
      const failure = new Error(`${what} (${this.info.name}): ${error.message.split("\n")[0]}`);
      // A command whose pipeline did not compile is refused as well; what explains that is still on its way.
      this.#hold(Promise.all(this.#watched).then(() => this.#fail(failure)));
    };
  }

  #fail(error: Error): void {
    this.#failure ??= error;
  }

  /** Throws the first error that the GPU reported since the device was opened. */
  check(): void {
    if (this.#disposed) throw new Error("Cannot use the device: it was disposed");
    if (this.#failure) throw this.#failure;
  }

  /** Pops an error scope; what `explain` makes of an error is thrown at the next await. */
  watch(pop: () => Promise<GPUError | null>, explain: (error: GPUError) => Promise<Error>): void {
    this.#hold(
      this.host
        .quiet(pop)
        .then(async (error) => {
          if (error) this.#fail(await explain(error));
        })
        .catch((error) => this.#fail(error)),
    );
  }

  /** Waits of the device wait for `promise` as well. */
  #hold(promise: Promise<void>): void {
    const held = promise.finally(() => this.#watched.delete(held));
    this.#watched.add(held);
  }

  /** Submits what was recorded and waits until the GPU has done it, without burning a core. */
  async idle(): Promise<void> {
    this.recorder.flush();
    await this.host.quiet(() => this.gpu.queue.onSubmittedWorkDone());
    this.pool.settle();
    await Promise.all(this.#watched);
    await this.tidy();
    this.check();
  }

  /**
   * Asks the runtime for a garbage collection where many bind groups were dropped, whose memory returns only then. Every wait
   * of the device does so; work that records for long without one calls it now and then.
   */
  tidy(): Promise<void> {
    return this.bindGroups.tidy(() => this.host.collectGarbage());
  }

  /** Copies `bytes` bytes of a buffer to the CPU. Submits first. */
  async read(buffer: PoolBuffer, bytes: number, from = 0): Promise<ArrayBuffer> {
    this.check();
    const length = Math.ceil(bytes / 4) * 4;
    if (length === 0) return new ArrayBuffer(0);
    const size = this.pool.classOf(length);
    const staging =
      this.#staging.get(size) ??
      this.gpu.createBuffer({ label: "staging", size, usage: usage.MAP_READ | usage.COPY_DST });
    this.#staging.delete(size);
    this.recorder.copyOut(buffer, from, staging, length);
    this.recorder.flush();
    try {
      await this.host.quiet(() => staging.mapAsync(1, 0, length));
    } catch (error) {
      await Promise.all(this.#watched);
      this.check();
      throw error;
    }
    this.pool.settle();
    const copy = staging.getMappedRange(0, length).slice(0, bytes);
    staging.unmap();
    this.#spare(size, staging);
    await Promise.all(this.#watched);
    await this.tidy();
    this.check();
    return copy;
  }

  /** Keeps a buffer for the next read of its size, and lets the oldest spares go where they are too many bytes. */
  #spare(size: number, staging: GPUBuffer): void {
    this.#staging.get(size)?.destroy();
    this.#staging.set(size, staging);
    let bytes = [...this.#staging.keys()].reduce((sum, each) => sum + each, 0);
    for (const [each, spare] of this.#staging) {
      if (bytes <= MOST_STAGING) break;
      spare.destroy();
      this.#staging.delete(each);
      bytes -= each;
    }
  }

  /**
   * Compiles side by side every pipeline that `body` would run, and reports each. `body` records as usual, but nothing is
   * dispatched: the tensors it makes hold no results. A CPU adapter does part of the work only at a kernel's first run.
   */
  async precompile(body: () => void, onProgress?: (compiled: number, total: number) => void): Promise<void> {
    await this.kernels.precompile(body, onProgress);
    await Promise.all(this.#watched);
    this.check();
  }

  /** Runs `body` with `label` in front of the profiler's rows. */
  labelled<T>(label: string, body: () => T): T {
    if (!this.recorder.profiler) return body();
    this.#labels.push(label);
    try {
      return body();
    } finally {
      this.#labels.pop();
    }
  }

  /** The label of a dispatch in the profile: those of labelled() around it, then the kernel. */
  profileLabel(kernel: string): string {
    return this.#labels.length ? `${this.#labels.join(".")}/${kernel}` : kernel;
  }

  /** Turns the profiler on: every dispatch gets a pass of its own, with timestamps. Throws where the adapter has none. */
  startProfile(): void {
    if (!this.info.timestamps) throw new Error(`Cannot profile: ${this.info.name} has no timestamp-query`);
    this.recorder.flush();
    this.recorder.profiler = new Profiler(this.gpu);
  }

  /** Waits for all work, turns the profiler off and returns the times by label, longest first. */
  async endProfile(): Promise<ProfileRow[]> {
    const { profiler } = this.recorder;
    await this.idle();
    this.recorder.profiler = undefined;
    return (await profiler?.collect((start) => this.host.quiet(start))) ?? [];
  }

  /** Destroys the GPU's objects, those of all tensors among them. Work that was only recorded is lost. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.gpu.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

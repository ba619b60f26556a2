/**
 * A GPU, opened: limits and features, and the owner of everything made on it. No globals: two devices may coexist.
 *
 * What awaits: openDevice, precompile, read, idle. Everything between only records.
 */
import type { GpuOptions, Host } from "../host/host.ts";
import { type DeviceInfo, describe, MATRIX_FEATURES } from "./adapter.ts";
import { BindGroups } from "./bind_groups.ts";
import { Choices } from "./choices.ts";
import { describeRun, type Place, type PlannedDispatch } from "./cost.ts";
import { checkOptions, describeValue, synchronous } from "../io/checks.ts";
import type { Watcher } from "./kernel.ts";
import { kernelTexts } from "./kernel_texts.ts";
import type { Path } from "./launch.ts";
import { KernelLibrary } from "./library.ts";
import { formatMiB, Pool, type PoolBuffer, usage } from "./pool.ts";
import { Profiler, type ProfileRow } from "./profiler.ts";
import { Recorder } from "./recorder.ts";

/** Which GPU to open, how much of its memory to take, and how kernels are launched on it. */
export interface DeviceOptions extends GpuOptions {
  /** Most bytes of GPU buffers; by default what the host says is free on a CPU adapter, no limit on a GPU. */
  memoryLimit?: number;
  /** What kernels choose workgroups and tiles by, where that should not be what suits the adapter best. */
  path?: Path;
}

const OPTIONS: readonly (keyof DeviceOptions)[] = [
  "adapter",
  "implementation",
  "unsafeFast",
  "memoryLimit",
  "path",
  "matrices",
];

/** Most bytes of spare buffers for reads, which the pool does not count. */
const MOST_STAGING = 64 * 2 ** 20;

const NOWHERE: Place = { phase: "", part: "", layer: "" };

const wanted = [...MATRIX_FEATURES, "subgroup-size-control", "timestamp-query"] as const;

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
  if (typeof host?.gpu !== "function")
    throw new TypeError(
      `Cannot open a GPU: the host is ${describeValue(host)} but should be what \`await currentHost()\` gives`,
    );
  checkOptions("open a GPU", options, OPTIONS);
  const { memoryLimit } = options;
  if (memoryLimit !== undefined && !(memoryLimit > 0))
    throw new RangeError(
      `Cannot open a GPU: memoryLimit is ${describeValue(memoryLimit)} but should be a number of bytes`,
    );
  const gpu = await host.gpu(options);
  const adapter = await host.quiet(() => gpu.requestAdapter({ powerPreference: "high-performance" }));
  if (!adapter)
    throw new Error("Cannot open a GPU: WebGPU found no adapter; `wavegate doctor` says how to get one");
  const features = wanted.filter((f) => adapter.features.has(f));
  const info = describe(adapter, options);
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
    // The types do not know what is experimental yet.
    adapter.requestDevice({ requiredFeatures: features as GPUFeatureName[], requiredLimits: limits }),
  );
  return new Device(host, info, device, await kernelTexts(host), options);
}

/**
 * An open GPU and all that was made on it. openDevice() makes one. Operators record their work here without waiting;
 * `idle`, `read` and `precompile` wait. An error that the GPU reports is thrown at the next of these.
 */
export class Device {
  /** Where it was opened. */
  readonly host: Host;
  /** WebGPU's own object. On Dawn a buffer that it creates is not zeroed: write all that you will read. */
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
  /** What is chosen in place of the defaults by which kernels are launched. */
  readonly choices: Choices = new Choices();
  /** GPU objects made since the device was opened; a repeated forward must add none. */
  readonly counters: { pipelines: number; bindGroups: number } = { pipelines: 0, bindGroups: 0 };
  /** Is called for every dispatch, view and write. A tape sets it while it runs. */
  watcher: Watcher | undefined;
  /** What each open scope is to release when it ends, the innermost last; scope() opens and ends them. */
  readonly scopes: { release(): void }[][] = [];
  /** One spare buffer for reads of each size class: a loop that reads the same loss every step needs no more. */
  readonly #staging = new Map<number, GPUBuffer>();
  readonly #watched = new Set<Promise<void>>();
  #place: Place = NOWHERE;
  #dry = false;
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

  /** Throws where a body is being captured: its replays could not do this. */
  #checkCapture(what: string): void {
    if (this.recorder.capturing) throw new Error(`Cannot ${what} inside capture(): do it after`);
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
    this.#checkCapture("wait");
    this.recorder.flush();
    await this.#wait(() => this.gpu.queue.onSubmittedWorkDone());
    this.pool.settle();
    await Promise.all(this.#watched);
    await this.tidy();
    this.check();
  }

  /** Waits for the GPU; a profile notes how long. */
  async #wait(start: () => Promise<undefined>): Promise<void> {
    const { profiler } = this.recorder;
    const begin = profiler ? performance.now() : 0;
    await this.host.quiet(start);
    profiler?.did("wait", begin);
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
    this.#checkCapture("read a tensor");
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
      await this.#wait(() => staging.mapAsync(1, 0, length));
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
   * dispatched: the tensors it makes hold no results, and are freed as at the end of a scope. Throws a TypeError where `body`
   * returns a Promise. Parameters may be without values yet: weights.initialize() can read them meanwhile. A CPU adapter does part
   * of the work only at a kernel's first run.
   */
  async precompile(body: () => void, onProgress?: (compiled: number, total: number) => void): Promise<void> {
    this.#checkCapture("precompile");
    await this.kernels.precompile(() => this.#released(() => synchronous("precompile", body())), onProgress);
    await Promise.all(this.#watched);
    this.check();
  }

  /** Whether nothing is dispatched, as precompile() and plan() do: what is made holds no results, and is not to be kept. */
  get dry(): boolean {
    return this.#dry;
  }

  /** Runs `body`, of which nothing is dispatched, and releases what it made. */
  #released(body: () => void): void {
    const made: { release(): void }[] = [];
    this.scopes.push(made);
    this.#dry = true;
    try {
      body();
    } finally {
      this.#dry = false;
      this.scopes.length = this.scopes.indexOf(made);
      for (const each of made) each.release();
    }
  }

  /** Runs `body` with `label` in front of the profiler's rows. Throws a TypeError where `body` returns a Promise. */
  labelled<T>(label: string, body: () => T): T {
    const { layer } = this.#place;
    return synchronous("labelled", this.at({ layer: layer ? `${layer}.${label}` : label }, body));
  }

  /** Where dispatches belong now; undefined where no profile or plan wants to know. */
  get place(): Place | undefined {
    return this.recorder.observer ? this.#place : undefined;
  }

  /** Runs `body`, whose dispatches a profile or plan counts to `place`; what that leaves out stays as it is. */
  at<T>(place: Partial<Place> | undefined, body: () => T): T {
    const { observer, capturing } = this.recorder;
    if (!(observer || capturing) || !place) return body();
    const around = this.#place;
    this.#place = { ...around, ...place };
    try {
      return body();
    } finally {
      this.#place = around;
    }
  }

  /** The label of a dispatch in the profile: those of labelled() around it, then the kernel. */
  profileLabel(kernel: string): string {
    const { layer } = this.#place;
    return layer ? `${layer}/${kernel}` : kernel;
  }

  /**
   * The dispatches that `body` would record, with what each costs; nothing is compiled or run, and the tensors that it makes
   * hold no results and are freed as at the end of a scope. Throws a TypeError where `body` returns a Promise, and where a
   * profile is running.
   */
  plan(body: () => void): PlannedDispatch[] {
    const { recorder } = this;
    this.#checkCapture("plan");
    if (recorder.observer) throw new Error("Cannot plan: a profile or a plan is running");
    const planned: PlannedDispatch[] = [];
    recorder.observer = {
      observe: (run) => {
        if (run.grid.every((n) => n !== 0)) planned.push({ ...this.#place, ...describeRun(run) });
      },
    };
    try {
      this.#released(() => synchronous("plan", body()));
    } finally {
      recorder.observer = undefined;
    }
    return planned;
  }

  /**
   * Turns the profiler on: every dispatch gets a pass of its own, with timestamps. Throws where the adapter has none, and where
   * it is on.
   */
  startProfile(): void {
    const { recorder } = this;
    if (recorder.profiler) throw new Error("Cannot start a profile: one is running, endProfile() first");
    if (!this.info.timestamps) throw new Error(`Cannot profile: ${this.info.name} has no timestamp-query`);
    recorder.flush();
    recorder.profiler = new Profiler(this.gpu, this.pool.statistics, () => this.#place);
    recorder.observer = recorder.profiler;
  }

  /** Waits for all work, turns the profiler off and returns the times by label, longest first. Throws where it is off. */
  async endProfile(): Promise<ProfileRow[]> {
    const { recorder } = this;
    const { profiler } = recorder;
    if (!profiler) throw new Error("Cannot end a profile: none is running, startProfile() first");
    await this.idle();
    recorder.profiler = undefined;
    recorder.observer = undefined;
    const rows = await profiler.collect((start) => this.host.quiet(start));
    profiler.destroy();
    return rows;
  }

  /**
   * Destroys the GPU's objects, those of all tensors among them. Work that was only recorded is lost. With WAVEGATE_DEBUG=1 a
   * line on stderr says how many bytes of tensors nobody had released.
   */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const { live } = this.pool.statistics;
    if (live > 0)
      this.host.debug?.(
        `wavegate: ${formatMiB(live)} of tensors were not released before their device was disposed`,
      );
    this.gpu.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

import { checkOptions, describeValue } from "../io/checks.ts";
import type { Device } from "./device.ts";
import { type Bound, declaredSource, type Grid, type Variant } from "./kernel.ts";
import { Pipeline } from "./pipeline.ts";
import { type BindingInfo, excerpt, expand, included, outputsOf, reachable, reflect } from "./wgsl.ts";

/** Which pipeline a dispatch needs. */
export interface Request {
  readonly name: string;
  readonly entry: string;
  readonly variant: Variant;
}

const VARIANT = ["flags", "overrides"];

/** Tells pipelines apart. Every dispatch makes one, so it is put together by hand: JSON takes four times as long. */
function keyOf({ name, entry, variant }: Request): string {
  for (const key in variant)
    if (key !== "flags" && key !== "overrides") checkOptions(`run ${name}.${entry}`, variant, VARIANT);
  const { flags, overrides } = variant;
  let key = `${name}.${entry}`;
  for (const flag in flags) {
    const value = flags[flag];
    key += typeof value === "string" ? ` ${flag}=${value.length}"${value}"` : ` ${flag}=${value}`;
  }
  for (const constant in overrides) key += ` @${constant}=${overrides[constant]}`;
  return key;
}

/** A pipeline as messages and labels show it: with its flags and constants, where there are any. */
function show({ name, entry, variant }: Request): string {
  const values = [variant.flags, variant.overrides].filter((of) => of && Object.keys(of).length > 0);
  return [`${name}.${entry}`, ...values.map((of) => JSON.stringify(of))].join(" ");
}

/** The values by which a constant of this type may be replaced. */
function fits(value: unknown, type: string | undefined): boolean {
  if (type === "bool") return typeof value === "boolean" || value === 0 || value === 1;
  if (typeof value !== "number" || !Number.isFinite(value)) return false;
  return type === "u32" ? value >>> 0 === value : type === "i32" ? (value | 0) === value : true;
}

function layoutEntry(b: BindingInfo): GPUBindGroupLayoutEntry {
  const storage = b.access === "read" ? "read-only-storage" : "storage";
  return {
    binding: b.binding,
    visibility: 4, // GPUShaderStage.COMPUTE; npm webgpu sets no globals unless asked
    buffer: b.access === "uniform" ? { type: "uniform", hasDynamicOffset: true } : { type: storage },
  };
}

/** All kernels of one device: text, modules and pipelines, each made once. */
export class KernelLibrary {
  readonly #device: Device;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #modules = new Map<string, { module: GPUShaderModule; text: string }>();
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #outputs = new Map<string, ReadonlySet<string>>();
  #planned: Map<string, Request> | undefined;

  /** `sources` maps file names inside kernels/ to their text. */
  constructor(device: Device, sources: ReadonlyMap<string, string>) {
    this.#device = device;
    this.#sources = sources;
  }

  /** Pipelines that were compiled. */
  get size(): number {
    return this.#pipelines.size;
  }

  /** Names of the buffers that a kernel's entry points write. */
  outputsOf(kernel: string): ReadonlySet<string> {
    let names = this.#outputs.get(kernel);
    if (!names) {
      names = outputsOf(this.#source(kernel));
      this.#outputs.set(kernel, names);
    }
    return names;
  }

  /** A kernel's source with all that it includes, without comments: where it is another, so is the kernel. */
  textOf(kernel: string): string {
    return included(this.#source(kernel), this.#sources);
  }

  /** Records one dispatch, compiling the pipeline first where it is new. Inside precompile() it only notes the pipeline. */
  run(
    request: Request,
    bound: Readonly<Record<string, Bound>>,
    dims: Readonly<Record<string, number>>,
    grid: Grid,
  ): void {
    const key = keyOf(request);
    if (this.#planned) {
      if (!this.#pipelines.has(key)) this.#planned.set(key, request);
      return;
    }
    this.#compiled(request, key).run(this.#device, bound, dims, grid);
  }

  /** The pipeline of an entry point with these flags and constants, compiled once. */
  pipeline(name: string, entry: string, variant: Variant): Pipeline {
    const request = { name, entry, variant };
    return this.#compiled(request, keyOf(request));
  }

  #compiled(request: Request, key: string): Pipeline {
    const known = this.#pipelines.get(key);
    if (known) return known;
    const prepared = this.#prepare(request);
    const compiled = this.#device.gpu.createComputePipeline(prepared.descriptor);
    prepared.settle();
    const pipeline = prepared.finish(compiled);
    this.#pipelines.set(key, pipeline);
    return pipeline;
  }

  /** Compiles side by side what `body` would run; nothing is dispatched. */
  async precompile(body: () => void, onProgress?: (compiled: number, total: number) => void): Promise<void> {
    const planned = new Map<string, Request>();
    this.#planned = planned;
    try {
      body();
    } finally {
      this.#planned = undefined;
    }
    const { gpu, host } = this.#device;
    let done = 0;
    await Promise.all(
      [...planned].map(async ([key, request]) => {
        const prepared = this.#prepare(request);
        const compiling = host.quiet(() => gpu.createComputePipelineAsync(prepared.descriptor));
        prepared.settle();
        const compiled = await compiling.catch(async (error: Error) => {
          throw await prepared.explain(error.message);
        });
        this.#pipelines.set(key, prepared.finish(compiled));
        onProgress?.(++done, planned.size);
      }),
    );
  }

  /** Everything up to the compilation itself. An error that the GPU finds is thrown at the device's next await. */
  #prepare(request: Request) {
    const { name, entry, variant } = request;
    const label = show(request);
    const { flags = {}, overrides = {} } = variant;
    const device = this.#device;
    const { gpu } = device;
    const moduleKey = `${name} ${JSON.stringify(flags)}`;
    const known = this.#modules.get(moduleKey);
    const text = known?.text ?? expand(this.#source(name), flags, this.#sources, name);
    const all = reflect(text, name);
    if (!all.entries.includes(entry))
      throw new Error(
        `Cannot run ${name}.${entry}: the kernel has no entry point ${entry} (it has: ${all.entries.join(", ") || "none"})`,
      );
    const constants: Record<string, number> = {};
    for (const [constant, value] of Object.entries(overrides)) {
      const declared = all.overrides.get(constant);
      if (declared === undefined)
        throw new Error(
          `Cannot run ${name}.${entry}: the kernel has no override ${constant} (it has: ${[...all.overrides.keys()].join(", ") || "none"})`,
        );
      const { id, type } = declared;
      if (!fits(value, type))
        throw new RangeError(
          `Cannot run ${name}.${entry}: override ${constant} is ${describeValue(value)}, ${type ? `a value of ${type}` : "a finite number"} expected`,
        );
      constants[id] = value;
    }
    const used = reachable(text, entry);
    const face = { ...all, bindings: all.bindings.filter((b) => used.has(b.name)) };
    gpu.pushErrorScope("validation");
    const module = known?.module ?? gpu.createShaderModule({ label: moduleKey, code: text });
    this.#modules.set(moduleKey, { module, text });
    const layout = gpu.createBindGroupLayout({ label, entries: face.bindings.map(layoutEntry) });
    const descriptor = {
      label,
      layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: entry, constants },
    };
    const explain = async (said: string): Promise<Error> => {
      const info = await device.host.quiet(() => module.getCompilationInfo());
      const first = info.messages.find((m) => m.type === "error");
      const line = first?.lineNum ?? Number(/:(\d+):\d+/.exec(said)?.[1] ?? 0);
      const where = line > 0 ? `\n${excerpt(text, line)}` : "";
      // wgpu draws the source over several lines; ours follows anyway.
      return new Error(
        `Cannot compile kernel ${label}: ${(first?.message ?? said).trim().split("\n", 1)[0]}${where}`,
      );
    };
    const settle = () => device.watch(gpu.popErrorScope.bind(gpu), (error) => explain(error.message));
    return {
      descriptor,
      explain,
      settle,
      finish: (compiled: GPUComputePipeline): Pipeline => {
        const id = device.counters.pipelines++;
        return new Pipeline(id, `${name}.${entry}`, face, layout, compiled);
      },
    };
  }

  #source(name: string): string {
    const source = declaredSource(name) ?? this.#sources.get(`${name}.wgsl`);
    if (source === undefined)
      throw new Error(`Cannot find kernel ${name}: twin() declares it with its source`);
    return source;
  }
}

import type { Device } from "./device.ts";
import type { Bound, Grid, Variant } from "./kernel.ts";
import { Pipeline } from "./pipeline.ts";
import {
  type BindingInfo,
  excerpt,
  expand,
  type Flags,
  type Interface,
  reachable,
  reflect,
  stripComments,
} from "./wgsl.ts";

/** Which pipeline a dispatch needs. */
export interface Request {
  readonly name: string;
  readonly entry: string;
  readonly variant: Variant;
}

const keyOf = ({ name, entry, variant }: Request): string =>
  `${name}.${entry} ${JSON.stringify(variant.flags ?? {})} ${JSON.stringify(variant.overrides ?? {})}`;

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

  get size(): number {
    return this.#pipelines.size;
  }

  /** Names of the buffers that a kernel's entry points write. */
  outputsOf(kernel: string): ReadonlySet<string> {
    let names = this.#outputs.get(kernel);
    if (!names) {
      const { bindings } = reflect(stripComments(this.#sources.get(`${kernel}.wgsl`) ?? ""));
      names = new Set(bindings.filter((b) => b.access === "read_write").map((b) => b.name));
      this.#outputs.set(kernel, names);
    }
    return names;
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
    const prepared = this.#prepare(request, key);
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
        const prepared = this.#prepare(request, key);
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
  #prepare(request: Request, key: string) {
    const { name, entry, variant } = request;
    const { flags = {}, overrides = {} } = variant;
    const device = this.#device;
    const { gpu } = device;
    const moduleKey = `${name} ${JSON.stringify(flags)}`;
    const known = this.#modules.get(moduleKey);
    const text = known?.text ?? this.#expand(name, flags, key);
    const used = reachable(text, entry);
    const all = reflect(text);
    const face: Interface = { bindings: all.bindings.filter((b) => used.has(b.name)), dims: all.dims };
    gpu.pushErrorScope("validation");
    const module = known?.module ?? gpu.createShaderModule({ label: moduleKey, code: text });
    this.#modules.set(moduleKey, { module, text });
    const layout = gpu.createBindGroupLayout({ label: key, entries: face.bindings.map(layoutEntry) });
    // Only overrides that the file has may be named.
    const constants = Object.fromEntries(
      Object.entries(overrides).filter(([k]) => new RegExp(`\\boverride\\s+${k}\\b`).test(text)),
    );
    const descriptor = {
      label: key,
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
        `Cannot compile kernel ${key}: ${(first?.message ?? said).trim().split("\n", 1)[0]}${where}`,
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

  #expand(name: string, flags: Flags, key: string): string {
    const source = this.#sources.get(`${name}.wgsl`);
    if (source === undefined)
      throw new Error(`Cannot compile ${key}: kernels/${name}.wgsl was not read when the device was opened`);
    return expand(source, flags, this.#sources);
  }
}

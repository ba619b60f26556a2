import { checkOptions, describeValue } from "../io/checks.ts";
import type { Device } from "./device.ts";
import { type Bound, declaredSource, type Grid, type Variant } from "./kernel.ts";
import { narrow } from "./launch.ts";
import { Pipeline } from "./pipeline.ts";
import {
  type BindingInfo,
  excerpt,
  expand,
  fits,
  included,
  type Flags,
  type Interface,
  outputsOf,
  reachableIn,
  reflect,
} from "./wgsl.ts";

/** Which pipeline a dispatch needs. */
export interface Request {
  readonly name: string;
  readonly entry: string;
  readonly variant: Variant;
}

const VARIANT = ["flags", "overrides"];

/** Tells pipelines apart. A dispatch of a variant that was seen before needs none; see Variants. */
function keyOf({ name, entry, variant }: Request): string {
  checkOptions(`run ${name}.${entry}`, variant, VARIANT);
  const sorted = (values: object = {}) => Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([name, entry, sorted(variant.flags), sorted(variant.overrides)]);
}

type Values = Readonly<Record<string, unknown>>;

/** Copies values and counts them. */
class Snapshot {
  readonly #values: Values;
  readonly #count: number;

  constructor(values: Values = {}) {
    this.#values = { ...values };
    this.#count = Object.keys(values).length;
  }

  /** Whether these are the same values; undefined ones never are. */
  fits(values: Values | undefined): boolean {
    let count = 0;
    for (const name in values) {
      const value = values[name];
      if (value === undefined || value !== this.#values[name]) return false;
      count++;
    }
    return count === this.#count;
  }
}

/** The pipelines of one entry point. There are few: comparing values is faster than making a key of them. */
class Variants {
  readonly #known: { readonly flags: Snapshot; readonly overrides: Snapshot; readonly pipeline: Pipeline }[] =
    [];

  find(variant: Variant): Pipeline | undefined {
    for (const key in variant) if (key !== "flags" && key !== "overrides") return undefined;
    const { flags, overrides } = variant;
    const known = this.#known;
    for (let i = 0; i < known.length; i++) {
      const each = known[i];
      if (!each.overrides.fits(overrides) || !each.flags.fits(flags)) continue;
      if (i > 0) {
        // Those in use move to the front.
        known[i] = known[i - 1];
        known[i - 1] = each;
      }
      return each.pipeline;
    }
    return undefined;
  }

  add({ flags, overrides }: Variant, pipeline: Pipeline): void {
    this.#known.push({ flags: new Snapshot(flags), overrides: new Snapshot(overrides), pipeline });
  }
}

/** A pipeline as messages and labels show it: with its flags and constants, where there are any. */
function show({ name, entry, variant }: Request): string {
  const values = [variant.flags, variant.overrides].filter((of) => of && Object.keys(of).length > 0);
  return [`${name}.${entry}`, ...values.map((of) => JSON.stringify(of))].join(" ");
}

function layoutEntry(b: BindingInfo): GPUBindGroupLayoutEntry {
  const storage = b.access === "read" ? "read-only-storage" : "storage";
  return {
    binding: b.binding,
    visibility: 4, // GPUShaderStage.COMPUTE; npm webgpu sets no globals unless asked
    buffer: b.access === "uniform" ? { type: "uniform", hasDynamicOffset: true } : { type: storage },
  };
}

/** A flag that the device sets, for kernels that name it: whether the workgroup is one subgroup; see kernels/lib/sum.wgsl. */
const BY_SUBGROUP = "bySubgroup";

/** A kernel's text with flags filled in, compiled, and what was read from it. */
interface Module {
  readonly module: GPUShaderModule;
  readonly text: string;
  readonly face: Interface;
  readonly reachable: (entry: string) => ReadonlySet<string>;
}

/** All kernels of one device: text, modules and pipelines, each made once. */
export class KernelLibrary {
  readonly #device: Device;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #modules = new Map<string, Module>();
  readonly #pipelines = new Map<string, Pipeline>();
  /** The same pipelines by kernel and entry point. */
  readonly #variants = new Map<string, Map<string, Variants>>();
  readonly #outputs = new Map<string, ReadonlySet<string>>();
  readonly #substitutes = new Map<string, string>();
  /** Whether a kernel's text names BY_SUBGROUP. */
  readonly #named = new Map<string, boolean>();
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

  /**
   * Takes another source for a kernel of the package, on this device alone, as one that tries a change of it does. Throws where
   * one of its pipelines was compiled.
   */
  substitute(kernel: string, source: string): void {
    if ([...this.#modules.keys()].some((key) => key.startsWith(`${kernel} `)))
      throw new Error(
        `Cannot substitute kernel ${kernel}: it was compiled, a device that has not run it expected`,
      );
    this.#substitutes.set(kernel, source);
    this.#outputs.delete(kernel);
    this.#named.delete(kernel);
  }

  /** The text of a kernel that is compiled with these flags and constants. */
  expanded(kernel: string, variant: Variant): string {
    const flags = this.#flagsOf(kernel, variant);
    const text = expand(this.#source(kernel), flags, this.#sources, kernel);
    return flags[BY_SUBGROUP] ? `enable subgroups;\n${text}` : text;
  }

  /** The flags of a variant, and BY_SUBGROUP where the kernel names it. */
  #flagsOf(kernel: string, { flags = {}, overrides }: Variant): Flags {
    if (!this.#namesSubgroup(kernel)) return flags;
    const { info } = this.#device;
    const one = info.path === "subgroups" && narrow(info) && overrides?.WG === info.subgroup;
    return { ...flags, [BY_SUBGROUP]: one };
  }

  #namesSubgroup(kernel: string): boolean {
    let names = this.#named.get(kernel);
    if (names === undefined) {
      try {
        names = this.textOf(kernel).includes(`\${${BY_SUBGROUP}}`);
      } catch {
        // An #include that cannot be: expand() says which, and of what kernel.
        return false;
      }
      this.#named.set(kernel, names);
    }
    return names;
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
    name: string,
    entry: string,
    variant: Variant,
    bound: Readonly<Record<string, Bound>>,
    dims: Readonly<Record<string, number>>,
    grid: Grid,
  ): void {
    if (this.#planned) this.#plan({ name, entry, variant }, this.#planned);
    else this.pipeline(name, entry, variant).run(this.#device, bound, dims, grid);
  }

  #plan(request: Request, planned: Map<string, Request>): void {
    const key = keyOf(request);
    if (!this.#pipelines.has(key)) planned.set(key, request);
  }

  /** The pipeline of an entry point with these flags and constants, compiled once. */
  pipeline(name: string, entry: string, variant: Variant): Pipeline {
    const known = this.#variants.get(name)?.get(entry)?.find(variant);
    return known ?? this.#compiled({ name, entry, variant });
  }

  #compiled(request: Request): Pipeline {
    const key = keyOf(request);
    const known = this.#pipelines.get(key);
    if (known) return known;
    const prepared = this.#prepare(request);
    const compiled = this.#device.gpu.createComputePipeline(prepared.descriptor);
    prepared.settle();
    const pipeline = prepared.finish(compiled);
    this.#add(key, request, pipeline);
    return pipeline;
  }

  #add(key: string, { name, entry, variant }: Request, pipeline: Pipeline): void {
    this.#pipelines.set(key, pipeline);
    const entries = this.#variants.get(name) ?? new Map<string, Variants>();
    this.#variants.set(name, entries);
    const variants = entries.get(entry) ?? new Variants();
    entries.set(entry, variants);
    variants.add(variant, pipeline);
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
        this.#add(key, request, prepared.finish(compiled));
        onProgress?.(++done, planned.size);
      }),
    );
  }

  /** Everything up to the compilation itself. An error that the GPU finds is thrown at the device's next await. */
  #prepare(request: Request) {
    const { name, entry, variant } = request;
    const label = show(request);
    const { overrides = {} } = variant;
    const device = this.#device;
    const { gpu } = device;
    const moduleKey = `${name} ${JSON.stringify(this.#flagsOf(name, variant))}`;
    const known = this.#modules.get(moduleKey);
    const text = known?.text ?? this.expanded(name, variant);
    const all = known?.face ?? reflect(text, name);
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
    const reachable = known?.reachable ?? reachableIn(text);
    const used = reachable(entry);
    const face = { ...all, bindings: all.bindings.filter((b) => used.has(b.name)) };
    gpu.pushErrorScope("validation");
    const module = known?.module ?? gpu.createShaderModule({ label: moduleKey, code: text });
    if (!known) this.#modules.set(moduleKey, { module, text, face: all, reachable });
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
    const source = this.#substitutes.get(name) ?? declaredSource(name) ?? this.#sources.get(`${name}.wgsl`);
    if (source === undefined)
      throw new Error(`Cannot find kernel ${name}: twin() declares it with its source`);
    return source;
  }
}

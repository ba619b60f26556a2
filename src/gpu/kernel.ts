/**
 * Twins: a kernel file and the TypeScript that runs it meet by name. Buffers and dims pass by their WGSL names; a
 * missing, unknown or aliased name throws here, before the GPU sees it.
 */
import type { Device } from "./device.ts";
import type { PoolBuffer } from "./pool.ts";
import { type DimsField, excerpt, expand, type Flags, type Interface, reflect } from "./wgsl.ts";

/** What a kernel can be bound to; Tensor is one. */
export interface Bound {
  readonly device: Device;
  readonly buffer: PoolBuffer;
}

export type Grid = readonly [x: number, y?: number, z?: number];

export interface Variant {
  /** Values of `${name}`: a new combination costs a shader module. */
  readonly flags?: Flags;
  /** Values of `override` constants: a new combination costs a pipeline. */
  readonly overrides?: Readonly<Record<string, number>>;
}

const declared = new Set<string>();

/** Names of all kernels that some op declared; openDevice() reads their files. */
export const declaredKernels = (): readonly string[] => [...declared];

export class Twin {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    declared.add(name);
  }

  /**
   * Records one dispatch of entry point `entry`.
   *
   * `buffers` and `dims` are keyed by WGSL name; `grid` counts workgroups.
   */
  run(
    entry: string,
    buffers: Readonly<Record<string, Bound>>,
    dims: Readonly<Record<string, number>>,
    grid: Grid,
    variant: Variant = {},
  ): void {
    let device: Device | undefined;
    for (const name in buffers) {
      device ??= buffers[name].device;
      if (buffers[name].device !== device)
        throw new Error(`Cannot run ${this.name}.${entry}: ${name} lives on another device`);
    }
    if (!device) throw new Error(`Cannot run ${this.name}.${entry}: no buffer was given`);
    device.kernels.pipeline(this.name, entry, variant).run(device, buffers, dims, grid);
  }
}

export const twin = (name: string): Twin => new Twin(name);

/** Identifiers that `entry` reaches through the functions it calls. A local named as a binding counts as that binding. */
function reachable(text: string, entry: string): Set<string> {
  const bodies = new Map<string, string>();
  for (const m of text.matchAll(/\bfn\s+(\w+)\s*\(/g)) {
    const open = text.indexOf("{", m.index);
    let depth = 0;
    let end = open;
    for (; end < text.length; end++) {
      if (text[end] === "{") depth++;
      else if (text[end] === "}" && --depth === 0) break;
    }
    bodies.set(m[1], text.slice(m.index, end + 1));
  }
  const seen = new Set<string>();
  const queue = [entry];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const body = bodies.get(name);
    if (body === undefined) continue;
    // Not what stands behind a dot: `wg.y` names no binding y.
    for (const id of body.matchAll(/(?<![.\w])[A-Za-z_]\w*/g)) {
      if (seen.has(id[0])) continue;
      seen.add(id[0]);
      queue.push(id[0]);
    }
  }
  return seen;
}

const setters = {
  u32: (v: DataView, at: number, x: number) => v.setUint32(at, x, true),
  i32: (v: DataView, at: number, x: number) => v.setInt32(at, x, true),
  f32: (v: DataView, at: number, x: number) => v.setFloat32(at, x, true),
};

/** One compiled entry point with its layout, and the bind groups made for it so far. */
export class Pipeline {
  readonly label: string;
  readonly #interface: Interface;
  readonly #layout: GPUBindGroupLayout;
  readonly #pipeline: GPUComputePipeline;
  readonly #groups = new Map<string, GPUBindGroup>();

  constructor(label: string, face: Interface, layout: GPUBindGroupLayout, pipeline: GPUComputePipeline) {
    this.label = label;
    this.#interface = face;
    this.#layout = layout;
    this.#pipeline = pipeline;
  }

  run(
    device: Device,
    bound: Readonly<Record<string, Bound>>,
    dims: Readonly<Record<string, number>>,
    grid: Grid,
  ): void {
    const { bindings } = this.#interface;
    const buffers: PoolBuffer[] = [];
    let key = "";
    let writable: Set<number> | undefined;
    for (const b of bindings) {
      if (b.access === "uniform") continue;
      const buffer = bound[b.name]?.buffer;
      if (!buffer) throw new Error(`Cannot run ${this.label}: no buffer was given for ${b.name}`);
      if (b.access === "read_write") {
        writable ??= new Set();
        if (writable.has(buffer.id))
          throw new Error(`Cannot run ${this.label}: ${b.name} shares its buffer with another output`);
        writable.add(buffer.id);
      }
      buffers.push(buffer);
      key += `${buffer.id},`;
    }
    for (const name in bound)
      if (!bindings.some((b) => b.name === name))
        throw new Error(`Cannot run ${this.label}: the kernel binds no ${name}`);
    let at = 0;
    for (const b of bindings) {
      if (b.access === "uniform") continue;
      const buffer = buffers[at++];
      if (b.access === "read" && writable?.has(buffer.id))
        throw new Error(`Cannot run ${this.label}: input ${b.name} shares its buffer with an output`);
    }
    const [x, y = 1, z = 1] = grid;
    const most = device.limits.maxComputeWorkgroupsPerDimension;
    if (x > most || y > most || z > most)
      throw new RangeError(
        `Cannot run ${this.label}: a grid of ${x}×${y}×${z} workgroups exceeds ${most} in one dimension`,
      );
    if (x === 0 || y === 0 || z === 0) return;
    const group = this.#groups.get(key) ?? this.#bind(device, key, buffers);
    const { offset, view } = device.recorder.slot();
    this.#fill(view, dims);
    device.recorder.dispatch(
      { pipeline: this.#pipeline, group, buffers, grid: [x, y, z], label: device.profileLabel(this.label) },
      offset,
    );
  }

  /** Drops the bind groups that name a destroyed buffer. */
  forget(id: number): void {
    for (const key of this.#groups.keys()) if (`,${key}`.includes(`,${id},`)) this.#groups.delete(key);
  }

  #fill(view: DataView, dims: Readonly<Record<string, number>>): void {
    const fields: readonly DimsField[] = this.#interface.dims;
    for (let i = 0; i < fields.length; i++) {
      const value = dims[fields[i].name];
      if (value === undefined)
        throw new Error(`Cannot run ${this.label}: Dims.${fields[i].name} was not given`);
      setters[fields[i].type](view, 4 * i, value);
    }
    for (const name in dims)
      if (!fields.some((f) => f.name === name))
        throw new Error(`Cannot run ${this.label}: Dims has no ${name}`);
  }

  #bind(device: Device, key: string, buffers: readonly PoolBuffer[]): GPUBindGroup {
    let at = 0;
    const entries = this.#interface.bindings.map((b) => ({
      binding: b.binding,
      resource:
        b.access === "uniform" ? { buffer: device.recorder.arena, size: 256 } : { buffer: buffers[at++].gpu },
    }));
    const group = device.gpu.createBindGroup({ label: this.label, layout: this.#layout, entries });
    device.counters.bindGroups++;
    this.#groups.set(key, group);
    return group;
  }
}

/** All kernels of one device: text, modules and pipelines, each made once. */
export class KernelLibrary {
  readonly #device: Device;
  readonly #sources: ReadonlyMap<string, string>;
  readonly #modules = new Map<string, { module: GPUShaderModule; text: string }>();
  readonly #pipelines = new Map<string, Pipeline>();

  /** `sources` maps file names inside kernels/ to their text. */
  constructor(device: Device, sources: ReadonlyMap<string, string>) {
    this.#device = device;
    this.#sources = sources;
  }

  get size(): number {
    return this.#pipelines.size;
  }

  forget(buffer: PoolBuffer): void {
    for (const p of this.#pipelines.values()) p.forget(buffer.id);
  }

  pipeline(name: string, entry: string, { flags = {}, overrides = {} }: Variant): Pipeline {
    const key = `${name}.${entry} ${JSON.stringify(flags)} ${JSON.stringify(overrides)}`;
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#compile(name, entry, flags, overrides, key);
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  #compile(
    name: string,
    entry: string,
    flags: Flags,
    overrides: Record<string, number>,
    key: string,
  ): Pipeline {
    const device = this.#device;
    const gpu = device.gpu;
    const moduleKey = `${name} ${JSON.stringify(flags)}`;
    const known = this.#modules.get(moduleKey);
    const text = known?.text ?? this.#expand(name, flags, key);
    gpu.pushErrorScope("validation");
    const module = known?.module ?? gpu.createShaderModule({ label: moduleKey, code: text });
    this.#modules.set(moduleKey, { module, text });
    const used = reachable(text, entry);
    const all = reflect(text);
    const face: Interface = { bindings: all.bindings.filter((b) => used.has(b.name)), dims: all.dims };
    const layout = gpu.createBindGroupLayout({
      label: key,
      entries: face.bindings.map((b) => ({
        binding: b.binding,
        visibility: 4,
        buffer:
          b.access === "uniform"
            ? { type: "uniform" as const, hasDynamicOffset: true }
            : { type: b.access === "read" ? ("read-only-storage" as const) : ("storage" as const) },
      })),
    });
    // Only overrides that this entry point reaches may be named; the rest of the file's belong to its other entries.
    const constants = Object.fromEntries(
      Object.entries(overrides).filter(([k]) => new RegExp(`\\boverride\\s+${k}\\b`).test(text)),
    );
    const pipeline = gpu.createComputePipeline({
      label: key,
      layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: entry, constants },
    });
    device.counters.pipelines++;
    device.watch(gpu.popErrorScope.bind(gpu), async (error) => {
      const info = await device.host.quiet(() => module.getCompilationInfo());
      const first = info.messages.find((m) => m.type === "error");
      const line = first?.lineNum ?? Number(/:(\d+):\d+/.exec(error.message)?.[1] ?? 0);
      const where = line > 0 ? `\n${excerpt(text, line)}` : "";
      // wgpu draws the source over several lines; ours follows anyway.
      const said = (first?.message ?? error.message).trim().split("\n", 1)[0];
      return new Error(`Cannot compile kernel ${key}: ${said}${where}`);
    });
    return new Pipeline(`${name}.${entry}`, face, layout, pipeline);
  }

  #expand(name: string, flags: Flags, key: string): string {
    const source = this.#sources.get(`${name}.wgsl`);
    if (source === undefined)
      throw new Error(`Cannot compile ${key}: kernels/${name}.wgsl was not read when the device was opened`);
    return expand(source, flags, this.#sources);
  }
}

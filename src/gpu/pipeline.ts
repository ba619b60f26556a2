import { describeValue } from "../io/checks.ts";
import type { BoundGroup } from "./bind_groups.ts";
import type { Device } from "./device.ts";
import { type Bound, declaredSource, type Grid } from "./kernel.ts";
import type { PoolBuffer } from "./pool.ts";
import type { Recorder } from "./recorder.ts";
import type { DimsField, Interface, Scalar } from "./wgsl.ts";

function countKeys(record: object): number {
  let count = 0;
  for (const _ in record) count++;
  return count;
}

const isCount = (n: number): boolean => Number.isInteger(n) && n >= 0;

/** A storage buffer of the entry point. */
type Slot = Interface["bindings"][number] & { readonly access: "read" | "read_write" };

/** One compiled entry point with its layout. A dispatch of buffers that met before in it makes no object. */
export class Pipeline {
  readonly label: string;
  readonly #id: number;
  readonly #slots: readonly Slot[];
  readonly #bindings: Interface["bindings"];
  readonly #fields: readonly DimsField[];
  /** Whether the entry point reads Dims. */
  readonly #takesDims: boolean;
  readonly #layout: GPUBindGroupLayout;
  readonly #pipeline: GPUComputePipeline;
  /** What the dispatch binds that is being recorded. */
  readonly #buffers: PoolBuffer[];
  #ran = false;

  /** `id` tells the pipelines of a device apart. */
  constructor(
    id: number,
    label: string,
    face: Interface,
    layout: GPUBindGroupLayout,
    pipeline: GPUComputePipeline,
  ) {
    this.#id = id;
    this.label = label;
    this.#bindings = face.bindings;
    this.#slots = face.bindings.filter((b): b is Slot => b.access !== "uniform");
    this.#fields = face.dims;
    this.#takesDims = this.#slots.length < face.bindings.length;
    this.#layout = layout;
    this.#pipeline = pipeline;
    this.#buffers = new Array(this.#slots.length);
  }

  run(
    device: Device,
    bound: Readonly<Record<string, Bound>>,
    dims: Readonly<Record<string, number>>,
    grid: Grid,
  ): void {
    const slots = this.#slots;
    const buffers = this.#buffers;
    for (let i = 0; i < slots.length; i++) {
      const { name, element } = slots[i];
      const given = bound[name];
      const buffer = given?.buffer;
      if (!buffer) throw new Error(`Cannot run ${this.label}: no buffer was given for ${name}`);
      if (element !== undefined && given.dtype !== undefined && given.dtype !== element)
        throw this.#misread(name, given.dtype, element);
      buffers[i] = buffer;
    }
    // All that is bound was given: one more name is one that the kernel does not know.
    const unknown =
      countKeys(bound) > slots.length && Object.keys(bound).find((n) => !slots.some((s) => s.name === n));
    if (unknown) throw new Error(`Cannot run ${this.label}: the kernel binds no ${unknown}`);
    const { recorder } = device;
    if (!Array.isArray(grid))
      throw new TypeError(
        `Cannot run ${this.label}: its grid is ${describeValue(grid)} but should be [x, y, z], numbers of workgroups`,
      );
    const x = grid[0];
    const y = grid[1] ?? 1;
    const z = grid[2] ?? 1;
    if (!(isCount(x) && isCount(y) && isCount(z)))
      throw new RangeError(
        `Cannot run ${this.label}: a grid is ${x}×${y}×${z}, whole numbers of workgroups expected`,
      );
    const most = recorder.mostWorkgroups;
    if (x > most || y > most || z > most)
      throw new RangeError(
        `Cannot run ${this.label}: a grid of ${x}×${y}×${z} workgroups exceeds ${most} in one dimension`,
      );
    const group = device.bindGroups.find(this.#id, buffers) ?? this.#bind(device);
    if (x === 0 || y === 0 || z === 0) {
      recorder.capturing?.skip(dims);
      return;
    }
    const { capturing } = recorder;
    if (capturing)
      for (const [i, { name, access }] of slots.entries())
        if (access === "read_write") capturing.checkWrite(this.label, name, buffers[i]);
    this.#fill(recorder, recorder.room(), dims);
    const label = recorder.profiler || capturing ? device.profileLabel(this.label) : this.label;
    recorder.dispatch(this.#pipeline, group, this.#takesDims, x, y, z, label);
    capturing?.fill(this.label, dims, this.#fields);
    if (this.#ran) return;
    this.#ran = true;
    // A CPU adapter compiles at the first dispatch: submitted at once, it does so beside the recording of the next ones.
    if (device.info.cpu && !capturing && !recorder.profiler) recorder.flush();
  }

  #misread(name: string, dtype: string, element: Scalar): TypeError {
    const own = declaredSource(this.label.slice(0, this.label.lastIndexOf("."))) !== undefined;
    const hint = own && element === "u32" ? "; array<Bits> after `alias Bits = u32` takes any" : "";
    return new TypeError(`Cannot run ${this.label}: ${name} is ${dtype} but should be ${element}${hint}`);
  }

  /** Writes Dims from the word `at` of the arena on. */
  #fill({ u32, i32, f32 }: Recorder, at: number, dims: Readonly<Record<string, number>>): void {
    const fields = this.#fields;
    for (let i = 0; i < fields.length; i++) {
      const { name, type } = fields[i];
      const value = dims[name];
      if (type === "u32") {
        if (value >>> 0 !== value) throw this.#misfit(fields[i], value);
        u32[at + i] = value;
      } else if (type === "f32") {
        if (typeof value !== "number") throw this.#misfit(fields[i], value);
        f32[at + i] = value;
      } else {
        if ((value | 0) !== value) throw this.#misfit(fields[i], value);
        i32[at + i] = value;
      }
    }
    const unknown =
      countKeys(dims) > fields.length && Object.keys(dims).find((n) => !fields.some((f) => f.name === n));
    if (unknown) throw new Error(`Cannot run ${this.label}: Dims has no ${unknown}`);
  }

  #misfit({ name, type }: DimsField, value: unknown): Error {
    if (value === undefined) return new Error(`Cannot run ${this.label}: Dims.${name} was not given`);
    return new RangeError(`Cannot run ${this.label}: Dims.${name} is ${value}, a value of ${type} expected`);
  }

  /** A bind group of the buffers that are being bound. Throws where what is written is bound twice. */
  #bind(device: Device): BoundGroup {
    const [slots, buffers] = [this.#slots, this.#buffers];
    const sharing = (i: number, j: number) => i !== j && buffers[i].id === buffers[j].id;
    for (const [i, { name, access }] of slots.entries()) {
      const other = slots.findIndex((s, j) => s.access === "read_write" && sharing(i, j));
      if (other < 0) continue;
      const shown = access === "read" ? `input ${name}` : slots[Math.max(i, other)].name;
      const what = access === "read" ? "an output" : "another output";
      throw new Error(`Cannot run ${this.label}: ${shown} shares its buffer with ${what}`);
    }
    let at = 0;
    const entries = this.#bindings.map((b) => ({
      binding: b.binding,
      resource:
        b.access === "uniform" ? { buffer: device.recorder.arena, size: 256 } : { buffer: buffers[at++].gpu },
    }));
    device.counters.bindGroups++;
    const group = device.gpu.createBindGroup({ label: this.label, layout: this.#layout, entries });
    return device.bindGroups.add(this.#id, buffers, group);
  }
}

import { describeValue } from "../io/checks.ts";
import type { Device } from "./device.ts";
import { type Bound, declaredSource, type Grid } from "./kernel.ts";
import type { PoolBuffer } from "./pool.ts";
import type { DimsField, Interface, Scalar } from "./wgsl.ts";

/** Each writes a value at a byte, and answers whether it is one of the type. */
const setters = {
  u32(v: DataView, at: number, x: number): boolean {
    v.setUint32(at, x, true);
    return x >>> 0 === x;
  },
  i32(v: DataView, at: number, x: number): boolean {
    v.setInt32(at, x, true);
    return (x | 0) === x;
  },
  f32(v: DataView, at: number, x: number): boolean {
    v.setFloat32(at, x, true);
    return typeof x === "number";
  },
};

function countKeys(record: object): number {
  let count = 0;
  for (const _ in record) count++;
  return count;
}

const isCount = (n: number): boolean => Number.isInteger(n) && n >= 0;

/** One compiled entry point with its layout. */
export class Pipeline {
  readonly label: string;
  /** Stands before its buffers in the keys of bind groups. */
  readonly #key: string;
  readonly #interface: Interface;
  /** Whether the entry point reads Dims. */
  readonly #takesDims: boolean;
  readonly #layout: GPUBindGroupLayout;
  readonly #pipeline: GPUComputePipeline;

  /** `id` tells the pipelines of a device apart. */
  constructor(
    id: number,
    label: string,
    face: Interface,
    layout: GPUBindGroupLayout,
    pipeline: GPUComputePipeline,
  ) {
    this.#key = `${id}:`;
    this.label = label;
    this.#interface = face;
    this.#takesDims = face.bindings.some((b) => b.access === "uniform");
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
    let key = this.#key;
    let writable: Set<number> | undefined;
    for (const b of bindings) {
      if (b.access === "uniform") continue;
      const given = bound[b.name];
      const buffer = given?.buffer;
      if (!buffer) throw new Error(`Cannot run ${this.label}: no buffer was given for ${b.name}`);
      if (b.element !== undefined && given.dtype !== undefined && given.dtype !== b.element)
        throw this.#misread(b.name, given.dtype, b.element);
      if (b.access === "read_write") {
        writable ??= new Set();
        if (writable.has(buffer.id))
          throw new Error(`Cannot run ${this.label}: ${b.name} shares its buffer with another output`);
        writable.add(buffer.id);
      }
      buffers.push(buffer);
      key += `${buffer.id},`;
    }
    // All that is bound was given: one more name is one that the kernel does not know.
    const unknown =
      countKeys(bound) > buffers.length &&
      Object.keys(bound).find((n) => !bindings.some((b) => b.name === n));
    if (unknown) throw new Error(`Cannot run ${this.label}: the kernel binds no ${unknown}`);
    let at = 0;
    for (const b of bindings) {
      if (b.access === "uniform") continue;
      const buffer = buffers[at++];
      if (b.access === "read" && writable?.has(buffer.id))
        throw new Error(`Cannot run ${this.label}: input ${b.name} shares its buffer with an output`);
    }
    if (!Array.isArray(grid))
      throw new TypeError(
        `Cannot run ${this.label}: its grid is ${describeValue(grid)} but should be [x, y, z], numbers of workgroups`,
      );
    const [x, y = 1, z = 1]: Grid = grid as Grid;
    if (!(isCount(x) && isCount(y) && isCount(z)))
      throw new RangeError(
        `Cannot run ${this.label}: a grid is ${x}×${y}×${z}, whole numbers of workgroups expected`,
      );
    const most = device.limits.maxComputeWorkgroupsPerDimension;
    if (x > most || y > most || z > most)
      throw new RangeError(
        `Cannot run ${this.label}: a grid of ${x}×${y}×${z} workgroups exceeds ${most} in one dimension`,
      );
    if (x === 0 || y === 0 || z === 0) return;
    const { bindGroups } = device;
    const group = bindGroups.find(key) ?? bindGroups.add(key, buffers, this.#bind(device, buffers));
    const { offset, view } = device.recorder.slot();
    this.#fill(view, dims);
    device.recorder.dispatch(
      { pipeline: this.#pipeline, group, buffers, grid: [x, y, z], label: device.profileLabel(this.label) },
      this.#takesDims ? [offset] : [],
    );
  }

  #misread(name: string, dtype: string, element: Scalar): TypeError {
    const own = declaredSource(this.label.slice(0, this.label.lastIndexOf("."))) !== undefined;
    const hint = own && element === "u32" ? "; array<Bits> after `alias Bits = u32` takes any" : "";
    return new TypeError(`Cannot run ${this.label}: ${name} is ${dtype} but should be ${element}${hint}`);
  }

  #fill(view: DataView, dims: Readonly<Record<string, number>>): void {
    const fields: readonly DimsField[] = this.#interface.dims;
    for (let i = 0; i < fields.length; i++) {
      const value = dims[fields[i].name];
      if (value === undefined)
        throw new Error(`Cannot run ${this.label}: Dims.${fields[i].name} was not given`);
      if (!setters[fields[i].type](view, 4 * i, value))
        throw new RangeError(
          `Cannot run ${this.label}: Dims.${fields[i].name} is ${value}, a value of ${fields[i].type} expected`,
        );
    }
    const unknown =
      countKeys(dims) > fields.length && Object.keys(dims).find((n) => !fields.some((f) => f.name === n));
    if (unknown) throw new Error(`Cannot run ${this.label}: Dims has no ${unknown}`);
  }

  #bind(device: Device, buffers: readonly PoolBuffer[]): GPUBindGroup {
    let at = 0;
    const entries = this.#interface.bindings.map((b) => ({
      binding: b.binding,
      resource:
        b.access === "uniform" ? { buffer: device.recorder.arena, size: 256 } : { buffer: buffers[at++].gpu },
    }));
    device.counters.bindGroups++;
    return device.gpu.createBindGroup({ label: this.label, layout: this.#layout, entries });
  }
}

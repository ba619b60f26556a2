/**
 * Twins: a kernel file and the TypeScript that runs it meet by name. Buffers and dims pass by their WGSL names; a
 * missing, unknown or aliased name throws here, before the GPU sees it.
 */
import type { Device } from "./device.ts";
import type { PoolBuffer } from "./pool.ts";
import type { Flags } from "./wgsl.ts";

/** What a kernel can be bound to; Tensor is one. */
export interface Bound {
  readonly device: Device;
  readonly buffer: PoolBuffer;
}

/** Told of what is done on a device; a tape's, while one runs. */
export interface Watcher {
  /** A dispatch of `kernel`; `outputs` are the names of the buffers that it writes. */
  ran?(kernel: string, bound: Readonly<Record<string, Bound>>, outputs: ReadonlySet<string>): void;
  /** A view that shares another's buffer. */
  viewed?(view: Bound): void;
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
    device.watcher?.ran?.(`${this.name}.${entry}`, buffers, device.kernels.outputsOf(this.name));
    device.kernels.run({ name: this.name, entry, variant }, buffers, dims, grid);
  }
}

export const twin = (name: string): Twin => new Twin(name);

/**
 * Twins: a kernel and the TypeScript that runs it, matched by name. Buffers, dims and overrides pass by their WGSL names; a
 * missing, unknown or aliased name throws here, before the GPU sees it.
 */
import { describeValue } from "../io/checks.ts";
import type { Costs } from "./cost.ts";
import type { Device } from "./device.ts";
import { KERNELS, type KernelName } from "./launch.ts";
import type { PoolBuffer } from "./pool.ts";
import type { Flags } from "./wgsl.ts";

/** What a kernel can be bound to; Tensor is one. */
export interface Bound {
  /** Where the buffer lives. */
  readonly device: Device;
  /** What is bound. */
  readonly buffer: PoolBuffer;
  /** What its elements are: checked against the WGSL where it is given. */
  readonly dtype?: string;
  /** Of its elements; the buffer may be larger. */
  readonly bytes?: number;
}

/** Is called for what is recorded on a device. A tape sets one while it runs. */
export interface Watcher {
  /** A dispatch of `kernel`, before it is recorded; `outputs` are the names of the buffers that it writes. */
  ran?(kernel: string, bound: Readonly<Record<string, Bound>>, outputs: ReadonlySet<string>): void;
  /** A view that shares another's buffer. */
  viewed?(view: Bound): void;
  /** A write from the CPU, before it happens. */
  wrote?(written: Bound): void;
}

/** Numbers of workgroups; y and z are 1 where they are left out. */
export type Grid = readonly [x: number, y?: number, z?: number];

/** Which variant of a kernel is compiled. */
export interface Variant {
  /** Values of `${name}`: a new combination costs a shader module. */
  readonly flags?: Flags;
  /** Values of `override` constants: a new combination costs a pipeline. */
  readonly overrides?: Readonly<Record<string, number>>;
}

const PLAIN: Variant = {};

/** A kernel that was declared by twin(): run() records its dispatches. */
export class Twin {
  /** As it was declared. */
  readonly name: string;
  /** What its entry points cost. */
  readonly costs: Costs;

  /** For twin(). */
  constructor(name: string, costs: Costs) {
    this.name = name;
    this.costs = costs;
  }

  /**
   * Records one dispatch of the entry point `entry`; its pipeline is compiled the first time.
   *
   * `buffers` has every storage buffer that the entry point uses and `dims` every field of `Dims`, by their WGSL names;
   * `grid` counts workgroups, and an empty one does nothing. A buffer that is written may not be bound twice. Throws where
   * a name, a dtype, a value or a size does not fit; what the GPU itself refuses, WGSL above all, is thrown at the device's next
   * await.
   */
  run(
    entry: string,
    buffers: Readonly<Record<string, Bound>>,
    dims: Readonly<Record<string, number>>,
    grid: Grid,
    variant: Variant = PLAIN,
  ): void {
    let device: Device | undefined;
    for (const name in buffers) {
      const on = buffers[name]?.device;
      device ??= on;
      if (on === undefined || on !== device) throw this.#misplaced(entry, name, buffers[name]);
    }
    if (!device) throw new Error(`Cannot run ${this.name}.${entry}: no buffer was given`);
    device.watcher?.ran?.(`${this.name}.${entry}`, buffers, device.kernels.outputsOf(this.name));
    const { observer } = device.recorder;
    if (!observer) device.kernels.run(this.name, entry, variant, buffers, dims, grid);
    else
      observer.observe({ twin: this, entry, bound: buffers, dims, grid, variant }, () =>
        device.kernels.run(this.name, entry, variant, buffers, dims, grid),
      );
  }

  #misplaced(entry: string, name: string, given: Bound | undefined): Error {
    const cannot = `Cannot run ${this.name}.${entry}: ${name}`;
    if (given?.device) return new Error(`${cannot} lives on another device`);
    const meant = typeof given === "object" && "value" in given ? ", as its value is" : "";
    return new TypeError(`${cannot} is ${describeValue(given)} but should be a tensor${meant}`);
  }
}

const packaged: ReadonlySet<string> = new Set(KERNELS);
/** Sources of the kernels that are not the package's, by name. */
const sources = new Map<string, string>();

/** The source that a kernel was declared with; undefined for one of the package. */
export const declaredSource = (name: string): string | undefined => sources.get(name);

/**
 * Declares a kernel: by its name alone one of the package, with `source`, its WGSL, one of your own, before or after a
 * device is opened. Names of your own are like `rope` or `my-package/rope`. Throws where the package has the name, or where
 * it was declared with another source.
 *
 * - Entry points: as many `@compute` functions as you like, the backward beside the forward. record() joins the two.
 * - Bindings: storage buffers of group 0, `read` or `read_write`. The entry point needs only those that it uses. A tensor
 *   must be of the type that the array is made of: f32 for `array<vec4f>`. Arrays of structs take any, and so does
 *   `array<Bits>` after `alias Bits = u32;`, for kernels that go by the bits.
 * - Dims: one `struct Dims` of up to 64 `u32`, `i32` or `f32`, bound as the only uniform. May be absent.
 * - Overrides: `override` constants, given as `{ overrides: { WG: 128 } }`; each has the default of the WGSL.
 * - Flags: `${name}` anywhere in the text is replaced by `{ flags: { name: value } }`, and `#if ${name}`, `#elif ${name}`,
 *   `#else`, `#endif` choose lines. All that the text names must be given, and no others. In a template literal write `\${`.
 * - `#unroll i 4` … `#endunroll` repeats the lines between with `$i` = 0 … 3; the count may be the name of a flag.
 * - Costs: `{ forward: ({ dims, bytes }) => ({ flops: dims.size, bytes: bytes("x") + bytes("y") }) }`, by which `wavegate
 *   profile` says how fast an entry point is. May be absent.
 * - `#include "lib/x.wgsl"` puts in a file that the package's kernels share: `exp` (accurate_exp), `gelu`, `sigmoid` (of vec4f),
 *   `grid` (linear_id), `random` (random_bits), `workgroup_sum` and `workgroup_max`. The last two are `workgroup_sum(t, value)`
 *   over the threads t = 0 … WG − 1 of a workgroup: WG is an override of yours, a power of two; all threads call it, and all
 *   get the result. They declare `partial` and `highest` in workgroup memory: names that are then taken. `sum`, `sum2` and `max`
 *   have the same functions, and are without barriers where WG is the subgroup of a CPU adapter: for kernels that share nothing
 *   else between threads.
 *
 * @example
 * ```ts
 * const square = twin("square", [
 *   "struct Dims { size: u32 }",
 *   "@group(0) @binding(0) var<storage, read> x: array<f32>;",
 *   "@group(0) @binding(1) var<storage, read_write> y: array<f32>;",
 *   "@group(0) @binding(2) var<uniform> d: Dims;",
 *   "override WG: u32 = 64;",
 *   '#include "lib/grid.wgsl"',
 *   "@compute @workgroup_size(WG)",
 *   "fn forward(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u,",
 *   "           @builtin(local_invocation_index) t: u32) {",
 *   "  let i = linear_id(wg, groups, t, WG);",
 *   "  if (i < d.size) { y[i] = x[i] * x[i]; }",
 *   "}",
 * ].join("\n"));
 * const x = Tensor.from(device, Float32Array.of(1, 2, 3), [3]);
 * const y = x.like();
 * square.run("forward", { x, y }, { size: x.size }, gridFor(x.size, 64));
 * console.log(await y.read()); // [1, 4, 9]
 * ```
 */
export function twin(name: KernelName, costs: Costs): Twin;
/** As above, for a kernel of your own. Without `costs` a profile shows no FLOPs, and takes all that is bound as moved once. */
export function twin(name: string, source: string, costs?: Costs): Twin;
export function twin(name: string, source: string | Costs, costs: Costs = {}): Twin {
  if (typeof source !== "string") {
    if (!packaged.has(name))
      throw new Error(
        `Cannot declare kernel ${name}: the package has none of that name, its WGSL source expected`,
      );
    return new Twin(name, source ?? {});
  }
  if (packaged.has(name))
    throw new Error(`Cannot declare kernel ${name}: the package has one of that name, another name expected`);
  if (!/^[\w@][\w@./-]*$/.test(name))
    throw new Error(
      `Cannot declare kernel ${JSON.stringify(name)}: a name of letters, digits and _ @ . / - expected`,
    );
  if ((sources.get(name) ?? source) !== source)
    throw new Error(
      `Cannot declare kernel ${name}: it was declared with another source, one source a name expected`,
    );
  sources.set(name, source);
  return new Twin(name, costs);
}

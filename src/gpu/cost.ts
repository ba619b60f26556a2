/**
 * What a dispatch has to do: arithmetic and traffic, by which its time is judged. Declared with a kernel's twin, evaluated
 * where a profile or a plan wants it, and never else.
 *
 * FLOPs as the field counts them, by what an operator is defined as and not by how a kernel computes it: an addition, a
 * product, a quotient, a comparison, a root, exp, log, erf and tanh are one each, a fused multiply-add two. Integer work and
 * moves are none. Bytes are the least traffic with global memory: every input is read once, every output written once, and
 * what is updated in place counts twice.
 */
import type { Bound, Grid, Twin, Variant } from "./kernel.ts";

/** Which peak of an adapter a kernel's arithmetic is held to. */
export type Unit = "f32" | "f16" | "matrix";

/** What a dispatch costs. */
export interface Cost {
  /** Operations on floating-point numbers. */
  readonly flops: number;
  /** Bytes of global memory, at least. */
  readonly bytes: number;
  /** "f32" by default. */
  readonly unit?: Unit;
  /** What a profile shows as the shape, where the dims do not say it well. */
  readonly shape?: Readonly<Record<string, number>>;
}

/** What a cost is computed from. */
export interface Costed {
  /** As they were given to run(). */
  readonly dims: Readonly<Record<string, number>>;
  /** Numbers of workgroups. */
  readonly grid: readonly [x: number, y: number, z: number];
  /** Flags and overrides. */
  readonly variant: Variant;
  /** Bytes of each tensor that is bound, by its WGSL name; 0 for one that is not. */
  readonly bytes: (name: string) => number;
  /** Elements of each tensor that is bound, likewise. */
  readonly size: (name: string) => number;
  /** Whether two names are bound to one buffer. */
  readonly same: (a: string, b: string) => boolean;
}

/** A function for each entry point. */
export type Costs = Readonly<Record<string, (given: Costed) => Cost>>;

/** Bytes of some tensors that are read or written once, as a whole. */
export const moved = (bytes: Costed["bytes"], ...names: readonly string[]): number =>
  names.reduce((sum, name) => sum + bytes(name), 0);

/** So many FLOPs for each element of the tensor `of`, where all tensors named are moved once. */
export const pointwise =
  (flops: number, of: string, ...others: readonly string[]) =>
  ({ bytes, size }: Costed): Cost => ({ flops: flops * size(of), bytes: moved(bytes, of, ...others) });

/** A dispatch as run() was given it. */
export interface Run {
  readonly twin: Twin;
  readonly entry: string;
  readonly bound: Readonly<Record<string, Bound>>;
  readonly dims: Readonly<Record<string, number>>;
  readonly grid: Grid;
  readonly variant: Variant;
}

/** Sees every dispatch before it is recorded: a profile, or a plan. */
export interface Observer {
  /** `record` records it. */
  observe(run: Run, record: () => void): void;
}

/** What a dispatch is, apart from when it ran. */
export interface Dispatched {
  /** The kernel's name. */
  readonly kernel: string;
  /** Its entry point. */
  readonly entry: string;
  /** The dims that say how much there is to do. */
  readonly shape: Readonly<Record<string, number>>;
  /** Numbers of workgroups. */
  readonly grid: readonly [x: number, y: number, z: number];
  /** Flags and overrides in short: "vec W=f32 ROWS=16 WG=64". */
  readonly variant: string;
  /** As the kernel declares them; undefined where it declares none. */
  readonly flops: number | undefined;
  /** Least traffic with global memory; all that is bound where the kernel declares none. */
  readonly bytes: number;
  /** Which peak of arithmetic it is held to. */
  readonly unit: Unit;
}

/** Sizes are named by capitals, M or Tq, or by one of these; strides, offsets, switches and factors are not. */
const SIZE = /^(?:[A-Z][a-z]?|k|n|quads|pairs|size|rows|count)$/;

/** What is worth reading of Dims: the sizes, or all whole numbers where none is named as one. */
function shapeOf(dims: Readonly<Record<string, number>>): Record<string, number> {
  const whole = Object.entries(dims).filter(([, value]) => Number.isInteger(value) && value > 0);
  const sizes = whole.filter(([name]) => SIZE.test(name));
  return Object.fromEntries(sizes.length > 0 ? sizes : whole);
}

function showVariant({ flags = {}, overrides = {} }: Variant): string {
  const shown = (name: string, value: string | number | boolean) =>
    value === true ? name : `${name}=${value}`;
  const chosen = Object.entries(flags).filter(([name, value]) => name !== "enables" && value);
  return [...chosen, ...Object.entries(overrides)].map(([name, value]) => shown(name, value)).join(" ");
}

/** What a dispatch is and costs. */
export function describeRun({ twin, entry, bound, dims, grid, variant }: Run): Dispatched {
  const [x, y = 1, z = 1] = grid;
  const bytes = (name: string): number => {
    const given = bound[name];
    return given ? (given.bytes ?? given.buffer.bytes) : 0;
  };
  const size = (name: string): number => bytes(name) / (bound[name]?.dtype === "f16" ? 2 : 4);
  const same = (a: string, b: string) => bound[a]?.buffer === bound[b]?.buffer;
  const cost = twin.costs[entry]?.({ dims, grid: [x, y, z], variant, bytes, size, same });
  return {
    kernel: twin.name,
    entry,
    shape: cost?.shape ?? shapeOf(dims),
    grid: [x, y, z],
    variant: showVariant(variant),
    flops: cost?.flops,
    bytes: cost?.bytes ?? moved(bytes, ...Object.keys(bound)),
    unit: cost?.unit ?? "f32",
  };
}

/** Where in a model and in a step a dispatch belongs. */
export interface Place {
  /** "forward", "backward", "optimizer"; "" outside of a training step. */
  readonly phase: string;
  /** Part of a system, as "speech encoder"; "" where none was named. */
  readonly part: string;
  /** What labelled() says, joined by dots; "" where nothing. */
  readonly layer: string;
}

/** A dispatch that a plan holds. */
export interface PlannedDispatch extends Dispatched, Place {}

/**
 * What is known of an operator, told once: its record, as PyTorch's OpInfo. The gradient check, the test of the paths that
 * kernels can go, the doctor's self-test, the bench and `wavegate validate` all go by it. A file here that exports
 * `records` is found by its folder; no list names it.
 *
 *     // src/records/softplus.ts
 *     export const records = [
 *       defineOp({
 *         name: "softplus", // as src/ops/mod.ts exports it
 *         run: ({ x }) => softplus(x),
 *         reference: ({ x }) => map(x, (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)))),
 *         samples: [{ inputs: { x: { shape: [3, 341], fill: (v) => 4 * v } } }, { inputs: { x: [7] } }],
 *         bench: [{ inputs: { x: [3199, 512] } }],
 *       }),
 *     ];
 *
 * An operator with arguments says so, and each sample gives them: defineOp<{ alpha: number }>({ run: ({ a }, { alpha }) =>
 * scale(a, alpha), …, samples: [{ inputs: { a: [7] }, args: { alpha: 2 } }] }). `gradients` is needed only where a sample
 * has more than 4096 elements: smaller ones are differentiated numerically. docs/add_an_operator.md tells the rest.
 */
import type { Device } from "../gpu/device.ts";
import { f16ToF32, f32ToF16 } from "../io/dtype.ts";
import { type Shape, showShape, sizeOf } from "../tensor/shape.ts";
import type { DType, Tensor } from "../tensor/tensor.ts";
import { type Array64, normal } from "./float64.ts";
import type { StoredCall } from "./stored.ts";

/** An input: a shape, which is filled with standard normal numbers, or more. */
export type InputSpec =
  | Shape
  | {
      readonly shape: Shape;
      /** "f32" by default. "f16" rounds the values, and a device without f16 leaves the sample out. */
      readonly dtype?: DType;
      /** Element `index` from a normal number of its own. */
      readonly fill?: (normal: number, index: number) => number;
      /** False for an f32 input that takes no gradient, true for an f16 one that takes one; integers never do. */
      readonly gradient?: boolean;
    };

/** Tensors by the names that the samples give them; one that a sample leaves out is undefined. */
export type Tensors = Readonly<Record<string, Tensor>>;
/** The same values in float64. */
export type Arrays = Readonly<Record<string, Array64>>;

type Call<A> = {
  /** By name, in an order that seeds their values. One that is undefined is left out. */
  readonly inputs: Readonly<Record<string, InputSpec | undefined>>;
} & (Partial<A> extends A ? { readonly args?: A } : { readonly args: A });

/** Largest relative L2 distance from float64. */
interface Tolerance {
  /** Of the result; 2e-6 by default. */
  readonly tolerance?: number;
  /** Of each gradient; that of the result by default. */
  readonly gradientTolerance?: number;
}

export type SampleSpec<A> = Call<A> &
  Tolerance & {
    /** What is special about it. */
    readonly name?: string;
    /** Step of a finite difference; 1e-3 by default. */
    readonly step?: number;
    /** False where the gradient is by definition not the derivative, as that of a padding row. */
    readonly differences?: false;
  };

export type BenchSpec<A> = Call<A> & {
  readonly name?: string;
  /** Floating-point operations of the forward; without them the bench counts bytes. */
  readonly flop?: number;
  /** The same of forward and backward together; three times `flop` by default. */
  readonly trainingFlop?: number;
};

export interface OpSpec<A> extends Tolerance {
  readonly name: string;
  readonly run: (inputs: Tensors, args: A, device: Device) => Tensor;
  /** The forward as plain float64 loops; its shape is checked as well. */
  readonly reference: (inputs: Arrays, args: A) => Array64;
  /** Gradients of Σ y·dy by input, in float64. They are checked against finite differences of `reference`. */
  readonly gradients?: (
    inputs: Arrays,
    args: A,
    dy: Float64Array,
  ) => Readonly<Record<string, ArrayLike<number>>>;
  /** True for an operator that makes f16: a device without it leaves all samples out. */
  readonly f16?: true;
  /** False where the operator has no backward. */
  readonly differentiable?: false;
  /** Values of an input at which the slope jumps: samples keep clear of them, as no finite difference holds there. */
  readonly kinks?: Readonly<Record<string, readonly number[]>>;
  /** Calls to try. The first is the doctor's: not tiny, and of sizes that divide by nothing. */
  readonly samples: readonly SampleSpec<A>[];
  /** Calls of a model's size, to be timed. */
  readonly bench: readonly BenchSpec<A>[];
  /** How to call it, or what it is the heart of, on cases that PyTorch stored. */
  readonly stored?: readonly StoredCall[];
}

/** An input with its values. */
export interface Input {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: Float32Array | Int32Array | Uint32Array;
  readonly gradient: boolean;
}

/** One call with everything bound. */
export interface Sample {
  /** The operator, the shapes and the arguments. */
  readonly title: string;
  /** Made anew by each call, the same each time. */
  readonly inputs: () => ReadonlyMap<string, Input>;
  /** The same of zeros, for those whom the values do not concern: drawing them takes seconds at a model's size. */
  readonly blank: () => ReadonlyMap<string, Input>;
  readonly run: (inputs: Tensors, device: Device) => Tensor;
  readonly reference: (inputs: Arrays) => Array64;
  readonly gradients?: (inputs: Arrays, dy: Float64Array) => Readonly<Record<string, ArrayLike<number>>>;
  readonly f16: boolean;
  readonly tolerance: number;
  readonly gradientTolerance: number;
  readonly step: number;
  /** Do finite differences of the reference give its gradients? */
  readonly differences: boolean;
  /** The same call with other shapes or dtypes of inputs, by their names. Throws where it has no input of a name. */
  readonly vary: (change: Varied) => Sample;
}

/** What is changed of inputs, by their names. */
export interface Varied extends Tolerance {
  readonly shapes?: Readonly<Record<string, Shape>>;
  readonly dtypes?: Readonly<Record<string, DType>>;
}

export interface BenchSample extends Sample {
  readonly flop?: number;
  readonly trainingFlop?: number;
}

export interface OpInfo {
  readonly name: string;
  readonly samples: readonly Sample[];
  readonly bench: readonly BenchSample[];
  readonly stored: readonly StoredCall[];
}

/** Values nearer than this to a kink are moved away to it. */
const CLEAR = 0.02;

/** An input without its values. */
function faceOf(spec: InputSpec, differentiable: boolean) {
  const { shape, dtype = "f32", fill, gradient = dtype === "f32" } = "shape" in spec ? spec : { shape: spec };
  return { shape, dtype, fill, gradient: differentiable && gradient && (dtype === "f32" || dtype === "f16") };
}

function makeInput(spec: InputSpec, seed: number, kinks: readonly number[], differentiable: boolean): Input {
  const { fill, ...rest } = faceOf(spec, differentiable);
  const { shape, dtype } = rest;
  const drawn = normal(sizeOf(shape), seed);
  const values = fill ? Array.from(drawn, fill) : drawn;
  if (dtype === "u32") return { ...rest, data: Uint32Array.from(values) };
  if (dtype === "i32") return { ...rest, data: Int32Array.from(values) };
  const data = Float32Array.from(values, (v) => {
    const kink = kinks.find((k) => Math.abs(v - k) < CLEAR);
    return kink === undefined ? v : kink + (v < kink ? -CLEAR : CLEAR);
  });
  return { ...rest, data: dtype === "f16" ? f16ToF32(f32ToF16(data)) : data };
}

function blankInput(spec: InputSpec, differentiable: boolean): Input {
  const { fill: _, ...rest } = faceOf(spec, differentiable);
  const Data = { u32: Uint32Array, i32: Int32Array, f32: Float32Array, f16: Float32Array }[rest.dtype];
  return { ...rest, data: new Data(sizeOf(rest.shape)) };
}

/** `{"rate":0.1}` as `rate 0.1`; lists and the like are left to the sample's name. */
const showArgs = (args: object): string =>
  Object.entries(args)
    .filter(([, value]) => value !== undefined && value !== false && typeof value !== "object")
    .map(([name, value]) => (value === true ? name : `${name} ${value}`))
    .join(", ");

/** A call with other shapes and dtypes. */
function varied<A>(
  operator: string,
  call: SampleSpec<A>,
  { shapes = {}, dtypes = {}, ...tolerances }: Varied,
): SampleSpec<A> {
  const known = Object.keys(call.inputs).filter((key) => call.inputs[key] !== undefined);
  for (const key of [...Object.keys(shapes), ...Object.keys(dtypes)])
    if (!known.includes(key))
      throw new RangeError(
        `Cannot call ${operator}() with ${key}: its inputs are ${known.join(", ") || "none"}`,
      );
  const inputs = Object.fromEntries(
    known.map((key) => {
      const given = call.inputs[key] as InputSpec;
      const spec = "shape" in given ? given : { shape: given };
      const { shape = spec.shape, dtype = spec.dtype } = { shape: shapes[key], dtype: dtypes[key] };
      return [key, { ...spec, shape, dtype }];
    }),
  );
  // A name that says what the shapes are is no longer true.
  const { name } = Object.keys(shapes).length > 0 ? { name: undefined } : call;
  return { ...call, name, inputs, ...tolerances } as SampleSpec<A>;
}

/**
 * The same call with f16 in the named inputs, all by default: activations, whose gradients are f16 too. Its reference gets
 * the rounded values, so that the tolerance is that of rounding results to 11 bits.
 */
export function inHalf<S extends { readonly inputs: Readonly<Record<string, InputSpec | undefined>> }>(
  call: S,
  names: readonly string[] = Object.keys(call.inputs),
): Omit<S, "inputs"> & Pick<Call<object>, "inputs"> & Required<Tolerance> {
  const half = ([name, spec]: [string, InputSpec | undefined]): [string, InputSpec | undefined] => {
    if (spec === undefined || !names.includes(name)) return [name, spec];
    return [name, { gradient: true, ...("shape" in spec ? spec : { shape: spec }), dtype: "f16" }];
  };
  const inputs = Object.fromEntries(Object.entries(call.inputs).map(half));
  return { ...call, inputs, tolerance: 1e-3, gradientTolerance: 1e-3 };
}

/** Binds a record's arguments, so that those who go by it need not know them. */
export function defineOp<A extends object = object>(spec: OpSpec<A>): OpInfo {
  const { name, f16 = false, differentiable = true, kinks = {} } = spec;
  const bind = (call: SampleSpec<A>): Sample => {
    const args = (call.args ?? {}) as A;
    const specs = Object.entries(call.inputs).filter((entry) => entry[1] !== undefined) as [
      string,
      InputSpec,
    ][];
    const shapes = specs.map(([key, value]) => `${key} ${showShape("shape" in value ? value.shape : value)}`);
    const { gradients } = spec;
    const tolerance = call.tolerance ?? spec.tolerance ?? 2e-6;
    return {
      title: [`${name}() of ${shapes.join(", ") || "nothing"}`, showArgs(args), call.name]
        .filter(Boolean)
        .join("; "),
      inputs: () =>
        new Map(
          specs.map(([key, value], i) => [key, makeInput(value, i + 1, kinks[key] ?? [], differentiable)]),
        ),
      blank: () => new Map(specs.map(([key, value]) => [key, blankInput(value, differentiable)])),
      run: (inputs, device) => spec.run(inputs, args, device),
      reference: (inputs) => spec.reference(inputs, args),
      gradients: gradients && ((inputs, dy) => gradients(inputs, args, dy)),
      f16: f16 || specs.some(([, value]) => "shape" in value && value.dtype === "f16"),
      tolerance,
      gradientTolerance: call.gradientTolerance ?? call.tolerance ?? spec.gradientTolerance ?? tolerance,
      step: call.step ?? 1e-3,
      differences: call.differences ?? true,
      vary: (change) => bind(varied(name, call, change)),
    };
  };
  return {
    name,
    samples: spec.samples.map(bind),
    bench: spec.bench.map(({ flop, trainingFlop = flop && 3 * flop, ...call }) => ({
      ...bind(call as SampleSpec<A>),
      flop,
      trainingFlop,
    })),
    stored: spec.stored ?? [],
  };
}

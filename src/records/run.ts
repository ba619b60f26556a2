/** Runs an operator forward and backward and measures how far it is from its float64 reference. */
import type { Device } from "../gpu/device.ts";
import { cast, convert } from "../ops/convert.ts";
import { vjp } from "../tensor/autograd.ts";
import { scope } from "../tensor/scope.ts";
import { sameShape, type Shape, showShape } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { numericGradients } from "./differences.ts";
import { f16ToF32, f32ToF16 } from "../io/dtype.ts";
import { normal, type Numbers, relativeL2 } from "./float64.ts";
import type { Arrays, Input, Sample, Tensors } from "./op_info.ts";

export interface Ran {
  /** The output where nothing is recorded: fused forwards show here. */
  readonly y: Float32Array;
  /** The output on a tape; y where no input takes a gradient. */
  readonly recorded: Float32Array;
  readonly shape: Shape;
  /** The weights of the loss Σ y·dy; of y's dtype. */
  readonly dy: Float32Array;
  /** Gradient of each leaf, in their order; undefined where none arrived. */
  readonly gradients: readonly (Float32Array | undefined)[];
  /** Bytes that were left alive in the pool. */
  readonly leaked: number;
}

/** The values of a tensor of f32 or f16. */
export async function floatsOf(t: Tensor): Promise<Float32Array> {
  if (t.dtype !== "f16") return t.read();
  using full = scope(t.device, () => cast(t, "f32"));
  return await full.read();
}

/** What `prepare` makes is made in a scope, once for the run without a tape and once for that with one. */
export async function runOperator(
  device: Device,
  prepare: () => { leaves: readonly Tensor[]; call: () => Tensor },
): Promise<Ran> {
  const { live } = device.pool.statistics;
  const plain = scope(device, () => prepare().call());
  const { shape, dtype } = plain;
  const drawn = normal(plain.size, 991);
  const dy = dtype === "f16" ? f16ToF32(f32ToF16(drawn)) : drawn;
  const taped = scope(device, () => {
    const { leaves, call } = prepare();
    if (leaves.length === 0) return undefined;
    const { outputs, gradients } = vjp(device, leaves, () => ({
      outputs: [call()],
      cotangents: [cast(Tensor.from(device, dy, shape), dtype === "f16" ? "f16" : "f32")],
    }));
    for (const leaf of leaves) {
      const gradient = gradients.get(leaf);
      if (gradient && gradient.dtype !== leaf.dtype)
        throw new Error(`Cannot trust a gradient of ${gradient.dtype}: what it belongs to is ${leaf.dtype}`);
    }
    return { output: outputs[0], gradients: leaves.map((leaf) => gradients.get(leaf)) };
  });
  const y = await floatsOf(plain);
  const recorded = taped ? await floatsOf(taped.output) : y;
  const gradients = await Promise.all(taped?.gradients.map((g) => g && floatsOf(g)) ?? []);
  for (const t of [plain, taped?.output, ...(taped?.gradients ?? [])]) t?.release();
  return { y, recorded, shape, dy, gradients, leaked: device.pool.statistics.live - live };
}

/** The tensors of a sample's inputs. */
export function upload(device: Device, inputs: ReadonlyMap<string, Input>): Tensors {
  return Object.fromEntries(
    [...inputs].map(([name, { data, shape, dtype }]) => {
      const tensor = Tensor.from(device, data, shape);
      return [name, dtype === "f16" ? convert(tensor, "F32", shape, "f16") : tensor];
    }),
  );
}

export const float64Of = (inputs: ReadonlyMap<string, Input>): Arrays =>
  Object.fromEntries(
    [...inputs].map(([name, { shape, data }]) => [name, { shape, data: Float64Array.from(data) }]),
  );

/** Names of the inputs that take a gradient. */
export const leavesOf = (inputs: ReadonlyMap<string, Input>): string[] =>
  [...inputs].filter(([, input]) => input.gradient).map(([name]) => name);

/** Why this device cannot run a sample; undefined where it can. */
export const cannotRun = (device: Device, sample: Sample): string | undefined =>
  sample.f16 && !device.info.f16 ? `${device.info.name} has no f16` : undefined;

/** Largest relative error of a value that is rounded to f16. */
const F16_ROUNDING = 2 ** -11;

/** One tensor beside its reference. */
export interface Deviation {
  /** "y", "the recorded y", "the gradient of x". */
  readonly what: string;
  /** ‖got − want‖ / ‖want‖. */
  readonly relL2: number;
  readonly tolerance: number;
  readonly got: Numbers;
  readonly want: Numbers;
}

/** A line for one that is farther than its tolerance. */
export function describe({ what, relL2, tolerance, got, want }: Deviation): string {
  let worst = 0;
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i] - want[i]) <= Math.abs(got[worst] - want[worst]))) worst = i;
  return `${what} is ${relL2} from float64, limit ${tolerance}; at ${worst} of ${want.length}: ${got[worst]}, reference ${want[worst]}`;
}

/**
 * Runs a sample and measures its forward, with and without a tape, and its gradients.
 *
 * Throws where the shape is not the reference's, a gradient does not arrive, or bytes stay alive in the pool.
 */
export async function checkSample(device: Device, sample: Sample): Promise<Deviation[]> {
  const inputs = sample.inputs();
  const arrays = float64Of(inputs);
  const leaves = leavesOf(inputs);
  const ran = await runOperator(device, () => {
    const tensors = upload(device, inputs);
    return { leaves: leaves.map((name) => tensors[name]), call: () => sample.run(tensors, device) };
  });
  const fail = (what: string) => {
    throw new Error(`Cannot trust ${sample.title}: ${what}`);
  };
  const y = sample.reference(arrays);
  if (!sameShape(ran.shape, y.shape)) fail(`its shape is ${showShape(ran.shape)}, not ${showShape(y.shape)}`);
  if (ran.leaked !== 0) fail(`${ran.leaked} bytes are left alive in the pool`);
  const deviation = (what: string, got: Numbers, want: Numbers, tolerance: number): Deviation => ({
    ...{ what, relL2: relativeL2(got, want), tolerance, got, want },
  });
  // Products of f16 weights by matrices round activations and gradients as well.
  const rounding = sample.f16 && device.info.matrices.length > 0 ? F16_ROUNDING : 0;
  const tolerance = Math.max(sample.tolerance, rounding);
  const found = [deviation("y", ran.y, y.data, tolerance)];
  if (leaves.length === 0) return found;
  found.push(deviation("the recorded y", ran.recorded, y.data, tolerance));
  const dy = Float64Array.from(ran.dy);
  const gradients = sample.gradients?.(arrays, dy) ?? numericGradients(sample, arrays, leaves, dy);
  for (const [i, name] of leaves.entries()) {
    const got = ran.gradients[i];
    const want = gradients[name];
    if (!got || !want)
      throw new Error(`Cannot trust ${sample.title}: ${name} has no ${got ? "reference" : "gradient"}`);
    found.push(deviation(`the gradient of ${name}`, got, want, Math.max(sample.gradientTolerance, rounding)));
  }
  return found;
}

/**
 * Gradients: runs a body on a tape, then walks the tape backwards.
 *
 *     const { value, gradients } = valueAndGrad(device, parameters, () => ops.mse(model(x), target));
 */
import { describeValue, synchronous } from "../io/checks.ts";
import type { Device } from "../gpu/device.ts";
import { accumulate } from "./accumulate.ts";
import { own, scope } from "./scope.ts";
import { checkShape, sameShape, showShape } from "./shape.ts";
import { dropLast, during, type Entry, newTape, type Tape, tapeOf } from "./tape.ts";
import { Tensor } from "./tensor.ts";

/** What a gradient can be taken by: a tensor, or what holds one, as a Parameter does. */
export type Differentiable = Tensor | { readonly value: Tensor };

const tensorOf = (given: Differentiable): Tensor => (given instanceof Tensor ? given : given.value);

/** The tensors of `given`, or a TypeError of `name`. */
function tensorsOf(name: string, given: readonly Differentiable[]): Set<Tensor> {
  const tensors = new Set<Tensor>();
  for (const [i, each] of given.entries()) {
    const tensor: unknown = each && tensorOf(each);
    if (!(tensor instanceof Tensor))
      throw new TypeError(
        `Cannot run ${name}: parameter ${i} is ${describeValue(each)} but should be a tensor or a Parameter`,
      );
    tensors.add(tensor);
  }
  return tensors;
}

/** A loss and its gradients. */
export interface ValueAndGrad<P> {
  /** The loss, a scalar: unscaled. */
  readonly value: Tensor;
  /** Gradients by what was given. What the loss does not depend on is absent, as PyTorch's `.grad` is None. */
  readonly gradients: Map<P, Tensor>;
}

/** How gradients are taken. */
export interface ValueAndGradOptions {
  /** The gradient that the loss begins with, so that all gradients are multiplied by it; 1 by default. */
  readonly lossScale?: number;
}

/**
 * A loss and its gradients by `parameters`. `body` returns the loss, a tensor of shape (), or an object with it as `loss`
 * and more tensors (also in plain objects, arrays and maps), which come back as `aux`.
 *
 * All results belong to the scope around the call. Throws TypeError for a loss of another shape, Error for one that
 * depends on none of the parameters, and where an op on the way is not differentiable.
 *
 * @example
 * ```ts
 * const w = Tensor.from(device, Float32Array.of(1, -2), [2]);
 * const { value, gradients, aux } = valueAndGrad(device, [w], () => {
 *   const squares = ops.mul(w, w);
 *   return { loss: ops.sum(squares), squares };
 * });
 * console.log(await value.item()); // 5
 * console.log(await gradients.get(w)!.read()); // [2, -4]
 * console.log(await aux.squares.read()); // [1, 4]
 * ```
 */
export function valueAndGrad<P extends Differentiable>(
  device: Device,
  parameters: Iterable<P>,
  body: () => Tensor,
  options?: ValueAndGradOptions,
): ValueAndGrad<P>;
/** As above, where `body` returns more than the loss: that comes back as `aux`. */
export function valueAndGrad<P extends Differentiable, R extends { readonly loss: Tensor }>(
  device: Device,
  parameters: Iterable<P>,
  body: () => R,
  options?: ValueAndGradOptions,
): ValueAndGrad<P> & { readonly aux: Omit<R, "loss"> };
export function valueAndGrad<P extends Differentiable>(
  device: Device,
  parameters: Iterable<P>,
  body: () => Tensor | { readonly loss: Tensor },
  { lossScale = 1 }: ValueAndGradOptions = {},
): ValueAndGrad<P> & { readonly aux: object } {
  if (!Number.isFinite(lossScale))
    throw new RangeError(`Cannot run valueAndGrad: lossScale is ${lossScale} but should be finite`);
  const { outputs, gradients, aux } = differentiate("valueAndGrad", device, parameters, (tape) => {
    const result = synchronous("valueAndGrad", body());
    const { loss, ...aux } = result instanceof Tensor ? { loss: result } : { ...result };
    checkLoss(loss, tape);
    return { outputs: [loss], cotangents: [Tensor.from(device, Float32Array.of(lossScale), [])], aux };
  });
  return { value: outputs[0], gradients, aux };
}

/** What vjp() returns. */
export interface Vjp<P, O extends readonly Tensor[]> {
  /** Those of `body`. */
  readonly outputs: O;
  /** Gradients by what was given. What no output depends on is absent. */
  readonly gradients: Map<P, Tensor>;
}

/**
 * The vector-Jacobian product: gradients of Σ outputs·cotangents by `inputs`. `body` returns tensors of any shape, and a
 * cotangent of the same shape for each.
 *
 * All results belong to the scope around the call.
 *
 * @example
 * ```ts
 * const x = Tensor.from(device, Float32Array.of(1, 2, 3), [3]);
 * const cotangent = Tensor.from(device, Float32Array.of(1, 0, 10), [3]);
 * const { outputs, gradients } = vjp(device, [x], () => ({ outputs: [ops.mul(x, x)], cotangents: [cotangent] }));
 * console.log(await outputs[0].read()); // [1, 4, 9]
 * console.log(await gradients.get(x)!.read()); // [2, 0, 60]
 * ```
 */
export function vjp<P extends Differentiable, const O extends readonly Tensor[]>(
  device: Device,
  inputs: Iterable<P>,
  body: () => { readonly outputs: O; readonly cotangents: readonly Tensor[] },
): Vjp<P, O> {
  const { outputs, gradients } = differentiate("vjp", device, inputs, () => {
    const { outputs, cotangents } = synchronous("vjp", body());
    return { outputs, cotangents, aux: undefined };
  });
  return { outputs, gradients };
}

/** What a body gives: each output with the gradient that it begins with. */
interface Forward<O, A> {
  readonly outputs: O;
  readonly cotangents: readonly Tensor[];
  readonly aux: A;
}

function differentiate<P extends Differentiable, O extends readonly Tensor[], A>(
  name: string,
  device: Device,
  inputs: Iterable<P>,
  body: (tape: Tape) => Forward<O, A>,
): Vjp<P, O> & { readonly aux: A } {
  if (tapeOf(device)) throw new Error(`Cannot run ${name}: a tape is running on this device already`);
  if (typeof inputs?.[Symbol.iterator] !== "function") {
    const meant = typeof inputs === "object" && "parameters" in inputs ? ", as its parameters are" : "";
    throw new TypeError(
      `Cannot run ${name}: its parameters are ${describeValue(inputs)} but should be an array of tensors or Parameters${meant}`,
    );
  }
  return scope(device, () => {
    const given = [...inputs];
    const wanted = tensorsOf(name, given);
    const tape = newTape(wanted);
    const flowing: Flowing = new Map();
    try {
      // A part that checkpoint() runs again belongs to the backward pass around it.
      const phase = device.place?.phase || "forward";
      const { outputs, cotangents, aux } = device.at({ phase }, () =>
        during(device, tape, tape.lineage, () => body(tape)),
      );
      begin(name, tape, outputs, cotangents, flowing);
      walk(tape, wanted, flowing);
      const gradients = new Map<P, Tensor>();
      for (const each of given) {
        const g = flowing.get(tensorOf(each));
        if (g) gradients.set(each, g);
      }
      for (const g of flowing.values()) own(g);
      return { outputs, gradients, aux };
    } catch (error) {
      for (const g of flowing.values()) g.release();
      throw error;
    } finally {
      tape.lineage.ended = true;
      while (tape.entries.length > 0) dropLast(tape);
    }
  });
}

function checkLoss(loss: unknown, tape: Tape): asserts loss is Tensor {
  const fail = (what: string) => {
    throw new TypeError(`Cannot run valueAndGrad: ${what}`);
  };
  if (!(loss instanceof Tensor)) return fail("its body returned no loss, expected a tensor of shape ()");
  if (loss.shape.length > 0)
    fail(
      `the loss is ${showShape(loss.shape)} but should be (), a scalar; take its mean() or sum(), or use vjp()`,
    );
  if (loss.dtype !== "f32") fail(`the loss is ${loss.dtype} but should be f32`);
  if (!tape.tracked.has(loss) && !tape.lineage.cutOf(loss))
    throw new Error(`Cannot run valueAndGrad: the loss depends on none of the parameters`);
}

/** Gradients under way, by the tensor that they belong to. Each is kept once for every tensor. */
type Flowing = Map<Tensor, Tensor>;

function arrive(flowing: Flowing, at: Tensor, gradient: Tensor): void {
  const before = flowing.get(at);
  flowing.set(at, (before ? accumulate(before, gradient) : gradient).keep());
  before?.release();
}

function begin(
  name: string,
  tape: Tape,
  outputs: readonly Tensor[],
  cotangents: readonly Tensor[],
  flowing: Flowing,
): void {
  if (outputs.length !== cotangents.length)
    throw new TypeError(
      `Cannot run ${name}: the outputs are ${outputs.length} and the cotangents ${cotangents.length}, expected one for each`,
    );
  for (const [i, output] of outputs.entries()) {
    checkShape(name, `cotangent ${i}`, cotangents[i].shape, output.shape);
    const cut = tape.tracked.has(output) ? undefined : tape.lineage.cutOf(output);
    if (cut) throw new Error(`Cannot differentiate ${cut.name}: ${cut.reason}`);
    if (tape.tracked.has(output)) arrive(flowing, output, cotangents[i]);
  }
}

/** Reads the tape backwards, and leaves in `flowing` the gradients of what is wanted. */
function walk(tape: Tape, wanted: ReadonlySet<Tensor>, flowing: Flowing): void {
  for (let entry = tape.entries.at(-1); entry; entry = tape.entries.at(-1)) {
    const dys = entry.outputs.map((output) => flowing.get(output));
    const dy = dys.find((each) => each !== undefined);
    if (dy) {
      const { device } = dy;
      const place = device.place && { ...entry.place, phase: "backward" };
      device.at(place, () => propagate(tape, entry, device, dys, flowing));
      for (const [i, output] of entry.outputs.entries()) {
        if (wanted.has(output)) continue;
        dys[i]?.release();
        flowing.delete(output);
      }
    }
    dropLast(tape);
  }
}

function propagate(
  tape: Tape,
  entry: Entry,
  device: Device,
  dys: readonly (Tensor | undefined)[],
  flowing: Flowing,
): void {
  const { name, inputs } = entry;
  const needs = inputs.map((t) => tape.tracked.has(t));
  scope(device, () => {
    const given = entry.backward(dys, needs);
    if (!Array.isArray(given) || given.length > inputs.length)
      throw new Error(
        `Cannot differentiate ${name}: its backward gave ${Array.isArray(given) ? `${given.length} gradients` : describeValue(given)} but should give an array of ${inputs.length}, one for each input`,
      );
    for (const [i, { shape }] of inputs.entries()) {
      if (!needs[i]) continue;
      const g = given[i];
      if (!g)
        throw new Error(
          `Cannot differentiate ${name}: it gave no gradient for input ${i} of shape ${showShape(shape)}`,
        );
      if (!sameShape(g.shape, shape))
        throw new Error(
          `Cannot differentiate ${name}: the gradient of input ${i} is ${showShape(g.shape)} but should be ${showShape(shape)}`,
        );
      arrive(flowing, inputs[i], g);
    }
  });
}

/**
 * The tape of reverse-mode differentiation: ops call record(), and autograd.ts reads what they recorded backwards.
 *
 * A tensor is tracked if gradients by it are wanted, or if it came out of an op with a tracked input. Ops whose inputs
 * are all untracked leave nothing on the tape: frozen parameters cost nothing.
 *
 * What a kernel makes of a tracked tensor and no op records would end the gradient in silence. Such a cut is found by the
 * tape's lineage; a gradient that arrives there, or begins there, is an error that names the kernel.
 */
import type { Place } from "../gpu/cost.ts";
import type { Device } from "../gpu/device.ts";
import { describeValue, synchronous } from "../io/checks.ts";
import type { Watcher } from "../gpu/kernel.ts";
import { Lineage } from "./lineage.ts";
import { showShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Gradients of the inputs, in their order, from that of the output. Entry i may be undefined where `needs[i]` is false;
 * work for such an entry should not be done. A returned gradient is never written to again, so one tensor may serve twice.
 */
export type Backward = (dy: Tensor, needs: readonly boolean[]) => readonly (Tensor | undefined)[];

/** As Backward, of an op with several outputs: `dys[i]` is undefined where no gradient reaches output i. */
export type BackwardOfAll = (
  dys: readonly (Tensor | undefined)[],
  needs: readonly boolean[],
) => readonly (Tensor | undefined)[];

export interface Entry {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly saved: readonly Tensor[];
  readonly backward: BackwardOfAll;
  /** Where a profile counts the forward to, and so the backward. */
  readonly place?: Place;
}

export interface Tape {
  readonly tracked: Set<Tensor>;
  readonly entries: Entry[];
  readonly lineage: Lineage;
  /** Set on the tape of checkpoint(): it keeps no entries, only which tensors of the tape around it are used. */
  readonly looksFrom?: { readonly around: Tape; readonly used: Set<Tensor> };
  /** Is told of each recorded op and each seed: checkpoint() holds its second run to the first. */
  note?: (step: string) => void;
}

export function newTape(tracked: Iterable<Tensor>): Tape {
  const tape: Tape = { tracked: new Set(), entries: [], lineage: new Lineage() };
  for (const tensor of tracked) track(tape, tensor);
  return tape;
}

export const tracks = (tape: Tape, tensor: Tensor): boolean =>
  tape.tracked.has(tensor) || (tape.looksFrom !== undefined && tracks(tape.looksFrom.around, tensor));

function track(tape: Tape, tensor: Tensor): void {
  tape.tracked.add(tensor);
  tape.lineage.track(tensor);
}

const tapes = new WeakMap<Device, Tape>();

/** The tape that runs on this device, if any. */
export const tapeOf = (device: Device): Tape | undefined => tapes.get(device);

/** Runs `body` with this tape, or none. */
export function during<T>(
  device: Device,
  tape: Tape | undefined,
  watcher: Watcher | undefined,
  body: () => T,
): T {
  const [outer, outerWatcher] = [tapes.get(device), device.watcher];
  const put = (t: Tape | undefined, w: Watcher | undefined) => {
    if (t) tapes.set(device, t);
    else tapes.delete(device);
    device.watcher = w;
  };
  put(tape, watcher);
  try {
    return body();
  } finally {
    put(outer, outerWatcher);
  }
}

/** Is a tape running on this device? Layers ask, to choose a fused forward that has no backward. */
export const isRecording = (device: Device): boolean => tapes.has(device);

/** Whether a gradient will reach this tensor: a tape runs, and the tensor was made from what gradients are taken by. */
export function isTracked(tensor: Tensor): boolean {
  const tape = tapes.get(tensor.device);
  return tape !== undefined && (tracks(tape, tensor) || tape.lineage.cutOf(tensor) !== undefined);
}

/** Does a gradient flow into this input? One that was cut off is given an entry that says so, should a gradient arrive. */
export function reaches(tape: Tape, tensor: Tensor): boolean {
  if (tracks(tape, tensor)) return true;
  const cut = tape.lineage.cutOf(tensor);
  if (!cut) return false;
  if (tape.looksFrom) {
    const { around, used } = tape.looksFrom;
    for (const source of cut.sources) if (tracks(around, source)) used.add(source);
  } else {
    const backward = notDifferentiable(cut.name, cut.reason);
    tape.entries.push({ name: cut.name, inputs: [], outputs: [tensor.keep()], saved: [], backward });
  }
  track(tape, tensor);
  return true;
}

/**
 * Puts an op on the tape, if one runs, and returns its output. `inputs` name every tensor that a gradient may have to
 * reach: where the op's kernels read a tracked one besides, a gradient that arrives is an error.
 *
 * `saved` are the tensors that `backward` will read; the tape holds them until then, and refuses writes to them, as to all
 * that a gradient passes.
 *
 * @example
 * ```ts
 * // A clamp whose gradient passes as if there were none: a straight-through estimator (Bengio et al. 2013).
 * function straightThrough(x: Tensor): Tensor {
 *   const y = noGrad(device, () => ops.sub(ops.relu(x), ops.relu(ops.sub(x, 1)))); // clamped to 0 … 1
 *   return record("straightThrough", [x], y, [], (dy) => [dy]);
 * }
 * const x = Tensor.from(device, Float32Array.of(-3, 0.5, 7), [3]);
 * const { aux, gradients } = valueAndGrad(device, [x], () => {
 *   const y = straightThrough(x);
 *   return { loss: ops.sum(y), y };
 * });
 * console.log(await aux.y.read()); // [0, 0.5, 1]
 * console.log(await gradients.get(x)!.read()); // [1, 1, 1]
 * ```
 */
export function record(
  name: string,
  inputs: readonly Tensor[],
  output: Tensor,
  saved: readonly Tensor[],
  backward: Backward,
): Tensor {
  checkRecord(name, inputs, saved, backward);
  enter(name, inputs, [output], saved, ([dy], needs) => backward(dy as Tensor, needs));
  return output;
}

/** As record(), of an op with several outputs. Its backward runs once, with the gradients of those that one reaches. */
export function recordAll<const O extends readonly Tensor[]>(
  name: string,
  inputs: readonly Tensor[],
  outputs: O,
  saved: readonly Tensor[],
  backward: BackwardOfAll,
): O {
  checkRecord(name, inputs, saved, backward);
  enter(name, inputs, outputs, saved, backward);
  return outputs;
}

function checkRecord(name: string, inputs: unknown, saved: unknown, backward: unknown): void {
  if (!Array.isArray(inputs) || !Array.isArray(saved) || typeof backward !== "function")
    throw new TypeError(
      `Cannot record ${name}: its inputs, saved tensors and backward are ${[inputs, saved, backward].map(describeValue).join(", ")} but should be an array, an array and a function`,
    );
}

function enter(
  name: string,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  saved: readonly Tensor[],
  backward: BackwardOfAll,
): void {
  const tape = tapes.get(outputs[0].device);
  if (!tape || inputs.filter((t) => reaches(tape, t)).length === 0) return;
  tape.note?.(name);
  tape.lineage.save(name, saved);
  let lost: Tensor | undefined;
  for (const output of outputs) {
    lost ??= tape.lineage.settle(output, inputs);
    track(tape, output);
  }
  if (tape.looksFrom) {
    const { around, used } = tape.looksFrom;
    for (const t of inputs) if (tracks(around, t)) used.add(t);
    return;
  }
  for (const t of [...saved, ...inputs, ...outputs]) t.keep();
  const reason =
    lost && `it reads a tracked tensor of shape ${showShape(lost.shape)} that it has no gradient for`;
  const entered = reason ? notDifferentiable(name, reason) : backward;
  const { place } = outputs[0].device;
  tape.entries.push({ name, inputs, outputs, saved, backward: entered, place });
}

/** An op draws at random by `seed`: in a part that runs twice it must be the same seed both times. */
export function noteSeed(device: Device, name: string, seed: number): void {
  tapes.get(device)?.note?.(`${name} with seed ${seed}`);
}

/** The backward of an op that has none: a gradient that arrives is an error, never silently dropped. */
export function notDifferentiable(name: string, reason: string): () => never {
  return () => {
    throw new Error(`Cannot differentiate ${name}: ${reason}`);
  };
}

/**
 * Runs `body` without recording: no gradient passes what it makes. As torch.no_grad. Throws a TypeError where `body`
 * returns a Promise.
 *
 * @example
 * ```ts
 * const x = Tensor.from(device, Float32Array.of(3), []);
 * const { gradients } = valueAndGrad(device, [x], () => {
 *   const constant = noGrad(device, () => ops.mul(x, x)); // 9, and no gradient goes through it
 *   return ops.mul(x, constant);
 * });
 * console.log(await gradients.get(x)!.item()); // 9
 * ```
 */
export function noGrad<T>(device: Device, body: () => T): T {
  const tape = tapes.get(device);
  return synchronous("noGrad", tape ? during(device, undefined, tape.lineage.unrecorded, body) : body());
}

/** Removes the last entry and releases its tensors. */
export function dropLast(tape: Tape): void {
  const entry = tape.entries.pop();
  if (entry) for (const t of [...entry.saved, ...entry.inputs, ...entry.outputs]) t.release();
}

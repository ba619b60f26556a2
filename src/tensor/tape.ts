/**
 * Reverse-mode differentiation. Ops call record(); what they recorded is read backwards by grad().
 *
 * A tensor is tracked if it is a leaf given to grad(), or came out of an op with a tracked input. Ops whose inputs are
 * all untracked leave nothing on the tape: frozen parameters cost nothing.
 *
 * What a kernel makes of a tracked tensor and no op records would end the gradient in silence. Such a cut is found by the
 * tape's lineage; a gradient that arrives there, or a seed that begins there, is an error that names the kernel.
 */
import type { Device } from "../gpu/device.ts";
import type { Watcher } from "../gpu/kernel.ts";
import { detach, Lineage } from "./lineage.ts";
import { own, scope } from "./scope.ts";
import { checkShape, sameShape, showShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Gradients of the inputs, in their order, from that of the output. Entry i may be undefined where `needs[i]` is false;
 * work for such an entry should not be done. A returned gradient is never written to again, so one tensor may serve twice.
 */
export type Backward = (dy: Tensor, needs: readonly boolean[]) => readonly (Tensor | undefined)[];

interface Entry {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  readonly saved: readonly Tensor[];
  readonly backward: Backward;
}

interface Tape {
  readonly tracked: Set<Tensor>;
  readonly entries: Entry[];
  readonly lineage: Lineage;
  /** A tape that only looks: it keeps no entries, but notes which tensors of the tape around it are used. */
  readonly looksFrom?: { readonly around: Tape; readonly used: Set<Tensor> };
}

const tracks = (tape: Tape, tensor: Tensor): boolean =>
  tape.tracked.has(tensor) || (tape.looksFrom !== undefined && tracks(tape.looksFrom.around, tensor));

function track(tape: Tape, tensor: Tensor): void {
  tape.tracked.add(tensor);
  tape.lineage.track(tensor);
}

const tapes = new WeakMap<Device, Tape>();

/** Runs `body` with this tape, or none. */
function during<T>(device: Device, tape: Tape | undefined, watcher: Watcher | undefined, body: () => T): T {
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

/** Does a gradient flow into this tensor? */
export function isTracked(tensor: Tensor): boolean {
  const tape = tapes.get(tensor.device);
  return tape !== undefined && (tracks(tape, tensor) || tape.lineage.cutOf(tensor) !== undefined);
}

/** Does a gradient flow into this input? One that was cut off is given an entry that says so, should a gradient arrive. */
function reaches(tape: Tape, tensor: Tensor): boolean {
  if (tracks(tape, tensor)) return true;
  const cut = tape.lineage.cutOf(tensor);
  if (!cut) return false;
  if (tape.looksFrom) {
    const { around, used } = tape.looksFrom;
    for (const source of cut.sources) if (tracks(around, source)) used.add(source);
  } else {
    const backward = noGradient(cut.name, cut.reason);
    tape.entries.push({ name: cut.name, inputs: [], output: tensor.keep(), saved: [], backward });
  }
  track(tape, tensor);
  return true;
}

/**
 * Puts an op on the tape and returns its output. `inputs` name every tensor that a gradient may have to reach: where the
 * op's kernels read a tracked one besides, a gradient that arrives is an error.
 *
 * `saved` are the tensors that `backward` will read; the tape holds them until then.
 */
export function record(
  name: string,
  inputs: readonly Tensor[],
  output: Tensor,
  saved: readonly Tensor[],
  backward: Backward,
): Tensor {
  const tape = tapes.get(output.device);
  if (!tape || inputs.filter((t) => reaches(tape, t)).length === 0) return output;
  const lost = tape.lineage.settle(output, inputs);
  track(tape, output);
  if (tape.looksFrom) {
    const { around, used } = tape.looksFrom;
    for (const t of inputs) if (tracks(around, t)) used.add(t);
    return output;
  }
  for (const t of [...saved, ...inputs, output]) t.keep();
  const reason =
    lost && `it reads a tracked tensor of shape ${showShape(lost.shape)} that it has no gradient for`;
  tape.entries.push({ name, inputs, output, saved, backward: reason ? noGradient(name, reason) : backward });
  return output;
}

/** The backward of an op that has none: a gradient that arrives is an error, never silently dropped. */
export function noGradient(name: string, reason: string): Backward {
  return () => {
    throw new Error(`Cannot differentiate ${name}: ${reason}`);
  };
}

/** Runs `body` without recording. */
export function untracked<T>(device: Device, body: () => T): T {
  return tapes.has(device) ? during(device, undefined, { viewed: detach }, body) : body();
}

/**
 * Runs `body` and keeps nothing of its insides: the backward runs it again (activation checkpointing, Chen et al. 2016).
 * One more forward buys the memory of all that the insides would have saved.
 *
 * `body` must compute the same each time. `holds` are the tensors it reads that no gradient reaches, masks for one.
 */
export function recomputed(device: Device, holds: readonly Tensor[], body: () => Tensor): Tensor {
  const around = tapes.get(device);
  if (!around) return body();
  const used = new Set<Tensor>();
  const { lineage } = around;
  const looking: Tape = { tracked: new Set(), entries: [], lineage, looksFrom: { around, used } };
  const output = during(device, looking, lineage, () => {
    const result = body();
    reaches(looking, result);
    return result;
  });
  const inputs = [...used];
  if (inputs.length === 0 || inputs.includes(output)) return output;
  return record("recomputed", inputs, output, holds, (dy) => {
    const { gradients } = grad(device, inputs, () => {
      const again = body();
      return { loss: again, seeds: [[again, dy]] };
    });
    return inputs.map((t) => gradients.get(t));
  });
}

/** Adds two gradients; given by the ops floor, above this one. */
export type Add = (a: Tensor, b: Tensor) => Tensor;
let add: Add = () => {
  throw new Error("Cannot add gradients: ops/elementwise.ts was not loaded");
};
export const provideAdd = (given: Add): void => {
  add = given;
};

export interface Gradients {
  readonly loss: Tensor;
  /** Gradient of the loss by leaf; a leaf that the loss does not depend on is absent. */
  readonly gradients: Map<Tensor, Tensor>;
}

/**
 * Runs `body`, then walks its tape backwards.
 *
 * `leaves` are the tensors wanted; `body` returns the output and the gradient of the final scalar with respect to it
 * (for a loss: a tensor of ones). The result belongs to the scope around the call.
 */
export function grad(
  device: Device,
  leaves: Iterable<Tensor>,
  body: () => { loss: Tensor; seeds: readonly (readonly [Tensor, Tensor])[] },
): Gradients {
  if (tapes.has(device)) throw new Error("Cannot start a tape: one is running on this device");
  return scope(device, () => {
    const wanted = new Set(leaves);
    const tape: Tape = { tracked: new Set(), entries: [], lineage: new Lineage() };
    for (const leaf of wanted) track(tape, leaf);
    let result: { loss: Tensor; seeds: readonly (readonly [Tensor, Tensor])[] };
    try {
      result = during(device, tape, tape.lineage, body);
    } catch (error) {
      releaseAll(tape.entries);
      throw error;
    }
    const gradients = backward(tape, wanted, result.seeds);
    return { loss: result.loss, gradients };
  });
}

const releaseEntry = (e: Entry): void => {
  for (const t of [...e.saved, ...e.inputs, e.output]) t.release();
};

function releaseAll(entries: Entry[]): void {
  for (let e = entries.pop(); e; e = entries.pop()) releaseEntry(e);
}

function backward(
  tape: Tape,
  wanted: ReadonlySet<Tensor>,
  seeds: readonly (readonly [Tensor, Tensor])[],
): Map<Tensor, Tensor> {
  const flowing = new Map<Tensor, Tensor>();
  const arrive = (to: Tensor, g: Tensor) => {
    const before = flowing.get(to);
    const sum = before ? add(before, g) : g;
    if (sum !== before) {
      sum.keep();
      before?.release();
    }
    flowing.set(to, sum);
  };
  try {
    for (const [output, seed] of seeds) {
      checkShape("grad", "a seed", seed.shape, output.shape);
      if (tape.tracked.has(output)) arrive(output, seed);
      else {
        const cut = tape.lineage.cutOf(output);
        if (cut) throw new Error(`Cannot differentiate ${cut.name}: ${cut.reason}`);
      }
    }
    for (let e = tape.entries.at(-1); e; e = tape.entries.at(-1)) {
      const entry = e;
      const dy = flowing.get(entry.output);
      if (dy) {
        const needs = entry.inputs.map((t) => tape.tracked.has(t));
        scope(dy.device, () => {
          const given = entry.backward(dy, needs);
          entry.inputs.forEach((input, i) => {
            const g = given[i];
            if (!needs[i]) return;
            if (!g)
              throw new Error(
                `Cannot differentiate ${entry.name}: it gave no gradient for input ${i} of shape ${showShape(input.shape)}`,
              );
            if (!sameShape(g.shape, input.shape)) {
              throw new Error(
                `Cannot differentiate ${entry.name}: the gradient of input ${i} is ${showShape(g.shape)} but should be ${showShape(input.shape)}`,
              );
            }
            arrive(input, g);
          });
        });
        if (!wanted.has(entry.output)) {
          dy.release();
          flowing.delete(entry.output);
        }
      }
      tape.entries.pop();
      releaseEntry(entry);
    }
  } catch (error) {
    releaseAll(tape.entries);
    for (const g of flowing.values()) g.release();
    throw error;
  }
  const result = new Map<Tensor, Tensor>();
  for (const [tensor, g] of flowing) {
    if (!wanted.has(tensor)) continue;
    own(g);
    result.set(tensor, g);
  }
  return result;
}

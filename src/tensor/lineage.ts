/**
 * Finds where a graph was cut: a kernel read a tensor that a gradient should reach and wrote one that no op recorded.
 *
 * A tape has one lineage. The device tells it of every dispatch while the tape runs; the tape tells it what is tracked
 * and asks it about tensors that are not. Tensors are told apart by their memory, which they share with their views.
 */
import type { Bound, Watcher } from "../gpu/kernel.ts";
import { showShape } from "./shape.ts";
import { type Memory, Tensor } from "./tensor.ts";

export interface Cut {
  /** Where the gradient's way ends: a kernel and its entry point. */
  readonly name: string;
  readonly reason: string;
  /** The tracked tensors that were read. */
  readonly sources: ReadonlySet<Tensor>;
}

/** Views that were made where nothing was to be recorded. */
const detached = new WeakSet<Tensor>();
export const detach = (view: Bound): void => {
  if (view instanceof Tensor) detached.add(view);
};

/** A gradient would pass by a write in place as if that had not happened, or be computed from what was written. */
function checkWrite({ memory, shape }: Tensor, writer: string, name: string): void {
  if (memory.tape === undefined || memory.tape.ended) return;
  const { savedBy } = memory;
  const has =
    savedBy === undefined ? "that is on the tape" : `that ${savedBy} has saved for the backward pass`;
  throw new Error(
    `Cannot run ${writer}: ${name} is a tensor of shape ${showShape(shape)} ${has}; write to a new one`,
  );
}

export class Lineage {
  readonly #tracked = new WeakMap<object, Tensor>();
  /** What was written from tracked tensors and not recorded, so far. */
  readonly #written = new WeakMap<object, { readonly name: string; readonly sources: Set<Tensor> }>();

  /** Set by the tape once its gradients are taken: what was on it may be written again. */
  ended = false;

  /** Watches where nothing is recorded: what the tape has is not to be written there either. */
  readonly unrecorded: Watcher = {
    viewed: detach,
    ran(kernel, bound, outputs) {
      for (const key in bound) {
        const t = bound[key];
        if (t instanceof Tensor && outputs.has(key)) checkWrite(t, kernel, key);
      }
    },
    wrote: this.wrote,
  };

  track(tensor: Tensor): void {
    this.#tracked.set(tensor.memory, tensor);
    this.#claim(tensor.memory);
  }

  /** The backward of `op` will read these. */
  save(op: string, tensors: readonly Tensor[]): void {
    for (let i = 0; i < tensors.length; i++) {
      const { memory } = tensors[i];
      this.#claim(memory);
      memory.savedBy ??= op;
    }
  }

  #claim(memory: Memory): void {
    if (memory.tape !== undefined && !memory.tape.ended) return;
    memory.tape = this;
    memory.savedBy = undefined;
  }

  /** Throws where the CPU is about to write what a tape has. */
  wrote(tensor: Bound): void {
    if (tensor instanceof Tensor) checkWrite(tensor, "Tensor.write", "it");
  }

  /** Notes a dispatch; `outputs` are the names of what it writes. */
  ran(kernel: string, bound: Readonly<Record<string, Bound>>, outputs: ReadonlySet<string>): void {
    let sources: Set<Tensor> | undefined;
    let name = "";
    for (const key in bound) {
      const t = bound[key];
      if (!(t instanceof Tensor)) continue;
      if (outputs.has(key)) {
        checkWrite(t, kernel, key);
        continue;
      }
      if (detached.has(t)) continue;
      const tracked = this.#tracked.get(t.memory);
      const before = tracked ? undefined : this.#written.get(t.memory);
      if (!tracked && !before) continue;
      sources ??= new Set();
      if (tracked) {
        sources.add(tracked);
        name = kernel;
      } else if (before) {
        for (const source of before.sources) sources.add(source);
        name ||= before.name;
      }
    }
    if (!sources) return;
    for (const key of outputs) {
      const t = bound[key];
      if (!(t instanceof Tensor)) continue;
      const before = this.#written.get(t.memory);
      if (before) for (const source of sources) before.sources.add(source);
      else this.#written.set(t.memory, { name, sources: new Set(sources) });
    }
  }

  /**
   * Why no gradient would pass from `tensor`, which is not tracked, to what it was made from; undefined where that was
   * nothing tracked.
   */
  cutOf(tensor: Tensor): Cut | undefined {
    if (detached.has(tensor)) return undefined;
    const written = this.#written.get(tensor.memory);
    if (written) {
      const reason = `it made a tensor of shape ${showShape(tensor.shape)} from a tracked one without a record; record() its backward, or notDifferentiable()`;
      return { ...written, reason };
    }
    const whole = this.#tracked.get(tensor.memory);
    if (!whole) return undefined; // most tensors: nothing is spelt out for them
    const shape = showShape(tensor.shape);
    const [name, reason] =
      whole === tensor
        ? ["checkpoint", `a tensor of shape ${shape} that was made inside it is used outside`]
        : [
            "Tensor.reshaped",
            `its view of shape ${shape} of a tracked tensor has no record; use reshape() while the tape runs`,
          ];
    return { name, reason, sources: new Set([whole]) };
  }

  /** `output` is recorded. Returns a tracked tensor, if any, that it was made from other than by way of the `inputs`. */
  settle(output: Tensor, inputs: readonly Tensor[]): Tensor | undefined {
    if (inputs.some((input) => input.memory === output.memory)) return undefined; // a view
    const sources = [...(this.#written.get(output.memory)?.sources ?? [])];
    this.#written.delete(output.memory);
    const holds = (input: Tensor, source: Tensor) =>
      input.memory === source.memory || this.#written.get(input.memory)?.sources.has(source);
    return sources.find((source) => !inputs.some((input) => holds(input, source)));
  }
}

/** Activation checkpointing (Chen et al. 2016): memory for time. */
import { synchronous } from "../io/checks.ts";
import type { Device } from "../gpu/device.ts";
import { vjp } from "./autograd.ts";
import { during, reaches, record, type Tape, tapeOf } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Runs `body` without keeping the tensors that its operators would save for the backward pass; that runs `body` again. As
 * torch.utils.checkpoint: one more forward pass, and the memory of one output.
 *
 * `body` must compute the same each time: where the second run records another op, or drops out by another seed, the
 * backward pass throws. A random stream from outside is to be replayable(). `holds` are the tensors it reads that no
 * gradient reaches, masks for one.
 *
 * @example
 * ```ts
 * const x = Tensor.from(device, Float32Array.of(0, 1), [2]);
 * const block = () => ops.tanh(ops.mul(x, 2)); // the product is not kept, but computed again
 * const { gradients } = valueAndGrad(device, [x], () => ops.sum(checkpoint(device, [], block)));
 * console.log(await gradients.get(x)!.read()); // [2, 0.1413]
 * ```
 */
export function checkpoint(device: Device, holds: readonly Tensor[], body: () => Tensor): Tensor {
  const around = tapeOf(device);
  if (!around) return synchronous("checkpoint", body());
  const used = new Set<Tensor>();
  const { lineage } = around;
  const steps: string[] = [];
  const note = (step: string) => void steps.push(step);
  const looking: Tape = { tracked: new Set(), entries: [], lineage, looksFrom: { around, used }, note };
  const output = during(device, looking, lineage, () => {
    const result = synchronous("checkpoint", body());
    reaches(looking, result);
    return result;
  });
  if (steps.some((step) => step.includes(" with seed ")) && device.recorder.capturing)
    throw new Error(
      "Cannot capture checkpoint() of a body with dropout: a replay would draw other seeds for its second run",
    );
  const inputs = [...used];
  if (inputs.length === 0 || inputs.includes(output)) return output;
  return record("checkpoint", inputs, output, holds, (dy) => {
    const again = () => ({ outputs: [repeated(device, steps, body)], cotangents: [dy] });
    const { gradients } = vjp(device, inputs, again);
    return inputs.map((t) => gradients.get(t));
  });
}

/** Runs `body` on the tape of `device` and throws where it does not take these steps. */
function repeated(device: Device, steps: readonly string[], body: () => Tensor): Tensor {
  let at = 0;
  const check = (step: string | undefined) => {
    const first = steps[at++];
    if (step !== first)
      throw new Error(
        `Cannot differentiate checkpoint: its body ran ${step ?? "no more"} the second time and ${first ?? "no more"} the first; a random stream from outside must be replayable()`,
      );
  };
  const tape = tapeOf(device);
  if (tape) tape.note = check;
  const output = body();
  check(undefined);
  return output;
}

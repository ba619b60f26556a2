/** Finds out which tensor was the first to hold a value that is not finite. */
import type { Device } from "../gpu/device.ts";
import type { Mode } from "../nn/mode.ts";
import { cast } from "../ops/convert.ts";
import { scope } from "../tensor/scope.ts";
import { valueAndGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Task } from "./task.ts";

/**
 * Runs a batch again with the same random numbers and looks at every stage of the forward pass, then at the weights,
 * then at every gradient. Returns what is wrong, or undefined where everything is finite this time.
 */
export async function firstBadTensor<B>(
  device: Device,
  task: Task<B>,
  batch: B,
  mode: Mode,
): Promise<string | undefined> {
  for (const { key, value } of task.parameters) {
    if (value.dtype === "f32" && !allFinite(await value.read())) return `the weight ${key}`;
  }
  const seen: [string, Tensor][] = [];
  const observe = (name: string, tensor: Tensor) => void seen.push([name, tensor.keep()]);
  const trained = task.parameters.filter((p) => p.trainable);
  const { gradients } = scope(device, () =>
    valueAndGrad(device, trained, () => {
      const { loss, parts } = task.losses(batch, { ...mode, observe });
      for (const [name, tensor] of Object.entries({ ...parts, loss }))
        observe(name === "loss" ? "the loss" : `the ${name} loss`, tensor);
      return loss;
    }),
  );
  try {
    for (const [name, tensor] of seen) {
      if (!(await finite(tensor))) return name;
    }
    // From the output backwards: the order in which gradients come to be.
    for (const parameter of trained.slice().reverse()) {
      const gradient = gradients.get(parameter);
      if (gradient && !allFinite(await gradient.read())) return `the gradient of ${parameter.key}`;
    }
    return undefined;
  } finally {
    for (const [, tensor] of seen) tensor.release();
    for (const gradient of gradients.values()) gradient.release();
  }
}

async function finite(tensor: Tensor): Promise<boolean> {
  if (tensor.dtype === "f32") return allFinite(await tensor.read());
  if (tensor.dtype !== "f16") return true;
  using full = scope(tensor.device, () => cast(tensor, "f32"));
  return allFinite(await full.read());
}

const allFinite = (values: Float32Array): boolean => values.every(Number.isFinite);

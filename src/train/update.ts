/** One update of the weights from one or more micro-batches, with one wait. */
import type { Device } from "../gpu/device.ts";
import type { Mode } from "../nn/mode.ts";
import { reshape } from "../ops/elementwise.ts";
import { concat } from "../ops/frames.ts";
import { scope } from "../tensor/scope.ts";
import { valueAndGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Optimizer } from "./optimizer.ts";
import type { Task } from "./task.ts";

/** What an update came to. */
export interface UpdateResult {
  /** Mean over the micro-batches, not scaled. */
  readonly loss: number;
  /** Means over the micro-batches. */
  readonly parts: Readonly<Record<string, number>>;
  /** Before clipping. */
  readonly gradientNorm: number;
  /** False: a gradient was not finite; no weight changed, and the step does not count. */
  readonly finite: boolean;
}

/** How an update is done. */
export interface UpdateOptions {
  /** The schedule's factor. */
  readonly factor: number;
  /** What the loss is multiplied by, so that gradients do not underflow in f16; 1 by default. */
  readonly lossScale?: number;
  /** How micro-batch i runs. */
  readonly mode: (micro: number) => Mode;
}

/**
 * One optimiser step on the mean of the losses of `batches`, as on one large batch. Waits once, for the figures. Where it
 * throws, no gradient stays in the optimiser.
 */
export async function update<B>(
  device: Device,
  task: Task<B>,
  optimizer: Optimizer,
  batches: readonly B[],
  { factor, lossScale = 1, mode }: UpdateOptions,
): Promise<UpdateResult> {
  if (batches.length === 0) throw new RangeError("Cannot update: there is no batch");
  const share = 1 / batches.length;
  const rows: Tensor[] = [];
  let names: readonly string[] = [];
  try {
    for (const [i, loaded] of batches.entries()) {
      const { activations } = mode(i);
      const batch = (await task.prepare?.(loaded, { activations })) ?? loaded;
      const result = backward(device, task, optimizer, batch, share * lossScale, mode(i));
      rows.push(result.row);
      names = result.names;
      await device.tidy();
    }
    const stats = scope(device, () => {
      const clip = optimizer.step(undefined, { factor, unscale: 1 / lossScale });
      return concat([reshape(clip, [1, 3]), ...rows]);
    });
    rows.push(stats);
    const [, gradientNorm, flag, ...values] = await stats.read();
    const mean = (n: number) => batches.reduce((sum, _, i) => sum + values[i * names.length + n], 0) * share;
    const { loss, ...parts } = Object.fromEntries(names.map((name, n) => [name, mean(n)]));
    const finite = flag === 1;
    if (!finite) optimizer.undo();
    return { loss, parts, gradientNorm, finite };
  } catch (error) {
    optimizer.zeroGrad();
    throw error;
  } finally {
    for (const row of rows) row.release();
  }
}

/** Adds the gradients of a micro-batch to the optimiser's; returns its losses side by side, (1, names). */
function backward<B>(
  device: Device,
  task: Task<B>,
  optimizer: Optimizer,
  batch: B,
  lossScale: number,
  mode: Mode,
): { row: Tensor; names: readonly string[] } {
  return scope(device, () => {
    const { value, gradients, aux } = valueAndGrad(
      device,
      optimizer.parameters,
      () => task.losses(batch, mode),
      { lossScale },
    );
    optimizer.accumulate(gradients);
    const losses = { loss: value, ...aux.parts };
    const row = concat(Object.values(losses).map((tensor) => reshape(tensor, [1, 1])));
    return { row, names: Object.keys(losses) };
  });
}

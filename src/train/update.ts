/** One update of the weights from one or more micro-batches, with one wait. */
import type { Device } from "../gpu/device.ts";
import type { Mode } from "../nn/mode.ts";
import { full, reshape } from "../ops/elementwise.ts";
import { concat } from "../ops/frames.ts";
import { scope } from "../tensor/scope.ts";
import { grad } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { AdamW } from "./adamw.ts";
import type { Task } from "./task.ts";

export interface UpdateResult {
  readonly loss: number;
  /** Means over the micro-batches. */
  readonly parts: Readonly<Record<string, number>>;
  /** Before clipping. */
  readonly gradientNorm: number;
  /** False: a gradient was not finite; no weight changed, and the step does not count. */
  readonly finite: boolean;
}

export interface UpdateOptions {
  /** The schedule's factor. */
  readonly factor: number;
  /** What the loss is multiplied by, for the sake of f16; 1 by default. */
  readonly lossScale?: number;
  /** How micro-batch i runs. */
  readonly mode: (micro: number) => Mode;
}

/** Trains on `batches` as on one large batch whose loss is their mean. */
export async function update<B>(
  device: Device,
  task: Task<B>,
  optimizer: AdamW,
  batches: readonly B[],
  { factor, lossScale = 1, mode }: UpdateOptions,
): Promise<UpdateResult> {
  const share = 1 / batches.length;
  const names: string[] = [];
  const stats = scope(device, () => {
    const seen: Tensor[] = [];
    for (const [i, batch] of batches.entries()) {
      const row = scope(device, () => {
        const kept: Record<string, Tensor> = {};
        const { gradients } = grad(device, optimizer.leaves, () => {
          const { loss, parts } = task.losses(batch, mode(i));
          for (const [name, tensor] of Object.entries({ loss, ...parts })) kept[name] = tensor.keep();
          return { loss, seeds: [[loss, full(device, loss.shape, share * lossScale)]] };
        });
        optimizer.accumulate(gradients);
        if (i === 0) names.push(...Object.keys(kept));
        const scalars = names.map((name) => reshape(kept[name], [1, 1]));
        const joined = concat(scalars);
        for (const tensor of Object.values(kept)) tensor.release();
        return joined;
      });
      seen.push(row);
    }
    const clip = optimizer.step(factor, 1 / lossScale);
    return concat([reshape(clip, [1, 3]), ...seen]);
  });
  const values = await stats.read();
  stats.release();
  const [, gradientNorm, flag] = values;
  const mean = (name: number) =>
    batches.reduce((sum, _, i) => sum + values[3 + i * names.length + name], 0) * share;
  const means = Object.fromEntries(names.map((name, n) => [name, mean(n)]));
  const { loss, ...parts } = means;
  const finite = flag === 1;
  if (!finite) optimizer.undo();
  return { loss, parts, gradientNorm, finite };
}

/** One update of the weights from one or more micro-batches, with one wait. */
import type { Device } from "../gpu/device.ts";
import type { Mode } from "../nn/mode.ts";
import type { Parameter } from "../nn/parameter.ts";
import { reshape } from "../ops/elementwise.ts";
import { concat } from "../ops/frames.ts";
import { scope } from "../tensor/scope.ts";
import { valueAndGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ExchangeReport, GradientExchange } from "./exchange.ts";
import type { Optimizer } from "./optimizer.ts";
import type { Ranks } from "./ranks.ts";
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
  /** What the exchange of gradients took, where there are several ranks. */
  readonly exchange?: ExchangeReport;
}

/** A rank's part in an update of several. */
export interface UpdateShare {
  /** Places of this rank's batches among the micro-batches of the update, ascending. */
  readonly positions: readonly number[];
  /** Micro-batches of all ranks. */
  readonly total: number;
  /** By which ranks agree on the figures; with `exchange` also on the gradients. */
  readonly ranks: Ranks;
  /** Absent where there is one rank. */
  readonly exchange?: GradientExchange;
}

/** How an update is done. */
export interface UpdateOptions {
  /** The schedule's factor. */
  readonly factor: number;
  /** What the loss is multiplied by, so that gradients do not underflow in f16; 1 by default. */
  readonly lossScale?: number;
  /** How micro-batch i runs. */
  readonly mode: (micro: number) => Mode;
  /** Where other ranks have batches of this update too: by default none. */
  readonly share?: UpdateShare;
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
  { factor, lossScale = 1, mode, share }: UpdateOptions,
): Promise<UpdateResult> {
  const { total = batches.length, exchange } = share ?? {};
  if (total === 0) throw new RangeError("Cannot update: there is no batch");
  const weight = 1 / total;
  const rows: Tensor[] = [];
  let names: readonly string[] = [];
  try {
    if (batches.length === 0) exchange?.begin();
    for (const [i, loaded] of batches.entries()) {
      const position = share?.positions[i] ?? i;
      const { activations } = mode(position);
      const batch = (await task.prepare?.(loaded, { activations })) ?? loaded;
      const last = i === batches.length - 1;
      if (last) exchange?.begin();
      const options = { lossScale: weight * lossScale, position, exchange: last ? exchange : undefined };
      const result = backward(device, task, optimizer, batch, mode(position), options);
      rows.push(result.row);
      names = result.names;
      await device.tidy();
    }
    const exchanged = await exchange?.finish();
    const stats = scope(device, () => {
      const clip = optimizer.step(undefined, { factor, unscale: 1 / lossScale });
      return concat([reshape(clip, [1, 3]), ...rows]);
    });
    rows.push(stats);
    const [, gradientNorm, flag, ...values] = await stats.read();
    const own = { names, values, gradientNorm };
    const all = share ? await share.ranks.gather("losses", own) : [own];
    refuseDrift(all.map((each) => each.gradientNorm));
    const finite = flag === 1;
    if (!finite) optimizer.undo();
    return { ...meansOf(all, weight), gradientNorm, finite, ...(exchanged && { exchange: exchanged }) };
  } catch (error) {
    exchange?.cancel();
    optimizer.zeroGrad();
    throw error;
  } finally {
    for (const row of rows) row.release();
  }
}

/** Losses of micro-batches side by side, as many as there are names for each. */
interface Figures {
  readonly names: readonly string[];
  readonly values: readonly number[];
}

/** Means over the micro-batches of all ranks, added up in their order. */
function meansOf(all: readonly Figures[], weight: number): Pick<UpdateResult, "loss" | "parts"> {
  const names = all.find((each) => each.names.length > 0)?.names ?? [];
  const values = all.flatMap((each) => each.values);
  const mean = (n: number) => {
    let sum = 0;
    for (let i = n; i < values.length; i += names.length) sum += values[i];
    return sum * weight;
  };
  const { loss, ...parts } = Object.fromEntries(names.map((name, n) => [name, mean(n)]));
  return { loss, parts };
}

/** All ranks have the same sums, whose norm is then the same to the last bit, unless they compute in other ways. */
function refuseDrift(norms: readonly number[]): void {
  const other = norms.findIndex((norm) => !Object.is(norm, norms[0]));
  if (other < 0) return;
  throw new Error(
    `Cannot go on training: the gradient's norm is ${norms[0]} on rank 0 and ${norms[other]} on rank ${other}: their adapters or drivers compute otherwise`,
  );
}

/** Adds the gradients of a micro-batch to the optimiser's; returns its losses side by side, (1, names). */
function backward<B>(
  device: Device,
  task: Task<B>,
  optimizer: Optimizer,
  batch: B,
  mode: Mode,
  options: { lossScale: number; position: number; exchange?: GradientExchange },
): { row: Tensor; names: readonly string[] } {
  const { lossScale, position, exchange } = options;
  /** Each at once, for the exchange to begin while the backward pass goes on. */
  const onGradient = (parameter: Parameter, gradient: Tensor) => {
    optimizer.accumulate(new Map([[parameter, gradient]]), position);
    exchange?.ready(parameter);
  };
  return scope(device, () => {
    const { value, gradients, aux } = valueAndGrad(
      device,
      optimizer.parameters,
      () => task.losses(batch, mode),
      { lossScale, ...(exchange && { onGradient }) },
    );
    if (!exchange) optimizer.accumulate(gradients, position);
    const losses = { loss: value, ...aux.parts };
    const row = concat(Object.values(losses).map((tensor) => reshape(tensor, [1, 1])));
    return { row, names: Object.keys(losses) };
  });
}

/** A stage of three small layers, trained by one process or shared among ranks. */
import { join } from "node:path";
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Communicator } from "../src/host/mpi.ts";
import { Linear } from "../src/nn/linear.ts";
import { Weights } from "../src/nn/weights.ts";
import * as ops from "../src/ops/mod.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { saveWeights } from "../src/train/checkpoint.ts";
import { trainStage } from "../src/train/loop.ts";
import { Ranks } from "../src/train/ranks.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import type { Task } from "../src/train/task.ts";

const host = await currentHost();

export interface Together {
  readonly accumulate: number;
  readonly epochs?: number;
  /** Micro-batches that cannot be read. */
  readonly missing?: readonly number[];
  readonly seed?: number;
}

/**
 * Trains in `folder`/run as one of the ranks. A layer is used by one micro-batch in three, as under LayerDrop, and one by
 * none. Returns the weights, and what rank 0 was told.
 */
export async function trainTogether(
  device: Device,
  communicator: Communicator | undefined,
  folder: string,
  { accumulate, epochs = 2, missing = [], seed = 1 }: Together,
): Promise<{ weights: number[][]; notes: string[] }> {
  const ranks = new Ranks(communicator);
  const notes: string[] = [];
  ranks.onNote = (line) => notes.push(line);
  const path = join(folder, "run");
  const weights = new Weights(device, { seed });
  const [first, second] = ["first", "second", "unused"].map((name) => new Linear(weights.at(name), 5, 5));
  await weights.initialize();
  const task: Task<number> = {
    parameters: weights.parameters,
    plan: () => Array.from({ length: 11 }, (_, i) => [i]),
    load: async ([i]) => (missing.includes(i) ? undefined : i),
    amount: () => 1,
    losses(i, mode) {
      const values = Float32Array.from({ length: 15 }, (_, n) => Math.sin(1 + n * (i + 1)));
      const x = Tensor.from(device, values, [3, 5]);
      const y = ops.tanh(first.forward(ops.dropout(x, 0.2, mode.training)));
      const loss = ops.mean(ops.mul(i % 3 === 1 ? second.forward(y) : y, y));
      return { loss, parts: { half: ops.mul(loss, 0.5) } };
    },
    evaluate: async () => ({ loss: (await first.weight.value.read())[0], wer: Number.NaN }),
    save: (to) => saveWeights(host, `${to}/model.safetensors`, weights.parameters),
  };
  const run = ranks.first ? await RunFolder.create(host, path, {}) : RunFolder.follow(host, path);
  await ranks.gather("the run", "open");
  const onNote = (line: string) => ranks.note(line);
  try {
    await trainStage({
      ...{ device, run, task, ranks, onNote, of: { recipe: "", data: "" } },
      config: { epochs, accumulate, learningRate: { all: 0.01 }, maxGradNorm: 0.5 },
      select: { figure: "loss", mode: "min" },
    });
    await run.flush();
    const values = await Promise.all(weights.parameters.map(({ value }) => value.read()));
    return { weights: values.map((each) => [...each]), notes };
  } finally {
    weights.dispose();
  }
}

/** Communicators of `size` ranks within this process. */
export function together(size: number): Communicator[] {
  let round: { from: ArrayBufferView; into: ArrayBufferView }[] = [];
  let done: Promise<void>;
  let finish: () => void;
  const begin = () => {
    round = [];
    done = new Promise<void>((resolve) => {
      finish = resolve;
    });
  };
  begin();
  type Fill<T> = (all: readonly T[], into: T, rank: number) => void;
  const meet = async <T extends ArrayBufferView>(rank: number, from: T, into: T, fill: Fill<T>) => {
    round[rank] = { from, into };
    const [all, wait] = [round, done];
    if (Object.keys(round).length === size) {
      finish();
      begin();
    }
    await wait;
    const sent = all.map((each) => each.from as T);
    if (new Set(sent.map((each) => each.byteLength)).size !== 1) throw new Error("ranks sent unlike lengths");
    fill(sent, into, rank);
  };
  return Array.from({ length: size }, (_, rank) => ({
    ...{ rank, size, library: "one process" },
    allreduce: (from, into) =>
      meet(rank, from, into, (all, own) => {
        for (let i = 0; i < own.length; i++) own[i] = all.map((each) => each[i]).reduce((a, b) => a + b);
      }),
    alltoall: (from, into) =>
      meet(rank, from, into, (all, own, r) => {
        const part = own.length / size;
        for (const [q, each] of all.entries()) own.set(each.subarray(r * part, (r + 1) * part), q * part);
      }),
    allgather: (from, into) =>
      meet(rank, from, into, (all, own) => {
        for (const [q, each] of all.entries()) own.set(each, q * each.length);
      }),
    abort() {},
    close() {},
  }));
}

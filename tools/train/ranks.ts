/** The ranks of a verb that several processes run together: under MPI where a launcher started them, else one. */
import { hostname } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { chooseLocalGpu } from "../../src/host/local_gpu.ts";
import { MpiMismatchError, mpiLaunch, openMpi } from "../../src/host/mpi.ts";
import { Ranks } from "../../src/train/ranks.ts";

export const mpiOptions = {
  mpi: {
    type: "string",
    value: "LIBRARY",
    help: "openmpi, mpich, a library's path, or none (where mpirun or srun started several: what fits it)",
  },
} as const;

/** Milliseconds by which a rank waits with its error for that of the rank before, which ends it. */
const ERROR_AFTER = 2000;
const LONGEST = 10_000;

/** Waits for another rank's error, and throws the reason of `signal` where that has ended this one. */
async function giveWay(rank: number, signal: AbortSignal): Promise<void> {
  if (rank > 0) await sleep(Math.min(LONGEST, ERROR_AFTER * rank), undefined, { signal }).catch(() => {});
  signal.throwIfAborted();
}

/**
 * Runs `body`, which returns an exit status, with the ranks of this job. What it throws ends all ranks; where all fail alike,
 * rank 0 alone reports it.
 */
export async function withRanks(
  choice: string | undefined,
  signal: AbortSignal,
  body: (ranks: Ranks) => Promise<number | undefined>,
): Promise<number | undefined> {
  const launch = mpiLaunch();
  if (choice === "none" || (choice === undefined && !launch)) return body(new Ranks());
  let ranks: Ranks;
  try {
    ranks = new Ranks(openMpi(choice ?? "auto", launch));
  } catch (error) {
    const { rank = 0 } = launch ?? {};
    if (rank > 0 && error instanceof MpiMismatchError) return 1; // rank 0 sees the same
    await giveWay(rank, signal);
    throw error;
  }
  // However this process ends before close(), so do the others.
  const abort = (status: number) => ranks.communicator.abort(status || 1);
  process.on("exit", abort);
  try {
    const status = await body(ranks);
    await ranks.gather("the end", "reached");
    ranks.communicator.close();
    process.off("exit", abort);
    return status;
  } catch (error) {
    if (ranks.first) throw error;
    await giveWay(ranks.rank, signal);
    if (error instanceof Error) error.message = `rank ${ranks.rank} on ${hostname()}: ${error.message}`;
    throw error;
  }
}

/** Chooses this rank's GPU among those of its machine. Returns a line about what was decided, for all ranks. */
export async function placeRanks(ranks: Ranks): Promise<string[]> {
  if (ranks.size === 1) return [];
  const machines = await ranks.gather("machines", hostname());
  const here = machines.filter((name) => name === hostname()).length;
  const local = machines.slice(0, ranks.rank).filter((name) => name === hostname()).length;
  const gpus = await ranks.gather("GPUs", chooseLocalGpu(local, here));
  const count = new Set(machines).size;
  const lines = [
    `${ranks.size} ranks on ${count === 1 ? "one machine" : `${count} machines`}, by ${ranks.communicator.library}`,
  ];
  for (const [rank, gpu] of gpus.entries())
    if (gpu !== undefined) lines.push(`rank ${rank} on ${machines[rank]}: ${gpu}`);
  return lines;
}

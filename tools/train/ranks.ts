/** The ranks of a verb that several processes run together: under MPI where a launcher started them, else one. */
import { hostname } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { chooseLocalGpu } from "../../src/host/local_gpu.ts";
import { mpiLaunch, openMpi } from "../../src/host/mpi.ts";
import { Ranks } from "../../src/train/ranks.ts";

export const mpiOptions = {
  mpi: {
    type: "string",
    value: "LIBRARY",
    help: "openmpi, mpich, a library's path, or none (where mpirun or srun started several: what fits it)",
  },
} as const;

/** Milliseconds by which a rank waits with its error for that of the rank before, which ends it. */
const ERROR_AFTER = 500;
const LONGEST = 5000;

/** Ends the other ranks where this process ends without close(). */
function abortOnExit(ranks: Ranks): () => void {
  const abort = (status: number) => ranks.communicator.abort(status || 1);
  process.on("exit", abort);
  return () => void process.off("exit", abort);
}

/**
 * Runs `body` with the ranks of this job. What it throws is reported by one rank alone, where all fail alike, and ends all.
 */
export async function withRanks<T>(
  choice: string | undefined,
  body: (ranks: Ranks) => Promise<T>,
): Promise<T> {
  const launch = mpiLaunch();
  if (choice === "none" || (choice === undefined && !launch)) return body(new Ranks());
  let ranks: Ranks;
  try {
    ranks = new Ranks(openMpi(choice ?? "auto", launch));
  } catch (error) {
    await sleep(Math.min(LONGEST, ERROR_AFTER * (launch?.rank ?? 0)));
    throw error;
  }
  const done = abortOnExit(ranks);
  try {
    const result = await body(ranks);
    await ranks.gather("the end", "reached");
    ranks.communicator.close();
    done();
    return result;
  } catch (error) {
    if (ranks.first) throw error;
    await sleep(Math.min(LONGEST, ERROR_AFTER * ranks.rank));
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
  const lines = [`${ranks.size} ranks on ${count} machine(s), by ${ranks.communicator.library}`];
  for (const [rank, gpu] of gpus.entries())
    if (gpu !== undefined) lines.push(`rank ${rank} on ${machines[rank]}: ${gpu}`);
  return lines;
}

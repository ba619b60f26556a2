/** Order and expected time of the runs of tools/test.ts, and the totals in their output. */

import { anyObject, parse } from "../src/io/schema.ts";

/** Seconds of a job, "node test/pool.test.ts", in the last run. */
export type Times = Record<string, number>;

/**
 * Seconds of jobs that never ran here, on two cores without a GPU and without compiled kernels: of the slowest, and of any
 * other. The order matters more than the figures.
 */
const SLOW: Times = {
  "node test/gpu_path.test.ts": 105,
  "node test/bench.test.ts": 80,
  "node test/adapters.test.ts": 75,
  "deno test/resume.test.ts": 58,
  "node test/records.test.ts": 45,
  "deno test/adapters.test.ts": 45,
  "node test/isa.test.ts": 44,
  "node test/matmul_matrices.test.ts": 42,
  "deno test/f16_activations.test.ts": 35,
  "deno test/gpu_path.test.ts": 33,
  "node test/kernel_verb.test.ts": 30,
  "deno test/kernel_verb.test.ts": 28,
  "deno test/records.test.ts": 20,
  "deno test/tuning.test.ts": 20,
  "deno test/kernel_workshop.test.ts": 18,
  "node test/readme.test.ts": 16,
  "node test/matmul_tiles.test.ts": 15,
  "deno test/train_run.test.ts": 15,
  "deno test/paper_rows.test.ts": 20,
  "node test/paper_rows.test.ts": 20,
  "deno test/crossvalidate_run.test.ts": 25,
  "node test/crossvalidate_run.test.ts": 25,
  "node test/mpi.test.ts": 25,
  "node test/run_verb.test.ts": 14,
  "deno test/attention.test.ts": 12,
  "node test/resume.test.ts": 12,
  "deno test/stage_loop.test.ts": 10,
  "deno test/update.test.ts": 10,
  "deno test/matmul_tiles.test.ts": 10,
  "deno test/gradients.test.ts": 9,
  "node test/bad_input.test.ts": 9,
  "node test/attention.test.ts": 8,
};
const OTHER = 3;

/** Reads stored times; entries that are no times are left out. */
export function readTimes(text: string): Times {
  const entries = Object.entries(parse(anyObject, JSON.parse(text), "the times of the last run"));
  return Object.fromEntries(entries.filter((entry): entry is [string, number] => Number(entry[1]) > 0));
}

const timeOf = (job: string, times: Times) => times[job] ?? SLOW[job] ?? OTHER;

/** The longest first, which shortens the total time. */
export function inOrder(jobs: string[], times: Times): string[] {
  return [...jobs].sort((a, b) => timeOf(b, times) - timeOf(a, times));
}

/** Seconds until all are done, `workers` at once, each taking the next in the queue. */
export function expected(queue: string[], times: Times, workers: number): number {
  const free = new Array<number>(workers).fill(0);
  for (const job of queue) {
    const next = free.indexOf(Math.min(...free));
    free[next] += timeOf(job, times);
  }
  return Math.max(...free);
}

/** The counts at the end of what a runtime's reporter writes. */
export function totals(runtime: "node" | "deno", output: string) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
  const plain = output.replace(/\x1b\[[\d;]*m/g, "");
  const last = (pattern: RegExp) => Number([...plain.matchAll(pattern)].at(-1)?.[1] ?? 0);
  return runtime === "node"
    ? {
        passed: last(/^. pass (\d+)$/gm),
        failed: last(/^. fail (\d+)$/gm),
        skipped: last(/^. skipped (\d+)$/gm),
      }
    : {
        passed: last(/\| (\d+) passed/g),
        failed: last(/\| (\d+) failed/g),
        skipped: last(/\| (\d+) ignored/g),
      };
}

/** The output without the totals, which are printed as one line. */
export function withoutNoise(output: string): string {
  return output
    .split(/(?<=\n)/)
    .filter(
      (line) => !/^\S*ℹ (?:tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+/.test(line),
    )
    .join("");
}

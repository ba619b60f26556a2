/** Submits the jobs of a cross-validation to Slurm. */
import { spawn } from "node:child_process";
import * as v from "valibot";
import type { Host } from "../../src/host/host.ts";
import { object, readOptionalJsonAs } from "../../src/io/schema.ts";
import { writeWhole } from "../../src/io/write_whole.ts";
import { levelsOf } from "../../src/speech/crossvalidate/queue.ts";
import type { Job, Plan } from "../../src/speech/crossvalidate/plan.ts";
import { type Batch, batchesOf, batchScript } from "../../src/speech/crossvalidate/slurm.ts";
import { toJson } from "../../src/train/run_folder.ts";

const submittedSchema = object({ jobs: v.optional(v.array(v.string())) });

/** A Slurm job. */
export interface Submitted {
  /** Its number. */
  readonly id: string;
  readonly name: string;
  readonly tasks: number;
}

/**
 * Writes a script for each level of dependency into OUT/slurm and submits it: a level begins once the one before has ended, and
 * a job whose needs are not done fails at once, so that one that fails keeps only its own from beginning. Throws one line, and
 * cancels what is submitted, where Slurm refuses.
 */
export async function submit(
  host: Host,
  out: string,
  plan: Plan,
  done: ReadonlySet<string>,
  command: readonly string[],
  options: readonly string[],
): Promise<Submitted[]> {
  const folder = `${out}/slurm`;
  const file = `${folder}/submitted.json`;
  await host.makeDirectory(folder);
  const { jobs: former = [] } = await readOptionalJsonAs(host, file, submittedSchema);
  await refuseActive(former);
  const levels: Batch[][] = [
    ...levelsOf<Job>(plan.jobs, done).map((jobs, level) =>
      batchesOf(
        level,
        jobs.map((job) => job.id),
      ),
    ),
    [{ name: "wavegate-report", ids: ["report"] }],
  ];
  const submitted: Submitted[] = [];
  let before: string[] = [];
  try {
    for (const batches of levels) {
      const own: string[] = [];
      for (const batch of batches) {
        const script = `${folder}/${batch.name}.sh`;
        await writeWhole(host, script, batchScript(batch, command, folder, options));
        const after = before.length > 0 ? [`--dependency=afterany:${before.join(":")}`] : [];
        const answer = await slurm("sbatch", ["--parsable", ...after, script]);
        const id = answer.trim().split(";")[0];
        own.push(id);
        submitted.push({ id, name: batch.name, tasks: batch.ids.length });
        await writeWhole(host, file, toJson({ jobs: submitted.map((one) => one.id) }));
      }
      before = own;
    }
  } catch (error) {
    if (submitted.length > 0)
      await slurm(
        "scancel",
        submitted.map((one) => one.id),
      ).catch(() => {});
    throw error;
  }
  return submitted;
}

/** Throws where Slurm still has one of these jobs. */
async function refuseActive(jobs: readonly string[]): Promise<void> {
  if (jobs.length === 0) return;
  // A number that Slurm has forgotten is an error where it is the only one.
  const listed = await slurm("squeue", ["--noheader", "--format=%A", `--jobs=${jobs.join(",")}`]).catch(
    (error: Error) => {
      if (/Invalid job id/i.test(error.message)) return "";
      throw error;
    },
  );
  const active = [...new Set(listed.split("\n").filter((line) => line.trim() !== ""))];
  if (active.length > 0)
    throw new Error(
      `Cannot submit to Slurm: its jobs ${active.join(", ")} of an earlier submission have not ended`,
    );
}

/** Runs a command of Slurm; its stdout. Throws one line where it fails. */
function slurm(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    child.on("error", (error: NodeJS.ErrnoException) =>
      reject(
        new Error(
          error.code === "ENOENT"
            ? `Cannot submit to Slurm: there is no ${program} on this machine`
            : `Cannot submit to Slurm: ${error.message}`,
        ),
      ),
    );
    child.on("close", (status) => {
      if (status === 0) return resolve(stdout);
      const line = stderr.trim().split("\n").at(-1) || `${program} ended with status ${status}`;
      reject(new Error(`Cannot submit to Slurm: ${line}`));
    });
  });
}

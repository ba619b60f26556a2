/** Batch scripts of Slurm: an array of jobs for each level of dependency, and the report after all. */

/** A level of jobs, or the report. */
export interface Batch {
  /** Name of the Slurm job. */
  readonly name: string;
  /** Ids of the jobs; array task N does the N-th, from 0. */
  readonly ids: readonly string[];
}

/** A word for a POSIX shell. */
export const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * The script of a level. `command` does the job whose id follows it, `folder` takes the output, `options` are further ones of
 * sbatch. A task that is lost is put into the queue again, and goes on from its last checkpoint; SIGTERM, which comes before the
 * end of its time, lets it save one.
 */
export function batchScript(
  { name, ids }: Batch,
  command: readonly string[],
  folder: string,
  options: readonly string[],
): string {
  return [
    "#!/bin/sh",
    `#SBATCH --job-name=${name}`,
    `#SBATCH --array=0-${ids.length - 1}`,
    `#SBATCH --output=${folder.replaceAll("%", "%%")}/%x-%a.txt`,
    "#SBATCH --open-mode=append",
    "#SBATCH --requeue",
    "#SBATCH --signal=B:TERM@60",
    ...options.map((option) => `#SBATCH ${option}`),
    "# One job a line; those that need each other are in scripts of their own.",
    "job=$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" <<'JOBS'",
    ...ids,
    "JOBS",
    ")",
    `exec ${command.map(shellWord).join(" ")} "$job"`,
    "",
  ].join("\n");
}

/** Slurm takes no more tasks in an array where its MaxArraySize is the default. */
const MOST_TASKS = 1000;

/** The arrays of a level: one, or several where it has more jobs than an array takes. */
export function batchesOf(level: number, ids: readonly string[]): Batch[] {
  const count = Math.ceil(ids.length / MOST_TASKS);
  return Array.from({ length: count }, (_, part) => ({
    name: `wavegate-${level + 1}${count > 1 ? `-${part + 1}` : ""}`,
    ids: ids.slice(part * MOST_TASKS, (part + 1) * MOST_TASKS),
  }));
}

/** Works through jobs that depend on each other, several at a time. */

/** What a queue knows of a job. */
export interface Queued {
  readonly id: string;
  /** Jobs that must be done before. */
  readonly after: readonly string[];
}

/** Options of runQueue(). */
export interface QueueOptions<J extends Queued> {
  /** In the order in which they are taken, each after those that it needs. */
  readonly jobs: readonly J[];
  /** Ids of those that are done already. */
  readonly done: ReadonlySet<string>;
  /** Jobs at a time. */
  readonly workers: number;
  /** Does a job as worker `worker` (from 0): resolves with undefined where it is done, else with why it is not. Never rejects. */
  readonly run: (job: J, worker: number) => Promise<string | undefined>;
  /** Aborted: no further job begins. */
  readonly signal: AbortSignal;
  /** Told of each job that ends, with why it failed. */
  readonly onEnd?: (job: J, failure: string | undefined) => void;
}

/** How a queue ended. */
export interface QueueResult {
  /** Ids of all that are done. */
  readonly done: ReadonlySet<string>;
  /** Why jobs failed, by their ids. */
  readonly failed: ReadonlyMap<string, string>;
  /** Of jobs that never began because one that they need failed: the id of that. */
  readonly blocked: ReadonlyMap<string, string>;
}

/**
 * Does every job once those that it needs are done. One that fails keeps those that need it from beginning; all others go on.
 */
export async function runQueue<J extends Queued>(options: QueueOptions<J>): Promise<QueueResult> {
  const { jobs, workers, run, signal, onEnd } = options;
  const done = new Set(options.done);
  const failed = new Map<string, string>();
  const blocked = new Map<string, string>();
  const left = jobs.filter((job) => !done.has(job.id));
  const free = Array.from({ length: workers }, (_, worker) => worker);
  const running = new Set<Promise<void>>();

  const begin = (job: J, worker: number) => {
    const work = run(job, worker).then((failure) => {
      if (failure === undefined) done.add(job.id);
      // What a stop interrupted has not failed.
      else if (!signal.aborted) failed.set(job.id, failure);
      if (failure === undefined || !signal.aborted) onEnd?.(job, failure);
      free.push(worker);
      free.sort((a, b) => a - b);
      running.delete(work);
    });
    running.add(work);
  };
  for (;;) {
    for (const job of [...left]) {
      const broken = job.after.find((id) => failed.has(id) || blocked.has(id));
      if (broken !== undefined) {
        blocked.set(job.id, blocked.get(broken) ?? broken);
        left.splice(left.indexOf(job), 1);
      } else if (!signal.aborted && free.length > 0 && job.after.every((id) => done.has(id))) {
        left.splice(left.indexOf(job), 1);
        begin(job, free.shift() as number);
      }
    }
    if (running.size === 0) return { done, failed, blocked };
    await Promise.race(running);
  }
}

/** Jobs by level: those of a level need only jobs of the levels before. `done` ones are left out. */
export function levelsOf<J extends Queued>(jobs: readonly J[], done: ReadonlySet<string>): J[][] {
  const levels: J[][] = [];
  const level = new Map<string, number>();
  for (const job of jobs) {
    if (done.has(job.id)) continue;
    const own = Math.max(0, ...job.after.map((id) => (level.get(id) ?? -1) + 1));
    level.set(job.id, own);
    levels[own] ??= [];
    levels[own].push(job);
  }
  return levels;
}

/**
 * OUT: plan.json, jobs/JOB/ with log.txt, done.json and of a training run/, answers/, and what writeReport() writes. A job is
 * done once its done.json is there, which is written last.
 */
import * as v from "valibot";
import type { Host } from "../../host/host.ts";
import { finite, object, readJsonAs } from "../../io/schema.ts";
import { listed } from "../../io/listed.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { toJson } from "../../train/run_folder.ts";
import {
  evaluationId,
  foldersOf,
  type Job,
  PLAN_FILE,
  type Plan,
  readPlan,
  requireSame,
  takesBert,
} from "./plan.ts";
import { type CellKey, cellName } from "./results.ts";

const doneSchema = object({
  /** That the job took: of a training its updates, of an evaluation its process. */
  seconds: finite,
  /** As Job.speed and Job.amount. */
  speed: v.string(),
  amount: finite,
});

/** What is kept of a job that is done. */
export type Done = Readonly<v.InferOutput<typeof doneSchema>>;

/** Folder of a job. */
export const jobFolder = (out: string, { id }: Pick<Job, "id">): string => `${out}/jobs/${id}`;
/** Folder of the run of a training. */
export const runFolder = (out: string, job: Pick<Job, "id">): string => `${jobFolder(out, job)}/run`;
/** What a job leaves: the model of a training, the answers of an evaluation. */
export const productOf = (out: string, job: Job): string =>
  job.kind === "train"
    ? `${runFolder(out, job)}/model`
    : `${out}/answers/${cellName({ ...job, fold: job.fold ?? "" })}.csv`;

/** Folder of the model that answered a cell. */
export function modelFolder(out: string, { jobs }: Plan, cell: CellKey): string {
  const evaluation = jobs.find(({ id }) => id === evaluationId(cell)) as Job;
  return productOf(out, jobs.find(({ id }) => id === evaluation.after[0]) as Job);
}

/** What is kept of a job that is done; undefined where it is not, or what it left was removed. */
export async function readDone(host: Host, out: string, job: Job): Promise<Done | undefined> {
  const path = `${jobFolder(out, job)}/done.json`;
  if ((await host.kind(path)) !== "file" || (await host.kind(productOf(out, job))) === undefined)
    return undefined;
  return await readJsonAs(host, path, doneSchema);
}

/** Marks a job as done. */
export const writeDone = (host: Host, out: string, job: Job, seconds: number): Promise<void> =>
  writeWhole(
    host,
    `${jobFolder(out, job)}/done.json`,
    toJson({ seconds, speed: job.speed, amount: job.amount } satisfies Done),
  );

/** What is kept of the jobs that are done, by their ids. */
export async function readAllDone(host: Host, out: string, { jobs }: Plan): Promise<Map<string, Done>> {
  const found = new Map<string, Done>();
  for (const job of jobs) {
    const done = await readDone(host, out, job);
    if (done) found.set(job.id, done);
  }
  return found;
}

/** Throws where a cross-validation cannot begin or go on in `out`: other files are there. */
export async function checkFolder(host: Host, out: string): Promise<void> {
  const kind = await host.kind(out);
  if (kind === undefined) return;
  if (kind === "file") throw new Error(`Cannot cross-validate in ${out}: it is a file`);
  const names = await host.list(out);
  if (names.includes(PLAN_FILE)) return;
  const foreign = names.filter((name) => !/^lock(\..*)?$|\.tmp$/.test(name));
  if (foreign.length > 0)
    throw new Error(
      `Cannot cross-validate in ${out}: it holds ${listed(foreign, 4)} and no ${PLAN_FILE}, expected a new or an empty folder`,
    );
}

/** Writes the plan where there is none. Throws where another is there. */
export async function keepPlan(host: Host, out: string, plan: Plan): Promise<void> {
  await checkFolder(host, out);
  const former = await readPlan(host, out);
  if (former) requireSame(out, former, plan);
  else await writeWhole(host, `${out}/${PLAN_FILE}`, toJson(plan));
}

/** The command-line arguments that do a job: `train …` or `evaluate …`; `resume` goes on with a training. */
export function argumentsOf(out: string, { asked, jobs }: Plan, job: Job, resume: boolean): string[] {
  const { data, corpus, preset } = asked;
  const layout = corpus === undefined || job.fold === undefined ? [] : ["--corpus", corpus];
  const { hubert, bert } = foldersOf(asked, job.system);
  if (job.kind === "evaluate") {
    const model = jobs.find(({ id }) => id === job.after[0]) as Job;
    return [
      ...["--model", productOf(out, model), "--data", data, ...layout],
      ...["--fold", job.fold as string],
      ...(job.words ? ["--words", job.words] : []),
      ...["--out", productOf(out, job)],
    ];
  }
  if (resume) return ["--resume", "--out", runFolder(out, job)];
  const before = jobs.filter(({ id }) => job.after.includes(id));
  return [
    ...["--system", job.system, "--stage", String(job.stage), "--preset", preset],
    ...["--data", data, ...layout],
    ...(job.fold === undefined ? [] : ["--fold", job.fold]),
    ...(hubert !== undefined && job.stage !== 0 ? ["--hubert", hubert] : []),
    ...(bert !== undefined && takesBert(job.system, job.stage) ? ["--bert", bert] : []),
    ...before.flatMap((each) => ["--stage-model", `${each.stage}=${productOf(out, each)}`]),
    ...[...(job.set ?? []), `seed=${job.seed}`].flatMap((setting) => ["--set", setting]),
    ...["--out", runFolder(out, job)],
  ];
}

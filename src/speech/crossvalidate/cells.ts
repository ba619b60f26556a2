/** Collects what a report is made of from OUT: the answers of every evaluation that is done. */
import type { Host } from "../../host/host.ts";
import { examine } from "../corpora/examine.ts";
import { readCorpus } from "../corpora/read.ts";
import { readAnswers } from "./answers_csv.ts";
import { productOf, runFolder } from "./folder.ts";
import type { Job, Plan } from "./plan.ts";
import type { Cell } from "./results.ts";

/** The evaluated cells of a plan in the order of its jobs. `done` are the ids of the jobs that are done. */
export async function readCells(
  host: Host,
  out: string,
  plan: Plan,
  done: ReadonlySet<string>,
): Promise<Cell[]> {
  const evaluated = plan.jobs.filter((job) => job.kind === "evaluate" && done.has(job.id));
  if (evaluated.length === 0) return [];
  const corpus = await readCorpus(host, plan.asked.data, plan.asked.corpus);
  const { utterances } = await examine(host, corpus);
  // A clip that is too short for one encoder may be long enough for another: answers say what was used.
  const measured = new Map(utterances.map((each) => [each.id, each]));
  const all = corpus.utterances.map((each) => measured.get(each.id) ?? each);
  const cells: Cell[] = [];
  for (const job of evaluated) {
    const { system, words, seed, fold = "" } = job;
    const answers = await readAnswers(host, productOf(out, job), all);
    const metrics = trainingsOf(plan, job).map((each) => `${runFolder(out, each)}/metrics.jsonl`);
    cells.push({ ...{ system, words, fold, seed }, answers, metrics });
  }
  return cells;
}

/** The trainings that made the model of an evaluation, the first stage first. */
function trainingsOf({ jobs }: Plan, { after }: Job): Job[] {
  const needed = jobs.filter(({ id }) => after.includes(id));
  return needed.flatMap((job) => [...trainingsOfStage(jobs, job), job]);
}

const trainingsOfStage = (jobs: readonly Job[], { after }: Job): Job[] =>
  jobs.filter(({ id }) => after.includes(id)).sort((a, b) => (a.stage ?? 0) - (b.stage ?? 0));

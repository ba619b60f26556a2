/** Makes the report of what is done of a cross-validation. */
import type { Host } from "../../src/host/host.ts";
import { readCells } from "../../src/speech/crossvalidate/cells.ts";
import { readAllDone } from "../../src/speech/crossvalidate/folder.ts";
import type { Plan } from "../../src/speech/crossvalidate/plan.ts";
import type { Context } from "../cli.ts";

/** Writes the report and prints its table; names the jobs that are not done. Without an evaluation there is none. */
export async function report(
  host: Host,
  out: string,
  plan: Plan,
  { print, note }: Pick<Context, "print" | "note">,
): Promise<{ missing: string[] }> {
  const done = new Set((await readAllDone(host, out, plan)).keys());
  const missing = plan.jobs.map((job) => job.id).filter((id) => !done.has(id));
  const cells = await readCells(host, out, plan, done);
  if (cells.length === 0) note("no report: no evaluation is done");
  else print(`${cells.length} evaluations`);
  return { missing };
}

/** Makes the report of what is done of a cross-validation. */
import type { Host } from "../../src/host/host.ts";
import { writeWhole } from "../../src/io/write_whole.ts";
import { readCells } from "../../src/speech/crossvalidate/cells.ts";
import { readAllDone } from "../../src/speech/crossvalidate/folder.ts";
import { reportMarkdown } from "../../src/speech/crossvalidate/markdown.ts";
import { crossPlan, type Plan } from "../../src/speech/crossvalidate/plan.ts";
import { type CrossReport, makeReport } from "../../src/speech/crossvalidate/report.ts";
import { formatTables } from "../../src/speech/crossvalidate/tables.ts";
import { toJson } from "../../src/train/run_folder.ts";
import type { Context } from "../cli.ts";

/** Writes the report and prints its tables; names the jobs that are not done. Without an evaluation there is none. */
export async function report(
  host: Host,
  out: string,
  plan: Plan,
  { print, note }: Pick<Context, "print" | "note">,
): Promise<{ missing: string[]; report?: CrossReport }> {
  const done = new Set((await readAllDone(host, out, plan)).keys());
  const missing = plan.jobs.map((job) => job.id).filter((id) => !done.has(id));
  const cells = await readCells(host, out, plan, done);
  if (cells.length === 0) {
    note("no report: no evaluation is done");
    return { missing };
  }
  const made = makeReport(cells, crossPlan(plan));
  await writeWhole(host, `${out}/report.json`, toJson(made));
  await writeWhole(host, `${out}/tables.md`, reportMarkdown(made));
  print(formatTables(made));
  print(`\n${out}/report.json and tables.md have more`);
  return { missing, report: made };
}

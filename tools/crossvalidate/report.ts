/** Makes the report of what is done of a cross-validation. */
import type { Host } from "../../src/host/host.ts";
import { baselineNote } from "../../src/speech/crossvalidate/baselines_beside.ts";
import { readCells } from "../../src/speech/crossvalidate/cells.ts";
import { chooseExamples, observeExamples } from "../../src/speech/crossvalidate/examples.ts";
import { modelFolder, readAllDone } from "../../src/speech/crossvalidate/folder.ts";
import { crossPlan, type Plan } from "../../src/speech/crossvalidate/plan.ts";
import type { CrossReport } from "../../src/speech/crossvalidate/report.ts";
import type { Cell } from "../../src/speech/crossvalidate/results.ts";
import { formatTables } from "../../src/speech/crossvalidate/tables.ts";
import { type WriteOptions, writeReport } from "../../src/speech/crossvalidate/write_report.ts";
import { useRecorded } from "../../src/tune/pinned.ts";
import type { Context } from "../cli.ts";
import { type DeviceChoice, openChosenDevice } from "../device.ts";

/** Writes the report and prints its tables; names the jobs that are not done. Without an evaluation there is none. */
export async function report(
  host: Host,
  out: string,
  plan: Plan,
  choice: DeviceChoice,
  { print, note, signal }: Pick<Context, "print" | "note" | "signal">,
): Promise<{ missing: string[]; report?: CrossReport }> {
  const done = new Set((await readAllDone(host, out, plan)).keys());
  const missing = plan.jobs.map((job) => job.id).filter((id) => !done.has(id));
  const cells = await readCells(host, out, plan, done);
  if (cells.length === 0) {
    note("no report: no evaluation is done");
    return { missing };
  }
  const examples = await examplesOf(host, out, plan, cells, choice, note).catch((error: Error) => {
    note(`the page shows no utterances: ${error.message.split("\n")[0]}`);
    return undefined;
  });
  const baselines = await baselineNote(host, out, plan, signal);
  const made = await writeReport(host, out, cells, crossPlan(plan), { examples, notes: [baselines] });
  print(formatTables(made));
  print(`\n${out} holds report.html, tables.md, report.json and answers.csv`);
  return { missing, report: made };
}

/** Utterances to look at, of a system whose gates can be shown where there is one. */
async function examplesOf(
  host: Host,
  out: string,
  plan: Plan,
  cells: readonly Cell[],
  choice: DeviceChoice,
  note: (line: string) => void,
): Promise<WriteOptions["examples"]> {
  const cell =
    cells.find(({ system }) => system === "both-cmgi") ??
    cells.findLast(({ words }) => words === "recognised") ??
    cells[cells.length - 1];
  const folder = modelFolder(out, plan, cell);
  const device = await openChosenDevice(host, choice);
  try {
    // As the evaluation was launched.
    await useRecorded(host, device, folder, note);
    const { system, fold, seed } = cell;
    return {
      of: `${system}, ${fold}, seed ${seed}`,
      list: await observeExamples(host, device, folder, chooseExamples(cell.answers)),
    };
  } finally {
    device.dispose();
  }
}

/**
 * The process in which kernels run, one trial for each line of its stdin: a kernel that never ends is ended with it. Answers
 * with lines of JSON on stdout, and ends with its stdin.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { currentHost } from "../../src/host/current.ts";
import { ArgumentError } from "../../src/io/argument_error.ts";
import { type Order, readSubject } from "../../src/workshop/subject.ts";
import { expandAll, type KernelReport, runTrial } from "../../src/workshop/trial.ts";

/** One line of stdin. */
export interface Task {
  readonly order: Order;
  /** "wgsl": only expand. */
  readonly what: "trial" | "wgsl";
}

/** One line of stdout. */
export type Answer =
  | { readonly kind: "phase" | "note"; readonly text: string }
  | { readonly kind: "report"; readonly report: KernelReport }
  | { readonly kind: "wgsl"; readonly texts: readonly [name: string, text: string][] }
  | { readonly kind: "error"; readonly message: string; readonly usage: boolean };

const say = (answer: Answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
const cache = new Map<string, unknown>();
/** Values that are kept from run to run; of more, those of the longest ago go. */
const MOST_KEPT = 64;

async function work({ order, what }: Task): Promise<void> {
  const host = await currentHost();
  try {
    say({ kind: "phase", text: "opening the GPU" });
    const subject = await readSubject(host, order, cache);
    if (what === "wgsl") {
      say({ kind: "wgsl", texts: [...(await expandAll(subject))] });
      return;
    }
    const report = await runTrial(subject, order.runs, {
      phase: (text) => say({ kind: "phase", text }),
      note: (text) => say({ kind: "note", text }),
    });
    say({ kind: "report", report });
  } catch (error) {
    const { message } = error instanceof Error ? error : new Error(String(error));
    say({ kind: "error", message, usage: error instanceof ArgumentError });
  }
  for (const key of [...cache.keys()].slice(0, Math.max(0, cache.size - MOST_KEPT))) cache.delete(key);
}

const lines = createInterface({ input: process.stdin });
let last = Promise.resolve();
lines.on("line", (line) => {
  last = last.then(() => work(JSON.parse(line) as Task));
});
// Not exit(): it waits for a GPU that may never be done.
lines.on("close", () => process.kill(process.pid, "SIGKILL"));

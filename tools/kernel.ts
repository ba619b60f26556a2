/** `wavegate kernel`: a workshop for one kernel, of the package or of one's own. docs/kernel_workshop.md leads through it. */
import { existsSync } from "node:fs";
import process from "node:process";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { KERNELS } from "../src/gpu/launch.ts";
import { isFile, filesOf, type Order } from "../src/workshop/subject.ts";
import type { KernelReport } from "../src/workshop/trial.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions } from "./device.ts";
import { showReport as showIsa } from "./isa.ts";
import { isaReports } from "./kernel/isa.ts";
import { History, showErrors, showReport } from "./kernel/show.ts";
import { Trials } from "./kernel/trials.ts";
import { changed, look } from "./kernel/watch.ts";
import { writeError } from "./output.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "kernel",
  summary: SUMMARIES.kernel,
  usage: `NAME [options]   (a kernel or an operator of the package)
       wavegate kernel FILE.wgsl [options]   (one of yours; FILE.json beside it says how it is called)`,
  example: "wavegate kernel rms_norm.wgsl --against faster.wgsl --watch",
  options: {
    ...deviceOptions,
    shape: {
      type: "string",
      value: "SIZES",
      multiple: true,
      help: "N=512,C=768; of an operator x=512x768,w=768",
    },
    dtype: {
      type: "string",
      choices: ["f32", "f16"],
      help: "of the flag X; of an operator of the inputs that may be f16",
    },
    variant: {
      type: "string",
      value: "VALUES",
      multiple: true,
      help: "WG=64,vec; of the package portable, cpu, subgroups",
    },
    against: {
      type: "string",
      value: "FILE",
      help: "WGSL with the same bindings, checked and timed beside it",
    },
    backward: { type: "boolean", help: "of an operator: time forward and backward together" },
    runs: { type: "count", value: "N", default: 9, help: "times that are taken of each variant" },
    timeout: { type: "number", value: "S", default: 60, help: "seconds after which a run is ended" },
    watch: { type: "boolean", help: "again whenever a file of it is saved; Ctrl-C ends" },
    isa: {
      type: "string",
      value: "NAMES",
      help: "show what it becomes on GPUs that are not here, as navi31,sm_90, and run nothing",
    },
    wgsl: { type: "boolean", help: "print the expanded WGSL, and run nothing" },
  },
  operands: { min: 1 },
  async main(context): Promise<number> {
    const { values, operands } = context;
    if (!(values.timeout > 0))
      throw new UsageError(`Cannot read --timeout ${values.timeout}: it is a number of seconds above 0`);
    if (values.memory !== undefined && !(values.memory > 0))
      throw new UsageError(`Cannot read --memory ${values.memory}: it is a number of MiB above 0`);
    const instead = [values.wgsl && "--wgsl", values.isa !== undefined && "--isa", values.watch && "--watch"];
    const [one, other] = instead.filter((option) => option !== false);
    if (other !== undefined) throw new UsageError(`Cannot use ${one} and ${other} at once: give one of them`);
    const host = await currentHost();
    const order = orderOf(operands[0], values);
    for (const file of [order.operand, order.against])
      if (file !== undefined && isFile(file) && !existsSync(file))
        throw new Error(`Cannot read ${file}: no such file or folder`);
    const trials = new Trials(host, values.timeout);
    try {
      if (values.wgsl) return await printTexts(trials, order, context);
      if (values.isa !== undefined) {
        const names = async () => [
          ...new Set((await expanded(trials, order, context)).map(([name]) => name.split(" ")[0])),
        ];
        const targets = [...new Set(values.isa.split(","))];
        const reports = await isaReports(host, order, targets, names);
        for (const report of reports) for (const line of showIsa(report)) context.print(line);
        context.printJson(
          reports.map(({ kernels, ...rest }) => ({
            ...rest,
            kernels: kernels.map(({ code: _, ...kernel }) => kernel),
          })),
        );
        return 0;
      }
      if (!values.watch) return failed(await tryOnce(host, trials, order, context));
      return await watch(host, trials, order, context);
    } finally {
      trials.stop();
    }
  },
});

type Run = Context<typeof verb.options>;

function orderOf(operand: string, values: Run["values"]): Order {
  const { adapter, implementation, memory } = values;
  return {
    ...{
      operand,
      against: values.against,
      shapes: values.shape,
      dtype: values.dtype,
      variants: values.variant,
    },
    ...{ backward: values.backward, runs: values.runs },
    device: {
      ...{ adapter, implementation },
      ...(memory === undefined ? {} : { memoryLimit: memory * 2 ** 20 }),
    },
  };
}

/** What the process does now, on a terminal; every line that is written clears it. */
function listener({ json, note }: Run) {
  const shown = !json && process.stderr.isTTY;
  const clear = () => void (shown && writeError("\r\x1b[K"));
  return {
    clear,
    phase: (text: string) =>
      void (shown && writeError(`\r\x1b[K${text.slice(0, (process.stderr.columns ?? 80) - 1)}`)),
    note: (line: string) => {
      clear();
      note(`kernel: ${line}`);
    },
  };
}

async function tryOnce(
  host: Host,
  trials: Trials,
  order: Order,
  context: Run,
  legend = true,
): Promise<KernelReport> {
  const listen = listener(context);
  const report = await trials.report({ order, what: "trial" }, listen).finally(() => listen.clear());
  const right = report.bouts.some(({ variants }) => variants.some(({ verdict }) => verdict === "right"));
  // Where nothing could be run there is nothing to show but why.
  const ran =
    right || report.bouts.some(({ variants }) => variants.some(({ verdict }) => verdict === "wrong"));
  if (ran) for (const line of showReport(report, legend)) context.print(line);
  for (const line of showErrors(report, await textsOf(host, order))) context.note(`wavegate kernel: ${line}`);
  context.printJson(report);
  return report;
}

const failed = ({ bouts }: KernelReport): number =>
  bouts.every(({ variants }) => variants.every(({ verdict }) => verdict === "right")) ? 0 : 1;

/** Texts of the files, in which errors are looked up. */
async function textsOf(host: Host, { operand, against }: Order): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const path of [operand, against])
    if (path !== undefined && isFile(path)) {
      const text = await host.readText(path).catch(() => undefined);
      if (text !== undefined) found.set(path, text);
    }
  return found;
}

const expanded = (trials: Trials, order: Order, { note }: Run): Promise<readonly [string, string][]> =>
  trials.texts({ order, what: "wgsl" }, { phase: () => {}, note });

async function printTexts(trials: Trials, order: Order, context: Run): Promise<number> {
  const texts = await expanded(trials, order, context);
  for (const [name, text] of texts) context.print(`// ${name}\n${text}`);
  context.printJson(Object.fromEntries(texts));
  return 0;
}

/** Tries again whenever a file is saved, for ever: what is wrong is said, and waited for to be mended. */
async function watch(host: Host, trials: Trials, order: Order, context: Run): Promise<never> {
  const history = new History();
  let legend = true;
  for (;;) {
    const files = await filesToWatch(host, order);
    if (files.length === 0)
      throw new UsageError(
        `Cannot watch ${order.operand}: its kernels lie in the package; --against FILE gives one that changes`,
      );
    const states = await look(files);
    const again = new AbortController();
    const saved = changed(states, again.signal);
    const outcome = await Promise.race([
      tryOnce(host, trials, order, context, legend).then(
        (report) => ({ report }),
        (error: Error) => ({ error }),
      ),
      // What is being tried is no longer what is on the disk.
      saved.then(() => undefined),
    ]);
    if (outcome === undefined) trials.stop();
    else if ("error" in outcome) context.note(`wavegate kernel: ${outcome.error.message.split("\n")[0]}`);
    else {
      for (const line of history.changes(outcome.report)) context.print(line);
      legend = false;
    }
    if (outcome !== undefined) context.note(`kernel: watching ${files.join(", ")}; Ctrl-C ends`);
    const names = await saved;
    again.abort();
    context.print();
    context.print(`${new Date().toTimeString().slice(0, 8)}  ${names.join(", ")} was saved`);
  }
}

/** The files of a kernel; of one of the package those of a checkout. */
async function filesToWatch(host: Host, order: Order): Promise<string[]> {
  const files = await filesOf(host, order);
  const kernels = new URL("../kernels/", import.meta.url);
  if (isFile(order.operand) || !import.meta.url.endsWith(".ts")) return files;
  const name = order.operand.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const names = (KERNELS as readonly string[]).includes(name) ? [name] : KERNELS;
  return [...files, ...names.map((each) => decodeURIComponent(new URL(`${each}.wgsl`, kernels).pathname))];
}

if (isMain(import.meta)) await runVerb(verb);

/** wavegate profile: what every kernel of a workload takes, beside what the adapter could do; and two profiles compared. */
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { checkWritable, writeWhole } from "../src/io/write_whole.ts";
import { diffProfiles } from "../src/profile/diff.ts";
import { measureProfile } from "../src/profile/measure.ts";
import { profilePage } from "../src/profile/page.ts";
import { readProfile } from "../src/profile/read.ts";
import { chromeTrace } from "../src/profile/trace.ts";
import { readPeaks } from "../src/records/peaks.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { commitOf } from "./commit.ts";
import { openTunedDevice, tuningOptions } from "./device.ts";
import { showDiff, showProfile } from "./profile/show.ts";
import { SUMMARIES } from "./summaries.ts";
import { checkOperands, chooseWorkload, locateFolder, workloadOptions } from "./workload.ts";

export const verb = defineVerb({
  name: "profile",
  summary: SUMMARIES.profile,
  usage: `[FOLDER] [options]   (one forward pass of a model, or of a case of validate; by default the bundled model)
       wavegate profile predict [FOLDER] [options]   (a whole recognition)
       wavegate profile train [FOLDER] [options]   (a training step; without FOLDER of --preset, from random weights)
       wavegate profile diff A.json B.json   (two that --save wrote)`,
  example: "wavegate profile train --preset small --save before.json --trace trace.json",
  options: {
    ...workloadOptions,
    ...tuningOptions,
    runs: { type: "count", value: "N", default: 5, help: "runs that are measured" },
    detail: { type: "boolean", help: "every layer by itself, and all kernels" },
    save: { type: "string", value: "FILE", help: "also the whole profile as JSON, for profile diff" },
    trace: { type: "string", value: "FILE", help: "also every dispatch, for Perfetto or chrome://tracing" },
    html: { type: "string", value: "FILE", help: "also a page with timeline, roofline and tables" },
  },
  operands: { max: 3 },
  async main(context): Promise<number> {
    const [mode, ...rest] = context.operands;
    const host = await currentHost();
    if (mode === "diff") return await diff(host, rest, context);
    checkOperands(context.operands);
    await profile(host, context);
    return 0;
  },
});

type Run = Context<typeof verb.options>;

/** Compares two profiles that were saved. */
async function diff(host: Host, paths: readonly string[], { print, printJson }: Run): Promise<number> {
  if (paths.length !== 2) throw new UsageError("Cannot compare: profile diff takes two files, A.json B.json");
  const [before, after] = await Promise.all(paths.map((path) => readProfile(host, path)));
  const found = diffProfiles(before, after);
  for (const line of showDiff(found)) print(line);
  printJson(found);
  return 0;
}

/** Runs a workload and shows where its time goes. */
async function profile(host: Host, { values, operands, print, printJson, ...output }: Run): Promise<void> {
  const { note, progress } = output;
  for (const path of [values.save, values.trace, values.html])
    if (path !== undefined) await checkWritable(host, path);
  const onNote = (line: string) => note(`profile: ${line}`);
  const openDevice = () => openTunedDevice(host, values, onNote);
  const located = await locateFolder(host, operands, "profile", output);
  const { name, workload, options } = await chooseWorkload(host, values, located, { openDevice, onNote });
  const { device } = workload;
  const tuned = device.choices.list.length;
  if (tuned > 0) onNote(`${tuned} launch choices are tuned for this adapter; --no-tune takes the defaults`);
  const peaks = await readPeaks(host, device, onNote);
  const bar = progress("profile", 2 + 2 * values.runs, { unit: "runs" });
  const { profile: found, warmUp } = await measureProfile(device, workload.run, {
    ...{ runs: values.runs, detail: values.detail, command: `profile ${name}`, options, peaks },
    commit: commitOf(),
    onProgress: (done) => bar.update(done),
  }).finally(() => bar.stop());
  for (const line of showProfile(found, warmUp, values.detail)) print(line);
  if (values.save !== undefined) {
    await writeWhole(host, values.save, `${JSON.stringify(found)}\n`);
    print(`wrote ${values.save}`);
  }
  if (values.trace !== undefined) {
    await writeWhole(host, values.trace, JSON.stringify(chromeTrace(found)));
    print(`wrote ${values.trace}`);
  }
  if (values.html !== undefined) {
    await writeWhole(host, values.html, profilePage(found));
    print(`wrote ${values.html}`);
  }
  printJson(found);
  workload.dispose();
}

if (isMain(import.meta)) await runVerb(verb);

/** wavegate profile: what every kernel of a workload takes, beside what the adapter could do; and two profiles compared. */
import { bundled } from "../src/host/bundled_model.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { MAX_SECONDS, readWav, SAMPLE_RATE } from "../src/io/audio.ts";
import { readJson } from "../src/io/config.ts";
import { checkWritable, writeWhole } from "../src/io/write_whole.ts";
import { diffProfiles } from "../src/profile/diff.ts";
import { measureProfile } from "../src/profile/measure.ts";
import { profilePage } from "../src/profile/page.ts";
import { readProfile } from "../src/profile/read.ts";
import { chromeTrace } from "../src/profile/trace.ts";
import { readPeaks } from "../src/records/peaks.ts";
import { PRESETS, type PresetName } from "../src/speech/recipes/presets.ts";
import { SYSTEMS } from "../src/speech/recipes/systems.ts";
import {
  forwardWorkload,
  minSamplesOf,
  noiseOf,
  recognitionWorkload,
  type Workload,
} from "../src/speech/system/profile.ts";
import { stepWorkload } from "../src/speech/training/step_workload.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { commitOf } from "./commit.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { showDiff, showProfile } from "./profile/show.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "profile",
  summary: SUMMARIES.profile,
  usage: `[FOLDER] [options]   (one forward pass of a model, or of a case of validate; by default the bundled model)
       wavegate profile predict [FOLDER] [options]   (a whole recognition)
       wavegate profile train [FOLDER] [options]   (a training step; without FOLDER of --preset, from random weights)
       wavegate profile diff A.json B.json   (two that --save wrote)`,
  example: "wavegate profile train --preset small --save before.json --trace trace.json",
  options: {
    ...deviceOptions,
    runs: { type: "count", value: "N", default: 5, help: "runs that are measured" },
    dtype: {
      type: "string",
      choices: ["f32", "f16"],
      help: "storage of the weights; train: what products read (f32)",
    },
    activations: {
      type: "string",
      choices: ["f32", "f16"],
      help: "what layers hand on to each other (f32)",
    },
    seconds: { type: "number", value: "N", default: 3, help: "length of the noise that is encoded" },
    recording: { type: "string", value: "WAV", help: "predict: a recording instead of noise" },
    tokens: { type: "count", value: "N", default: 32, help: "subwords that are read; not of predict" },
    batch: { type: "count", value: "N", default: 2, help: "train: recordings of a batch" },
    preset: {
      type: "string",
      choices: Object.keys(PRESETS) as PresetName[],
      default: "small",
      help: "train: recipe",
    },
    system: {
      type: "string",
      choices: Object.keys(SYSTEMS),
      default: "both-cmgi",
      help: "train: modalities and fusion, without FOLDER",
    },
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
    const most = mode === "predict" || mode === "train" ? 2 : 1;
    if (context.operands.length > most)
      throw new UsageError(`Cannot read "${context.operands[most]}": one argument too many`);
    await profile(host, context);
    return 0;
  },
});

type Run = Context<typeof verb.options>;
type Options = Record<string, string | number>;

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
async function profile(
  host: Host,
  { values, operands, print, printJson, note, progress }: Run,
): Promise<void> {
  for (const path of [values.save, values.trace, values.html])
    if (path !== undefined) await checkWritable(host, path);
  const { name, workload, options } = await choose(host, values, operands, (line) =>
    note(`profile: ${line}`),
  );
  const { device } = workload;
  const peaks = await readPeaks(host, device, (line) => note(`profile: ${line}`));
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

/** The workload that the command line names. `options` are those that it depends on: profiles of others are not compared. */
async function choose(
  host: Host,
  values: Run["values"],
  [mode, second]: readonly string[],
  onNote: (line: string) => void,
): Promise<{ name: string; workload: Workload; options: Options }> {
  const { seconds, tokens, batch, preset, system, dtype, activations, recording } = values;
  const openDevice = () => openChosenDevice(host, values);
  if (recording !== undefined && mode !== "predict")
    throw new UsageError("Cannot use --recording: only profile predict takes one");
  // A profile of f32 activations says nothing of them, as those before there were others.
  const inHalf: Options = activations === "f16" ? { activations } : {};
  if (mode === "train") {
    const samples = await samplesOf(host, second, seconds);
    const workload = await stepWorkload(host, {
      ...{ preset, system, folder: second, batch, samples, tokens, openDevice },
      ...{ precision: dtype, activations },
    });
    const of: Options = second === undefined ? { preset, system } : { preset, folder: second };
    const options = { ...of, seconds, tokens, batch, dtype: dtype ?? "recipe", ...inHalf };
    return { name: "train", workload, options };
  }
  const folder = (mode === "predict" ? second : mode) ?? bundled("default") ?? bundled("demo");
  if (!folder) throw new UsageError("Cannot run without FOLDER: no model is bundled");
  if (mode === "predict") {
    const audio =
      recording === undefined
        ? noiseOf(await samplesOf(host, folder, seconds))
        : (await readWav(host, recording)).samples;
    const workload = await recognitionWorkload(host, folder, audio, { openDevice, dtype, activations });
    const of: Options = recording === undefined ? { seconds } : { recording };
    return { name: "predict", workload, options: { folder, ...of, dtype: dtype ?? "f32", ...inHalf } };
  }
  const samples = await samplesOf(host, folder, seconds);
  const given = { samples, tokens, dtype, activations, openDevice, onNote };
  const workload = await forwardWorkload(host, folder, given);
  return { name: "FOLDER", workload, options: { folder, seconds, tokens, dtype: dtype ?? "f32", ...inHalf } };
}

/** Number of samples of so many seconds. Throws a UsageError where that is too short for the folder's encoder, or too long. */
async function samplesOf(host: Host, folder: string | undefined, seconds: number): Promise<number> {
  const path = `${folder}/config.json`;
  const least = folder === undefined ? 1 : minSamplesOf(await readJson(host, path), path);
  const samples = Math.round(seconds * SAMPLE_RATE);
  if (samples >= least && seconds <= MAX_SECONDS) return samples;
  throw new UsageError(
    `Cannot read --seconds ${seconds}: it is a number from ${least / SAMPLE_RATE} to ${MAX_SECONDS}`,
  );
}

if (isMain(import.meta)) await runVerb(verb);

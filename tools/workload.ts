/** What `wavegate profile` and `wavegate tune` run, by the options that both share. */
import { bundled } from "../src/host/bundled_model.ts";
import type { Host } from "../src/host/host.ts";
import { MAX_SECONDS, readWav } from "../src/io/audio.ts";
import { SAMPLE_RATE } from "../src/io/samples.ts";
import { readJson } from "../src/io/config.ts";
import { PRESETS, type PresetName } from "../src/speech/recipes/presets.ts";
import { pretrains, SYSTEMS } from "../src/speech/recipes/systems.ts";
import {
  type ForwardOptions,
  forwardWorkload,
  minSamplesOf,
  noiseOf,
  recognitionWorkload,
  type Workload,
} from "../src/speech/system/profile.ts";
import { stepWorkload } from "../src/speech/training/step_workload.ts";
import { type Context, UsageError } from "./cli.ts";
import { deviceOptions } from "./device.ts";
import { modelOf } from "./hub.ts";

export const workloadOptions = {
  ...deviceOptions,
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
    choices: Object.keys(SYSTEMS).filter((name) => !pretrains(name)),
    default: "both-cmgi",
    help: "train: modalities and fusion, without FOLDER",
  },
} as const;

type Values = Context<typeof workloadOptions>["values"];
type Options = Record<string, string | number>;

/** Throws a UsageError where there are too many. */
export function checkOperands(operands: readonly string[]): void {
  const most = operands[0] === "predict" || operands[0] === "train" ? 2 : 1;
  if (operands.length > most) throw new UsageError(`Cannot read "${operands[most]}": one argument too many`);
}

/** The operands with a model of the hub, where FOLDER names one, as the folder that it was pulled to. */
export async function locateFolder(
  host: Host,
  operands: readonly string[],
  verb: string,
  output: Pick<Context, "note" | "progress" | "signal">,
): Promise<string[]> {
  const modes = operands.filter((operand, at) => at === 0 && (operand === "predict" || operand === "train"));
  const folder = operands[modes.length];
  return folder === undefined ? modes : [...modes, await modelOf(host, folder, verb, output)];
}

/** The workload that the command line names. `options` are those that it depends on: profiles of others are not compared. */
export async function chooseWorkload(
  host: Host,
  values: Values,
  [mode, second]: readonly string[],
  { openDevice, onNote }: Pick<ForwardOptions, "openDevice" | "onNote">,
): Promise<{ name: string; workload: Workload; options: Options }> {
  const { seconds, tokens, batch, preset, system, dtype, activations, recording } = values;
  if (recording !== undefined && mode !== "predict")
    throw new UsageError("Cannot use --recording: only predict takes one");
  // A profile of f32 activations says nothing of them, as those from before there were others.
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

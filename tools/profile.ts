/** wavegate profile: where the GPU's time goes in a forward pass. */
import { bundled } from "../src/host/bundled_model.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { MAX_SECONDS, SAMPLE_RATE } from "../src/io/audio.ts";
import { readJson } from "../src/io/config.ts";
import { checkWritable, writeWhole } from "../src/io/write_whole.ts";
import { mergeLayers, minSamplesOf, profileModel, chromeTrace } from "../src/speech/system/profile.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatBytes, formatSeconds, formatTable } from "./format.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "profile",
  summary: SUMMARIES.profile,
  usage: "[FOLDER] [options]   (a model, or a case of validate; by default the bundled model)",
  example: "wavegate profile my-hubert --seconds 10 --trace trace.json",
  options: {
    ...deviceOptions,
    dtype: { type: "string", choices: ["f32", "f16"], default: "f32", help: "storage of the weights" },
    seconds: { type: "number", value: "N", default: 3, help: "length of the noise that is encoded" },
    tokens: { type: "count", value: "N", default: 32, help: "subwords that are read" },
    detail: { type: "boolean", help: "every layer by itself" },
    trace: { type: "string", value: "FILE", help: "also every dispatch, for chrome://tracing or Perfetto" },
  },
  operands: { max: 1 },
  async main({ values, operands, print, printJson, note }) {
    const folder = operands[0] ?? bundled("default") ?? bundled("demo");
    if (!folder) throw new UsageError("Cannot run without FOLDER: no model is bundled");
    const host = await currentHost();
    if (values.trace !== undefined) await checkWritable(host, values.trace);
    const samples = await samplesOf(host, folder, values.seconds);
    const { rows, events, ...figures } = await profileModel(host, folder, {
      ...{ samples, tokens: values.tokens, dtype: values.dtype },
      openDevice: () => openChosenDevice(host, values),
      onNote: (line) => note(`profile: ${line}`),
    });
    const { adapter, dispatches, first, wall, created, peak } = figures;
    const shown = values.detail ? rows : mergeLayers(rows);
    const total = rows.reduce((sum, row) => sum + row.milliseconds, 0);

    const cells = shown.map((row) => [
      row.label,
      row.count,
      row.milliseconds.toFixed(2),
      `${((100 * row.milliseconds) / total).toFixed(1)} %`,
    ]);
    for (const line of formatTable(["kernel", "runs", "GPU ms", "share"], cells)) print(line);
    print();
    print(`${dispatches} dispatches, ${formatSeconds(total / 1000)} of GPU time, on ${adapter}`);
    print(
      `wall ${formatSeconds(first / 1000)} the first time, ${formatSeconds(wall / 1000)} the second, which made ${created} pipelines and bind groups; peak ${formatBytes(peak)}`,
    );
    if (values.trace !== undefined) {
      await writeWhole(host, values.trace, JSON.stringify(chromeTrace(events)));
      print(`wrote ${values.trace}`);
    }
    printJson({ adapter, dispatches, first, wall, gpu: total, created, peak, rows: shown });
    return 0;
  },
});

/** Number of samples of so many seconds. Throws a UsageError where that is too short for the encoder, or too long. */
async function samplesOf(host: Host, folder: string, seconds: number): Promise<number> {
  const path = `${folder}/config.json`;
  const least = minSamplesOf(await readJson(host, path), path);
  const samples = Math.round(seconds * SAMPLE_RATE);
  if (samples >= least && seconds <= MAX_SECONDS) return samples;
  throw new UsageError(
    `Cannot read --seconds ${seconds}: it is a number from ${least / SAMPLE_RATE} to ${MAX_SECONDS}`,
  );
}

if (isMain(import.meta)) await runVerb(verb);

/** wavegate profile: where the GPU's time goes in a forward pass. */
import type { Device } from "../src/gpu/device.ts";
import type { ProfileEvent, ProfileRow } from "../src/gpu/profiler.ts";
import { currentHost } from "../src/host/current.ts";
import { LONGEST_SECONDS, SAMPLE_RATE } from "../src/io/audio.ts";
import { readJson } from "../src/io/config.ts";
import { openSafetensors, type Safetensors } from "../src/io/safetensors.ts";
import { checkWritable, writeWhole } from "../src/io/write_whole.ts";
import { BertModel } from "../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../src/models/config.ts";
import { EmotionRecognizer, emotionConfig } from "../src/speech/system/emotion.ts";
import { architectureOf, familyOf, has } from "../src/models/family.ts";
import { HubertForCTC, HubertModel, receptiveField } from "../src/models/hubert.ts";
import { mayIgnore, spellings } from "../src/models/keys.ts";
import { draw } from "../src/nn/init.ts";
import { Weights } from "../src/nn/weights.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { bundled } from "../src/host/bundled_model.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatBytes, formatSeconds, formatTable } from "./format.ts";

export const verb = defineVerb({
  name: "profile",
  summary: "time of every kernel in a forward pass",
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
    const configPath = `${folder}/config.json`;
    const json = await readJson(host, configPath);
    const samples = samplesOf(values.seconds, json, configPath);
    const file = await openSafetensors(host, folder);
    const architecture = architectureOf(json);
    if (/For(?!CTC)/.test(architecture ?? ""))
      note(`profile: ${folder} is a ${architecture}; its encoder alone runs`);
    const device = await openChosenDevice(host, values);
    const weights = new Weights(device, { file, path: folder, spellings, mayIgnore, dtype: values.dtype });
    const forward = build(weights, json, configPath, file, samples, values.tokens);
    await weights.initialize();
    await file.close();

    const run = async () => {
      const start = performance.now();
      scope(device, forward);
      await device.idle();
      return performance.now() - start;
    };
    const first = await run();
    const [{ dispatches }, made] = [device.recorder, { ...device.counters }];
    const wall = await run();
    const count = device.recorder.dispatches - dispatches;
    const created = device.counters.pipelines - made.pipelines + device.counters.bindGroups - made.bindGroups;
    const { rows, events } = await profile(device, run);
    const shown = values.detail ? rows : byKind(rows);
    const total = rows.reduce((sum, row) => sum + row.milliseconds, 0);
    const peak = device.pool.statistics.peak;

    const cells = shown.map((row) => [
      row.label,
      row.count,
      row.milliseconds.toFixed(2),
      `${((100 * row.milliseconds) / total).toFixed(1)} %`,
    ]);
    for (const line of formatTable(["kernel", "runs", "GPU ms", "share"], cells)) print(line);
    print();
    print(`${count} dispatches, ${formatSeconds(total / 1000)} of GPU time, on ${device.info.name}`);
    print(
      `wall ${formatSeconds(first / 1000)} the first time, ${formatSeconds(wall / 1000)} the second, which made ${created} pipelines and bind groups; peak ${formatBytes(peak)}`,
    );
    if (values.trace !== undefined) {
      await writeWhole(host, values.trace, JSON.stringify(traceOf(events)));
      print(`wrote ${values.trace}`);
    }
    printJson({
      adapter: device.info.name,
      dispatches: count,
      first,
      wall,
      gpu: total,
      created,
      peak,
      rows: shown,
    });
    weights.dispose();
    device.dispose();
    return 0;
  },
});

/** Samples of so many seconds. Throws a UsageError where the encoder makes no frame of them, or they are too many. */
function samplesOf(seconds: number, json: Readonly<Record<string, unknown>>, source: string): number {
  const whole = has(json, "hubert") || has(json, "bert");
  const hubert = whole
    ? emotionConfig(json, source).hubert
    : familyOf(json, source, ["hubert", "wav2vec2", "bert"]) === "bert"
      ? undefined
      : hubertConfig(json, source);
  const least = hubert ? receptiveField(hubert) : 1;
  const samples = Math.round(seconds * SAMPLE_RATE);
  if (samples >= least && seconds <= LONGEST_SECONDS) return samples;
  throw new UsageError(
    `Cannot read --seconds ${seconds}: it is a number from ${least / SAMPLE_RATE} to ${LONGEST_SECONDS}`,
  );
}

/** The forward pass of whatever the folder holds. */
function build(
  weights: Weights,
  json: Readonly<Record<string, unknown>>,
  source: string,
  file: Safetensors,
  samples: number,
  tokens: number,
): () => void {
  const { device, root } = weights;
  const noise = draw({ kind: "normal", std: 1 }, samples, 1, "noise");
  const audio = () => ({ audio: Tensor.from(device, noise, [1, samples]) });
  const read = (most: number, vocabulary: number) => ({
    ids: [Array.from({ length: Math.min(tokens, most) }, (_, i) => (i * 37 + 1) % vocabulary)],
  });
  if (has(json, "hubert") || has(json, "bert")) {
    const system = new EmotionRecognizer(root, emotionConfig(json, source));
    const { hubert, bert } = system.config;
    return () => {
      const speech = hubert && system.encodeSpeech(audio());
      system.classify(speech, bert && read(bert.maxPositions, bert.vocabSize));
    };
  }
  if (familyOf(json, source, ["hubert", "wav2vec2", "bert"]) === "bert") {
    const settings = bertConfig(json, source);
    const bert = new BertModel(root.at("bert"), settings);
    return () => void bert.forward(read(settings.maxPositions, settings.vocabSize));
  }
  const settings = hubertConfig(json, source);
  const model = file.tensors.has("lm_head.weight")
    ? new HubertForCTC(root, settings)
    : new HubertModel(root.at(settings.prefix), settings);
  return () => void model.forward(audio());
}

async function profile(
  device: Device,
  run: () => Promise<number>,
): Promise<{ rows: ProfileRow[]; events: readonly ProfileEvent[] }> {
  device.startProfile();
  const { profiler } = device.recorder;
  await run();
  const rows = await device.endProfile();
  return { rows, events: profiler?.events ?? [] };
}

/** Layers that differ by their number alone, together. */
function byKind(rows: readonly ProfileRow[]): ProfileRow[] {
  const kinds = new Map<string, ProfileRow>();
  for (const { label, count, milliseconds } of rows) {
    const kind = label.replace(/\.\d+(?=[./])/g, ".*");
    const known = kinds.get(kind);
    kinds.set(kind, {
      label: kind,
      count: count + (known?.count ?? 0),
      milliseconds: milliseconds + (known?.milliseconds ?? 0),
    });
  }
  return [...kinds.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** Trace event format: complete events, in microseconds from the first one's begin. */
function traceOf(events: readonly ProfileEvent[]) {
  const start = Math.min(...events.map((e) => e.begin));
  return {
    traceEvents: events.map(({ label, begin, end }) => ({
      name: label,
      ph: "X",
      ts: (begin - start) / 1000,
      dur: Math.max(0, end - begin) / 1000,
      pid: 1,
      tid: 1,
    })),
  };
}

if (isMain(import.meta)) await runVerb(verb);

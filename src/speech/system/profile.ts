/** GPU time of each kernel in a forward pass of any model folder. */
import type { Device } from "../../gpu/device.ts";
import type { ProfileEvent, ProfileRow } from "../../gpu/profiler.ts";
import type { Host } from "../../host/host.ts";
import { readJson } from "../../io/config.ts";
import { openSafetensors, type Safetensors } from "../../io/safetensors.ts";
import { BertModel } from "../../models/bert.ts";
import { bertConfig, hubertConfig } from "../../models/config.ts";
import { architectureOf, familyOf, has } from "../../models/family.ts";
import { HubertForCTC, HubertModel, receptiveField } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import { draw } from "../../nn/init.ts";
import { Weights, type WeightsOptions } from "../../nn/weights.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { EmotionRecognizer, emotionConfig } from "./emotion.ts";

/** Options of profileModel(). */
export interface ProfileOptions extends Pick<WeightsOptions, "dtype"> {
  /** Called once the folder has been read. */
  readonly openDevice: () => Promise<Device>;
  /** Length of the audio, which is noise, at 16 kHz. */
  readonly samples: number;
  /** Number of subwords; no more are read than the model has positions for. */
  readonly tokens: number;
  /** Told which part of the model does not run. */
  readonly onNote?: (line: string) => void;
}

/** The result of profileModel(). */
export interface Profile {
  /** Name of the adapter. */
  readonly adapter: string;
  /** Dispatches of the second pass. */
  readonly dispatches: number;
  /** Milliseconds of the first pass, which compiles kernels. */
  readonly first: number;
  /** Milliseconds of the second pass. */
  readonly wall: number;
  /** Pipelines and bind groups that the second pass created. */
  readonly created: number;
  /** Most bytes of GPU buffers. */
  readonly peak: number;
  /** Kernels of a third pass by label, those with the most GPU time first. */
  readonly rows: readonly ProfileRow[];
  /** Dispatches of that pass, in order. */
  readonly events: readonly ProfileEvent[];
}

/** Runs the model in `folder` three times: cold, warm and with timestamps. Throws where the adapter has none. */
export async function profileModel(host: Host, folder: string, options: ProfileOptions): Promise<Profile> {
  const { openDevice, samples, tokens, dtype, onNote } = options;
  const path = `${folder}/config.json`;
  const json = await readJson(host, path);
  const file = await openSafetensors(host, folder);
  const architecture = architectureOf(json);
  if (/For(?!CTC)/.test(architecture ?? ""))
    onNote?.(`${folder} is a ${architecture}; its encoder alone runs`);
  const device = await openDevice();
  const weights = new Weights(device, { file, path: folder, spellings, mayIgnore, dtype });
  const forward = build(weights, json, path, file, samples, tokens);
  await weights.initialize();
  await file.close();

  const run = async () => {
    const start = performance.now();
    scope(device, forward);
    await device.idle();
    return performance.now() - start;
  };
  const { recorder, counters } = device;
  const first = await run();
  const [before, made] = [recorder.dispatches, { ...counters }];
  const wall = await run();
  const dispatches = recorder.dispatches - before;
  const created = counters.pipelines - made.pipelines + counters.bindGroups - made.bindGroups;
  device.startProfile();
  const { profiler } = device.recorder;
  await run();
  const rows = await device.endProfile();
  const { peak } = device.pool.statistics;
  const adapter = device.info.name;
  weights.dispose();
  device.dispose();
  return { adapter, dispatches, first, wall, created, peak, rows, events: profiler?.events ?? [] };
}

/** Fewest samples that the speech encoder of a config takes; 1 where it has none. */
export function minSamplesOf(json: Readonly<Record<string, unknown>>, source: string): number {
  const whole = has(json, "hubert") || has(json, "bert");
  if (whole) {
    const { hubert } = emotionConfig(json, source);
    return hubert ? receptiveField(hubert) : 1;
  }
  const family = familyOf(json, source, ["hubert", "wav2vec2", "bert"]);
  return family === "bert" ? 1 : receptiveField(hubertConfig(json, source));
}

/** The forward pass of the model in a folder. */
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

/** Adds up the rows of layers that differ by their number alone, as "encoder.layers.*.attention". */
export function mergeLayers(rows: readonly ProfileRow[]): ProfileRow[] {
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

/** Dispatches in Chrome's trace event format: complete events, in microseconds from the begin of the first. */
export function chromeTrace(events: readonly ProfileEvent[]) {
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

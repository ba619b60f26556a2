/** What `wavegate profile` runs: a forward pass of any model folder, or a whole recognition. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { readJson } from "../../io/config.ts";
import { openCheckpoint } from "../../io/checkpoint.ts";
import type { Safetensors } from "../../io/safetensors.ts";
import { BertModel } from "../../models/bert.ts";
import { bertConfig, hubertConfig } from "../../models/config.ts";
import { architectureOf, familyOf } from "../../models/family.ts";
import { HubertForCTC, HubertModel, receptiveField } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import {
  HubertForSequenceClassification,
  sequenceClassificationConfig,
} from "../../models/sequence_classification.ts";
import { draw } from "../../nn/init.ts";
import type { Mode } from "../../nn/mode.ts";
import { Weights, type WeightsOptions } from "../../nn/weights.ts";
import { scope } from "../../tensor/scope.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { emotionConfig, emotionSystem } from "./emotion_system.ts";
import { isSystem } from "./folder.ts";
import { openRecognizer } from "./recognizer.ts";

/** Something to be profiled, ready on a device. */
export interface Workload {
  readonly device: Device;
  /** Runs it once, and waits for results that it needs. */
  readonly run: () => Promise<void>;
  /** Frees its weights, and the device. */
  readonly dispose: () => void;
}

/** Options of forwardWorkload(). */
export interface ForwardOptions extends Pick<WeightsOptions, "dtype">, Pick<Mode, "activations"> {
  /** Called once the folder has been read. */
  readonly openDevice: () => Promise<Device>;
  /** Length of the audio, which is noise, at 16 kHz. */
  readonly samples: number;
  /** Number of subwords; no more are read than the model has positions for. */
  readonly tokens: number;
  /** Told which part of the model does not run. */
  readonly onNote?: (line: string) => void;
}

/** One forward pass of the model in `folder`: a system, a speech encoder with or without CTC head, or BERT. */
export async function forwardWorkload(
  host: Host,
  folder: string,
  options: ForwardOptions,
): Promise<Workload> {
  const { openDevice, samples, tokens, dtype, activations, onNote } = options;
  const path = `${folder}/config.json`;
  const json = await readJson(host, path);
  const architecture = architectureOf(json);
  if (/For(?!CTC|SequenceClassification)/.test(architecture ?? "") || /^Bert.*For/.test(architecture ?? ""))
    onNote?.(`${folder} is a ${architecture}; its encoder alone runs`);
  const device = await openDevice();
  const file = await openCheckpoint(host, folder).catch((error) => {
    device.dispose();
    throw error;
  });
  const weights = new Weights(device, { file, path: folder, spellings, mayIgnore, dtype });
  const dispose = () => {
    weights.dispose();
    device.dispose();
  };
  let forward: () => void;
  try {
    forward = build(weights, json, path, file, { samples, tokens, mode: { activations } });
    await weights.initialize();
  } catch (error) {
    dispose();
    throw error;
  } finally {
    await file.close();
  }
  return { device, run: async () => scope(device, forward), dispose };
}

/**
 * One recognition as `wavegate predict` does it: speech encoder, CTC head, decoding, and for a system the words through BERT
 * and the fusion of both. `audio` is mono at 16 kHz. Throws where the folder takes no recordings.
 */
export async function recognitionWorkload(
  host: Host,
  folder: string,
  audio: Float32Array,
  { openDevice, dtype, activations }: Pick<ForwardOptions, "openDevice" | "dtype" | "activations">,
): Promise<Workload> {
  const device = await openDevice();
  const recognizer = await openRecognizer(host, device, folder, { dtype, activations });
  const dispose = () => {
    recognizer.dispose();
    device.dispose();
  };
  const run = async () => void (await recognizer.recognize([audio], { skipSilence: false }));
  return { device, run, dispose };
}

/** Noise that stands for speech, at 16 kHz: the same each time. */
export const noiseOf = (samples: number): Float32Array =>
  draw({ kind: "normal", std: 0.1 }, samples, 1, "noise");

/** Fewest samples that the speech encoder of a config takes; 1 where it has none. */
export function minSamplesOf(json: Readonly<Record<string, unknown>>, source: string): number {
  if (isSystem(json)) {
    const { speech } = emotionConfig(json, source);
    return speech ? receptiveField(speech) : 1;
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
  { samples, tokens, mode }: Pick<ForwardOptions, "samples" | "tokens"> & { readonly mode: Mode },
): () => void {
  const { device, root } = weights;
  const noise = draw({ kind: "normal", std: 1 }, samples, 1, "noise");
  const audio = () => ({ audio: Tensor.from(device, noise, [1, samples]) });
  const read = (most: number, vocabulary: number) => ({
    ids: [Array.from({ length: Math.min(tokens, most) }, (_, i) => (i * 37 + 1) % vocabulary)],
  });
  if (isSystem(json)) {
    const system = emotionSystem(root, emotionConfig(json, source));
    const { speech: sizes, bert, lstm, maxTokens } = system.config;
    const rows = bert?.vocabSize ?? lstm?.words?.vocabSize;
    return () => {
      const speech = sizes && system.encodeSpeech(audio(), mode);
      const words = maxTokens && rows ? read(maxTokens, rows) : undefined;
      // As many characters as a text of so many tokens has, about.
      const text = Array.from({ length: 4 * tokens }, (_, i) => i % (lstm?.vocabSize ?? 1));
      const spelling = speech && system.spells ? system.spell?.(speech, [text], mode) : undefined;
      system.classify(speech, words, mode, spelling);
    };
  }
  if (familyOf(json, source, ["hubert", "wav2vec2", "bert"]) === "bert") {
    const settings = bertConfig(json, source);
    const bert = new BertModel(root.at("bert"), settings);
    return () => void bert.forward(read(settings.maxPositions, settings.vocabSize), mode);
  }
  const settings = hubertConfig(json, source);
  const classifies = file.tensors.has("projector.weight") && file.tensors.has("classifier.weight");
  const model = file.tensors.has("lm_head.weight")
    ? new HubertForCTC(root, settings)
    : classifies
      ? new HubertForSequenceClassification(root, settings, sequenceClassificationConfig(json, source))
      : new HubertModel(root.at(settings.prefix), settings);
  return () => void model.forward(audio(), mode);
}

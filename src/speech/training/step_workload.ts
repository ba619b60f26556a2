/** What `wavegate profile train` runs: training steps of a system on noise. */
import { readJson } from "../../io/config.ts";
import type { Host } from "../../host/host.ts";
import { SAMPLE_RATE } from "../../io/samples.ts";
import { openCheckpoint } from "../../io/checkpoint.ts";
import { frameCount, receptiveField } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import { uniform } from "../../nn/random.ts";
import { Weights } from "../../nn/weights.ts";
import { AdamW } from "../../train/optimizer.ts";
import { trainingStream } from "../../train/seeds.ts";
import { update } from "../../train/update.ts";
import { LABELS } from "../corpora/corpus.ts";
import type { StageConfig } from "../recipes/config.ts";
import { lstmOf, lstmStage, PRESETS, type PresetName } from "../recipes/presets.ts";
import { systemConfig, systemOf } from "../recipes/systems.ts";
import type { EmotionSystem } from "../system/emotion.ts";
import { emotionConfig, emotionSystem } from "../system/emotion_system.ts";
import { type ForwardOptions, noiseOf, type Workload } from "../system/profile.ts";
import { freeze } from "./build.ts";
import { EmotionTask } from "./emotion_task.ts";
import type { Batch } from "./examples.ts";

/** Options of stepWorkload(). */
export interface StepOptions extends Pick<ForwardOptions, "openDevice" | "samples" | "tokens"> {
  /** Whose last stage gives rates, what is frozen and, without `folder`, the architecture with random weights. */
  readonly preset: PresetName;
  /** Name of the system, one of SYSTEMS; that of `folder` where one is given. */
  readonly system: string;
  /** A model folder to train instead, a whole system. */
  readonly folder?: string;
  /** Recordings of a batch. */
  readonly batch: number;
  /** What products read; the recipe's by default. */
  readonly precision?: StageConfig["precision"];
  /** What layers hand on to each other; the recipe's by default. */
  readonly activations?: StageConfig["activations"];
}

/** BERT's vocabulary where no checkpoint says it. */
const WORDS = 30_522;

/**
 * One update of the weights: forward, backward and optimiser, dropout and SpecAugment on, as in the last stage of a run. Every
 * run is given the same batch and the same random numbers. Throws where the folder is no whole system.
 */
export async function stepWorkload(host: Host, options: StepOptions): Promise<Workload> {
  const { preset, system: name, folder, batch: B, samples, tokens, openDevice } = options;
  const recipe = PRESETS[preset];
  const { lstm: kind } = systemOf(name);
  const stage = folder === undefined && kind ? lstmStage(preset) : recipe.stage2;
  const path = folder === undefined ? `the recipe ${preset} (model)` : `${folder}/config.json`;
  const json =
    folder === undefined
      ? systemConfig(systemOf(name), 2, {
          hubert: { vocab_size: 32, ...recipe.model.hubert },
          bert: { vocab_size: WORDS, ...recipe.model.bert },
          lstm: kind && { vocab_size: 32, word_vocab_size: WORDS, ...lstmOf(kind, recipe.model.lstm ?? {}) },
          ...{ cmgi: recipe.model.cmgi, alpha: stage.alpha },
        })
      : await readJson(host, path);
  const config = emotionConfig(json, path);
  const { hubert, bert, lstm, speech, blank = 0, maxTokens } = config;
  if (speech && samples < receptiveField(speech))
    throw new RangeError(
      `Cannot profile a step: ${samples} samples are too few for this speech encoder, at least ${receptiveField(speech)} expected`,
    );
  const device = await openDevice();
  const { precision = stage.precision, activations = stage.activations } = options;
  if (precision === "f16" && !device.info.f16)
    throw new Error(`Cannot train with f16: ${device.info.name} has no shader-f16`);
  if (activations === "f16" && precision !== "f16")
    throw new Error(`Cannot train with f16 activations and products of ${precision}: they need those of f16`);
  const file = folder === undefined ? undefined : await openCheckpoint(host, folder);
  const weights = new Weights(device, {
    ...{ file, path: folder, spellings, mayIgnore, seed: recipe.seed, matmulDType: precision },
  });
  let layers: EmotionSystem;
  try {
    layers = emotionSystem(weights.root, config);
    await weights.initialize();
  } catch (error) {
    weights.dispose();
    throw error;
  } finally {
    await file?.close();
  }
  freeze(weights.parameters, stage.freeze);
  for (const parameter of weights.parameters) parameter.matmulDType = precision;
  const task = new EmotionTask({
    ...{ system: layers, parameters: weights.parameters, alpha: config.alpha, seed: recipe.seed },
    ...{ train: [], dev: [], batch: stage.batch, augment: stage.augment },
    ...{ ctcReduction: stage.ctcReduction, labelSmoothing: stage.labelSmoothing },
    words: folder === undefined ? systemOf(name).words : undefined,
    reader: { host, maxTokens: maxTokens ?? tokens },
    save: async () => {},
  });
  const { learningRate, weightDecay, maxGradNorm } = stage;
  const optimizer = new AdamW(device, weights.parameters, {
    ...{ weightDecay, maxGradNorm },
    learningRate: (key) =>
      /^(hubert|wav2vec2|bert)\./.test(key) ? learningRate.encoder : learningRate.heads,
  });
  const frames = speech ? frameCount(speech, samples) : 0;
  const rows = bert?.vocabSize ?? lstm?.words?.vocabSize;
  const batch = noiseBatch(B, samples, {
    ...{ classes: config.asr ? (hubert?.vocabSize ?? lstm?.vocabSize ?? 0) : 0, blank },
    // Ten characters a second, as in speech, and no more than the frames can spell.
    characters: Math.max(1, Math.min(Math.round((10 * samples) / SAMPLE_RATE), frames >> 1)),
    words: rows && maxTokens ? { size: rows, count: Math.min(tokens, maxTokens) } : undefined,
    labels: Math.min(LABELS.length, config.labels.length),
  });
  return {
    device,
    async run() {
      const checkpoint = stage.gradientCheckpointing;
      const mode = () => ({ training: trainingStream(1), checkpoint, activations });
      await update(device, task, optimizer, [batch], { factor: 1, mode });
    },
    dispose() {
      weights.dispose();
      device.dispose();
    },
  };
}

/** A batch of noise with random characters, subwords and labels. */
function noiseBatch(
  B: number,
  samples: number,
  given: {
    /** Characters, the blank of CTC among them; 0: none are recognised. */
    readonly classes: number;
    readonly blank: number;
    readonly characters: number;
    readonly words: { readonly size: number; readonly count: number } | undefined;
    readonly labels: number;
  },
): Batch {
  const { classes, blank, characters, words, labels } = given;
  const next = uniform(1);
  const ids = (count: number, size: number, except: number) =>
    Array.from({ length: count }, () => {
      const id = Math.floor(next() * (size - 1));
      return id >= except ? id + 1 : id;
    });
  const each = <T>(make: (b: number) => T): T[] => Array.from({ length: B }, (_, b) => make(b));
  return {
    utterances: [],
    ...{ audio: noiseOf(B * samples).map((v) => 10 * v), samples, lengths: each(() => samples) },
    targets: each(() => (classes > 1 ? ids(characters, classes, blank) : [])),
    labels: each((b) => b % labels),
    ...(words && { words: { ids: each(() => ids(words.count, words.size, 0)) } }),
    seconds: (B * samples) / SAMPLE_RATE,
  };
}

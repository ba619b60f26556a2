/** Stages that pretrain a speech encoder: by transcripts, or by units of masked frames. Their models open in transformers. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { readWav } from "../../io/audio.ts";
import { normalize } from "../../io/samples.ts";
import { mismatch } from "../../io/schema.ts";
import { type HubertConfig, hubertConfig } from "../../models/config.ts";
import { HubertForCTC, receptiveField } from "../../models/hubert.ts";
import { HubertForPretraining } from "../../models/hubert_pretraining.ts";
import type { Weights, WeightScope } from "../../nn/weights.ts";
import { saveWeights } from "../../train/checkpoint.ts";
import { toJson } from "../../train/run_folder.ts";
import type { SavePoint, Task } from "../../train/task.ts";
import { type StageNumber, stageOf, type TrainConfig } from "../recipes/config.ts";
import { pretrains } from "../recipes/systems.ts";
import { writeFiles } from "./assets.ts";
import type { TaskOptions } from "./build.ts";
import { CtcTask } from "./ctc_task.ts";
import { MaskedTask } from "./masked_task.ts";
import type { StageInputs } from "./stage_inputs.ts";
import { type FrameFeatures, fitUnits, layerFeatures, mfccFeatures, openTeacher, Units } from "./units.ts";

type Json = Readonly<Record<string, unknown>>;

/** The config of the encoder. Throws where masks are to be learned and there is no embedding for them. */
function configOf(config: TrainConfig, hubert: Json, source: string): HubertConfig {
  const parsed = hubertConfig(hubert, source);
  if (pretrains(config.system) === "units" && !parsed.maskEmbedding)
    throw mismatch(
      source,
      "mask_time_prob",
      hubert.mask_time_prob ?? null,
      "above 0: without masks the model has no embedding of masked frames",
    );
  return parsed;
}

/** The model of a stage of pretraining. */
export function pretrainingModel(
  root: WeightScope,
  config: TrainConfig,
  stage: StageNumber,
  hubert: Json,
  source: string,
): HubertForCTC | HubertForPretraining {
  const parsed = configOf(config, hubert, source);
  const { units } = config;
  if (!units) return new HubertForCTC(root, parsed);
  const { clusters, projectionSize, temperature, layer } = units;
  if (stage === 2 && layer > parsed.layers)
    throw new RangeError(
      `Cannot cluster by layer ${layer}: units.layer should be at most ${parsed.layers}, num_hidden_layers of ${source}`,
    );
  const head = { clusters: stage === 1 ? clusters.mfcc : clusters.layer, projectionSize, temperature };
  return new HubertForPretraining(root, parsed, head);
}

/** What a stage of pretraining is made of, besides its weights. */
export interface BuiltPretraining {
  readonly task: Task<unknown>;
  /** A hash of what the stage learns from besides the corpus; equal on all ranks. */
  readonly units?: string;
  /** Frees the model whose layer gives the units. */
  dispose(): void;
}

/** Declares the model in `weights`, and makes the task; with units, clusters frames where `checkpoint` has no centroids yet. */
export async function pretrainingTask(
  weights: Weights,
  config: TrainConfig,
  inputs: StageInputs,
  checkpoint: string | undefined,
  options: TaskOptions & {
    /** Files beside every model, by name. */
    readonly files: Readonly<Record<string, string>>;
    /** The model card, by name. */
    readonly card: (at?: SavePoint) => Readonly<Record<string, string>>;
  },
): Promise<BuiltPretraining> {
  const { device } = weights;
  const { host } = device;
  const { stage, assets, hubert = {} } = inputs;
  const { train, dev, onProblem } = options;
  const stageConfig = stageOf(config, stage);
  const model = pretrainingModel(weights.root, config, stage, hubert, "the recipe (model.hubert)");
  const { hubert: encoder } = model;
  const reader = {
    ...{ host, onProblem, normalize: assets.normalize, vocabulary: assets.vocabulary, maxTokens: 0 },
    minSamples: receptiveField(encoder.config),
  };
  const architecture = model instanceof HubertForCTC ? "ForCTC" : "Model";
  const family = encoder.config.prefix === "wav2vec2" ? "Wav2Vec2" : "Hubert";
  const files = {
    ...(model instanceof HubertForCTC
      ? assets.files
      : { "preprocessor_config.json": assets.files["preprocessor_config.json"] }),
    "config.json": toJson({ ...hubert, architectures: [`${family}${architecture}`] }),
    ...options.files,
  };
  const save = async (folder: string, card: Readonly<Record<string, string>>) => {
    await writeFiles(host, folder, { ...files, ...card });
    await saveWeights(host, `${folder}/model.safetensors`, weights.parameters);
  };
  const common = {
    ...{ device, parameters: weights.parameters, train, dev, batch: stageConfig.batch, seed: config.seed },
  };
  const { card } = options;
  if (model instanceof HubertForCTC) {
    const { ctcReduction, augment } = stageConfig;
    const task = new CtcTask({
      ...{ ...common, model, reader, ctcReduction, augment },
      save: (folder, at) => save(folder, card(at)),
    });
    return { task: task as Task<unknown>, dispose() {} };
  }
  if (!config.units) throw new Error("Cannot pretrain by units without the recipe's units");
  const { clusters, layer, frames, iterations, maskTimeProb, maskTimeLength, unmaskedWeight } = config.units;
  const source = await sourceOfUnits(device, inputs, layer, encoder.config);
  try {
    const wavs = train.map(({ wav, id }) => ({ wav, id }));
    const units = checkpoint
      ? await Units.open(host, checkpoint, source.features)
      : await fitUnits(
          source.features,
          {
            count: wavs.length,
            read: (i) => readClip(host, wavs[i], reader),
          },
          {
            ...{ clusters: stage === 1 ? clusters.mfcc : clusters.layer, frames, iterations },
            ...{ seed: config.seed, onNote: options.onNote, signal: options.signal },
          },
        );
    const task = new MaskedTask({
      ...{ ...common, model, reader: { ...reader, vocabulary: undefined }, units, unmaskedWeight },
      mask: { probability: maskTimeProb, length: maskTimeLength },
      save: async (folder, at) => {
        await units.save(host, folder);
        await save(folder, card(at));
      },
    });
    return { task: task as Task<unknown>, units: units.digest(host), dispose: source.dispose };
  } catch (error) {
    source.dispose();
    throw error;
  }
}

/** MFCC in stage 1; a layer of the model of stage 1, or else of the checkpoint that training starts from, in stage 2. */
async function sourceOfUnits(
  device: Device,
  { stage, teacher }: StageInputs,
  layer: number,
  encoder: HubertConfig,
): Promise<{ features: FrameFeatures; dispose(): void }> {
  if (stage === 1) return { features: mfccFeatures(encoder), dispose() {} };
  if (teacher === undefined)
    throw new Error("Cannot cluster by the features of a layer without the model of stage 1");
  const opened = await openTeacher(device, teacher, layer, encoder);
  return {
    features: layerFeatures(opened, layer, `layer ${layer} of the model of stage 1`),
    dispose: () => opened.weights.dispose(),
  };
}

/** A recording as training reads it; undefined where it cannot be read, of which onProblem is told. */
async function readClip(
  host: Host,
  { wav, id }: { readonly wav: string; readonly id: string },
  {
    minSamples,
    onProblem,
    normalize: normalizes,
  }: Pick<TaskOptions, "onProblem"> & { readonly minSamples: number; readonly normalize: boolean },
): Promise<Float32Array | undefined> {
  try {
    const { samples } = await readWav(host, wav, { minSamples });
    return normalizes ? normalize(samples) : samples;
  } catch (error) {
    if (!onProblem) throw error;
    onProblem(id, (error as Error).message);
    return undefined;
  }
}

/** Builds the model and the task of a stage. */
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { bertConfig } from "../../models/config.ts";
import { emotionConfig, emotionSystem } from "../system/emotion_system.ts";
import { lstmSystemConfig } from "../system/lstm_config.ts";
import { receptiveField } from "../../models/hubert.ts";
import { BertForMaskedLM } from "../../models/bert.ts";
import type { Parameter } from "../../nn/parameter.ts";
import { Weights } from "../../nn/weights.ts";
import { writeFiles } from "./assets.ts";
import { saveWeights } from "../../train/checkpoint.ts";
import { type StageNumber, stageOf, type TrainConfig } from "../recipes/config.ts";
import { pretrains, systemOf } from "../recipes/systems.ts";
import { balancedWeights, EmotionTask, type EmotionTaskOptions } from "./emotion_task.ts";
import { noteTruncation } from "./examples.ts";
import { type StageModels, type StageInputs, stageInputs, openSources, systemJson } from "./stage_inputs.ts";
import { CARD_FILE, modelCard } from "./model_card.ts";
import { PROVENANCE_FILE, type Provenance, provenanceText } from "./provenance.ts";
import { LAUNCH_FILE, launchText } from "../../tune/pinned.ts";
import { toJson } from "../../train/run_folder.ts";
import { type BuiltPretraining, pretrainingTask } from "./pretraining.ts";
import type { Task } from "../../train/task.ts";
import { readSentences, TextTask } from "./text_task.ts";

/** Data and callbacks of a task. */
export interface TaskOptions
  extends Pick<EmotionTaskOptions, "train" | "dev">,
    Pick<EmotionTaskOptions["reader"], "onProblem"> {
  /** Told what is irregular about the data and does not keep it from being used. */
  readonly onNote?: (line: string) => void;
  /** What the model is trained on, to be saved with it. */
  readonly record?: Provenance;
  /** Where aborted, what takes long before the first update ends with its reason. */
  readonly signal?: AbortSignal;
}

/** The model of a stage, ready for the training loop. */
export interface BuiltStage {
  readonly weights: Weights;
  readonly task: Task<unknown>;
  /** A hash of what the stage learns from besides the corpus, which all ranks should have alike. */
  readonly units?: string;
  /** Frees what there is besides the weights. */
  dispose?(): void;
}

/**
 * Builds the model of a stage with the weights of `checkpoint`, or else with those of the stages before and of the recipe's
 * checkpoints; the others are random.
 */
export async function build(
  device: Device,
  config: TrainConfig,
  stage: StageNumber,
  models: StageModels,
  checkpoint: string | undefined,
  options: TaskOptions,
): Promise<BuiltStage> {
  const { host } = device;
  const { freeze: frozen, precision } = stageOf(config, stage);
  const inputs = await stageInputs(host, config, stage, models);
  const opened = await openSources(host, config, inputs, checkpoint);
  const weights = new Weights(device, opened.options);
  let pretraining: BuiltPretraining | undefined;
  try {
    if (pretrains(config.system)) {
      const { record } = options;
      pretraining = await pretrainingTask(weights, config, inputs, checkpoint, {
        ...options,
        files: recordFiles(device, record),
        card: (at) => ({
          [CARD_FILE]: modelCard({ config, stage, record, parameters: sizeOf(weights), at }),
        }),
      });
    }
    const task =
      pretraining?.task ??
      (stage === 0
        ? await textTask(host, weights, config, inputs, options)
        : emotionTask(host, weights, config, inputs, options));
    const { assets, bert, lstm } = inputs;
    if (lstm && assets.tokenizer) {
      const { words } = lstmSystemConfig(lstm, "the recipe (model.lstm)");
      const most = words?.maxTokens ?? 0;
      const texts = [...options.train, ...options.dev];
      await noteTruncation(assets.tokenizer, texts, most, options.onNote, `max_tokens, ${most}`);
    }
    if (stage === 2 && bert && assets.tokenizer) {
      const { maxPositions } = bertConfig(bert, "the recipe (model.bert)");
      await noteTruncation(
        assets.tokenizer,
        [...options.train, ...options.dev],
        maxPositions,
        options.onNote,
      );
    }
    await weights.initialize();
    const fresh = checkpoint === undefined && config.from.bert === undefined;
    if (fresh && config.wordVectors && task instanceof TextTask)
      await task.useWordVectors(config.wordVectors);
    freeze(weights.parameters, frozen);
    for (const parameter of weights.parameters) parameter.matmulDType = precision;
    return {
      ...{ weights, task: task as Task<unknown>, units: pretraining?.units },
      dispose: pretraining?.dispose,
    };
  } catch (error) {
    pretraining?.dispose();
    weights.dispose();
    throw error;
  } finally {
    await opened.close();
  }
}

/** Makes the parameters of `parts` not trainable, and all others trainable. */
export function freeze(parameters: readonly Parameter[], parts: readonly string[]): void {
  const patterns = {
    cnn: /^(hubert|wav2vec2)\.feature_extractor\./,
    hubert: /^(hubert|wav2vec2)\./,
    bert: /^bert\./,
    ctc: /^lm_head\./,
  };
  for (const parameter of parameters) {
    parameter.trainable = !parts.some((part) => patterns[part as keyof typeof patterns].test(parameter.key));
  }
}

function emotionTask(
  host: Host,
  weights: Weights,
  config: TrainConfig,
  { stage, assets, hubert, bert, lstm }: StageInputs,
  { train, dev, onProblem, record }: TaskOptions,
): EmotionTask {
  const options = stageOf(config, stage);
  const json = systemJson(config, stage, { hubert, bert, lstm });
  const parsed = emotionConfig(json, "the recipe (model)");
  const files = {
    ...(parsed.speech ? assets.files : {}),
    ...Object.fromEntries(Object.entries(assets.bertFiles).map(([name, text]) => [`bert/${name}`, text])),
    "config.json": toJson(json),
    // For transformers: HubertForCTC.from_pretrained(folder, config=HubertConfig.from_pretrained(folder + "/hubert"))
    ...(hubert
      ? {
          "hubert/config.json": toJson({
            ...hubert,
            architectures: [parsed.hubert?.prefix === "wav2vec2" ? "Wav2Vec2ForCTC" : "HubertForCTC"],
          }),
        }
      : {}),
    ...(bert ? { "bert/config.json": toJson({ ...bert, architectures: ["BertModel"] }) } : {}),
    ...recordFiles(weights.device, record),
  };
  return new EmotionTask({
    ...{ train, dev, batch: options.batch, seed: config.seed },
    system: emotionSystem(weights.root, parsed),
    parameters: weights.parameters,
    reader: {
      ...{ host, onProblem, normalize: assets.normalize },
      vocabulary: parsed.asr ? assets.vocabulary : undefined,
      tokenizer: assets.tokenizer,
      maxTokens: parsed.maxTokens ?? 512,
      audio: parsed.speech !== undefined,
      minSamples: parsed.speech && receptiveField(parsed.speech),
    },
    alpha: parsed.alpha,
    ctcReduction: options.ctcReduction,
    labelSmoothing: options.labelSmoothing,
    classWeights: options.classWeights === "balanced" ? balancedWeights(train) : undefined,
    words: systemOf(config.system).words,
    augment: options.augment,
    save: async (folder, at) => {
      const parameters = sizeOf(weights);
      await writeFiles(host, folder, {
        ...files,
        [CARD_FILE]: modelCard({ config, stage, record, parameters, at }),
      });
      await saveWeights(host, `${folder}/model.safetensors`, weights.parameters);
    },
  });
}

/** What the model was trained on, and how kernels are launched where not by default. */
const recordFiles = (device: Device, record: Provenance | undefined): Record<string, string> => ({
  ...(record ? { [PROVENANCE_FILE]: provenanceText(record) } : {}),
  ...(device.choices.list.length > 0 ? { [LAUNCH_FILE]: launchText(device) } : {}),
});

/** Numbers in all parameters; of the layers that are made, so it is asked for when a model is saved. */
const sizeOf = ({ parameters }: Weights): number =>
  parameters.reduce((sum, { value }) => sum + value.size, 0);

/** Most sentences in the dev set of stage 0. */
const DEV_SENTENCES = 512;

async function textTask(
  host: Host,
  weights: Weights,
  config: TrainConfig,
  { stage, assets: { tokenizer, bertFiles }, bert = {} }: StageInputs,
  { record, onNote }: TaskOptions,
): Promise<TextTask> {
  if (!tokenizer) throw new Error("Cannot train on text without a tokenizer");
  const parsed = bertConfig(bert, "the recipe (model.bert)");
  const model = new BertForMaskedLM(weights.root, parsed);
  const limits = { lines: config.sentences, tokens: parsed.maxPositions };
  const sentences = await readSentences(host, `${config.data}/text.txt`, tokenizer, limits, onNote);
  const dev = Math.min(DEV_SENTENCES, Math.floor(sentences.length / 10));
  const special = await tokenizer.encode("");
  const [mask] = (await tokenizer.encode("[MASK]")).ids.filter((id) => !special.ids.includes(id));
  return new TextTask({
    model,
    parameters: weights.parameters,
    train: sentences.slice(dev),
    dev: sentences.slice(0, dev),
    items: config.stage0.batch.items,
    seed: config.seed,
    pad: tokenizer.padId,
    mask,
    special: new Set([...special.ids, tokenizer.padId, mask]),
    save: async (folder, at) => {
      const json = { ...bert, model_type: "bert", architectures: ["BertForMaskedLM"] };
      await writeFiles(host, folder, {
        ...bertFiles,
        "config.json": toJson(json),
        ...recordFiles(weights.device, record),
        [CARD_FILE]: modelCard({ config, stage, record, parameters: sizeOf(weights), at }),
      });
      await saveWeights(host, `${folder}/model.safetensors`, weights.parameters);
    },
  });
}

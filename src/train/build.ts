/** From a recipe to a stage's model and task: first what can be read and checked without a GPU, then the weights. */
import type { Device } from "../gpu/device.ts";
import type { Host } from "../host/host.ts";
import { isObject, readJson } from "../io/config.ts";
import { openSafetensors, type Safetensors } from "../io/safetensors.ts";
import { bertConfig, checkSubwords, ConfigReader, hubertConfig, vocabularyOfHead } from "../models/config.ts";
import { EmotionRecognizer, emotionConfig } from "../models/emotion.ts";
import { checkBertKeys, partOf } from "../models/family.ts";
import { mayIgnore, spellings } from "../models/keys.ts";
import { BertForMaskedLM } from "../models/masked_lm.ts";
import type { Parameter } from "../nn/parameter.ts";
import { checkWeights, Weights, type WeightsOptions, type WeightScope } from "../nn/weights.ts";
import { type Assets, openAssets, writeFiles } from "./assets.ts";
import { saveWeights } from "./checkpoint.ts";
import { type StageNumber, stageOf, type TrainConfig } from "./config.ts";
import { split, type TrainData } from "./data.ts";
import { EmotionTask, type EmotionTaskOptions } from "./emotion_task.ts";
import { noteCut } from "./examples.ts";
import { PROVENANCE_FILE, type Provenance, provenanceText } from "./provenance.ts";
import { toJson } from "./run_folder.ts";
import { bertKeys, hubertKeys, mergeSources, type Source } from "./sources.ts";
import { systemConfig, systemOf } from "./systems.ts";
import type { Task } from "./task.ts";
import { readSentences, TextTask } from "./text_task.ts";

type Json = Record<string, unknown>;

/** The chosen models of the stages before, by folder. */
export type Chosen = Partial<Record<StageNumber, string>>;

/** What a stage is made from. */
interface Materials {
  readonly stage: StageNumber;
  readonly assets: Assets;
  /** Configs in Hugging Face's keys; `bert` where the stage reads. */
  readonly hubert: Json;
  readonly bert?: Json;
  /** Checkpoints that the encoders begin with. */
  readonly hubertFolder?: string;
  readonly bertFolder?: string;
}

async function materials(
  host: Host,
  config: TrainConfig,
  stage: StageNumber,
  chosen: Chosen,
): Promise<Materials> {
  const { from, model, data } = config;
  const fused = stage === 2;
  const readsText = stage === 0 || (fused && systemOf(config.system).modalities !== "acoustic");
  const hubertFolder = stage === 0 ? undefined : ((fused ? chosen[1] : undefined) ?? from.hubert);
  const bertFolder = readsText ? ((fused ? chosen[0] : undefined) ?? from.bert) : undefined;
  const assets = await openAssets(host, from.hubert, readsText ? (bertFolder ?? data) : undefined);
  const merged = async (part: "hubert" | "bert", folder: string | undefined): Promise<Json> => {
    if (folder === undefined) return { ...model[part] };
    const path = `${folder}/config.json`;
    const own = partOf(await readJson(host, path), part);
    // Before the recipe has its say, which names a family of its own.
    new ConfigReader(own, path).family(part === "bert" ? ["bert"] : ["hubert", "wav2vec2"]);
    return { ...own, ...model[part] };
  };
  const hubert = await merged("hubert", from.hubert);
  const bert = readsText ? await merged("bert", bertFolder) : undefined;
  if (bert && assets.tokenizer) bert.vocab_size ??= assets.tokenizer.vocabularySize;
  if (stage === 0 || !systemOf(config.system).asr)
    return { stage, assets, hubert, bert, hubertFolder, bertFolder };
  hubert.pad_token_id ??= assets.vocabulary.blank;
  const named = from.hubert === undefined ? "the recipe (model.hubert)" : `${from.hubert}/config.json`;
  const vocabulary = vocabularyOfHead(new ConfigReader(hubert, named), assets.vocabulary);
  return { stage, assets: { ...assets, vocabulary }, hubert, bert, hubertFolder, bertFolder };
}

/** Checks every stage as far as that goes without a GPU, so that a long run does not end on what it could have known. */
export async function checkStages(
  host: Host,
  config: TrainConfig,
  data: TrainData | undefined,
): Promise<void> {
  split(config, data);
  const { from, stages } = config;
  if (stages.includes(0) && (await host.kind(`${config.data}/text.txt`)) !== "file")
    throw new Error(
      `Cannot train on ${config.data}: it holds no text.txt for a fresh BERT; --bert DIR takes a published one instead`,
    );
  for (const stage of stages) {
    const made = await materials(host, config, stage, {});
    const { assets, hubert, bert } = made;
    const named = (part: "hubert" | "bert") =>
      from[part] === undefined ? `the recipe (model.${part})` : `${from[part]}/config.json`;
    const hears = stage > 0 ? new ConfigReader(hubert, named("hubert")) : undefined;
    if (hears) hubertConfig(hears);
    if (bert && assets.tokenizer) {
      const reader = new ConfigReader(bert, named("bert"));
      checkSubwords(reader, assets.tokenizer.vocabularySize, assets.tokenizer);
      const { padId } = assets.tokenizer;
      // That row of the embeddings is never trained.
      if (bertConfig(reader).padTokenId !== padId)
        throw reader.complaint("pad_token_id", `${padId}, the id of the padding in BERT's tokenizer`);
    }
    const opened = await openSources(host, config, made);
    try {
      checkWeights(opened.options, (root) => model(root, config, made));
    } finally {
      await opened.close();
    }
  }
}

/** The layers of a stage's model. */
function model(
  root: WeightScope,
  config: TrainConfig,
  { stage, hubert, bert = {} }: Materials,
): EmotionRecognizer | BertForMaskedLM {
  if (stage === 0)
    return new BertForMaskedLM(root, bertConfig(new ConfigReader(bert, "the recipe (model.bert)")));
  const json = systemJson(config, stage, { hubert, bert });
  return new EmotionRecognizer(root, emotionConfig(new ConfigReader(json, "the recipe (model)")));
}

/** The checkpoints that a stage begins with: `checkpoint`, or those of its encoders, whose heads may be new. */
async function openSources(
  host: Host,
  config: TrainConfig,
  { stage, hubertFolder, bertFolder }: Materials,
  checkpoint?: string,
): Promise<{ readonly options: WeightsOptions; close(): Promise<void> }> {
  const files: Safetensors[] = [];
  const sources: Source[] = [];
  const add = async (folder: string, rename: Source["rename"]) => {
    const file = await openSafetensors(host, folder);
    files.push(file);
    sources.push({ file, rename });
    return file;
  };
  const close = async () => {
    for (const file of files) await file.close();
  };
  try {
    if (checkpoint) await add(`${checkpoint}/model.safetensors`, (key) => key);
    else {
      if (hubertFolder) await add(hubertFolder, hubertKeys);
      if (bertFolder) checkBertKeys((await add(bertFolder, bertKeys)).tensors.keys(), bertFolder);
    }
  } catch (error) {
    await close();
    throw error;
  }
  // A checkpoint that was given must hold all of its encoder.
  const drawn = [hubertFolder ? [] : ["hubert.", "wav2vec2."], bertFolder ? [] : ["bert."]].flat();
  const options: WeightsOptions = {
    ...{ spellings, mayIgnore, seed: config.seed },
    file: sources.length > 0 ? mergeSources(sources) : undefined,
    path: checkpoint ?? [hubertFolder, bertFolder].filter(Boolean).join(" and "),
    mayDraw: (key) =>
      !checkpoint && (/^(lm_head|classifier|cmgi|cls)\./.test(key) || drawn.some((p) => key.startsWith(p))),
    products: stageOf(config, stage).precision,
  };
  return { options, close };
}

/** The parts of the model as the stages will run them: what the recipe says, over what the checkpoints' folders say. */
export async function effectiveModel(host: Host, config: TrainConfig): Promise<TrainConfig["model"]> {
  const model: { -readonly [part in keyof TrainConfig["model"]]: Json } = {};
  for (const stage of config.stages) {
    const { hubert, bert } = await materials(host, config, stage, {});
    if (stage > 0) model.hubert = hubert;
    if (bert) model.bert = bert;
    const { cmgi } = stage > 0 ? systemJson(config, stage, { hubert, bert }) : {};
    if (isObject(cmgi)) model.cmgi = cmgi;
  }
  return model;
}

const systemJson = (config: TrainConfig, stage: StageNumber, parts: { hubert: Json; bert?: Json }): Json =>
  systemConfig(systemOf(config.system), stage, {
    ...{ ...parts, cmgi: config.model.cmgi, alpha: stageOf(config, stage).alpha },
  });

/** What a task is told besides its model. */
export interface TaskOptions
  extends Pick<EmotionTaskOptions, "train" | "dev" | "measure">,
    Pick<EmotionTaskOptions["reader"], "onProblem"> {
  /** Told what is odd about the data and does not keep it from being learnt. */
  readonly onNote?: (line: string) => void;
  /** What the stage's model has heard, for the folders that it is saved in. */
  readonly record?: Provenance;
}

/** A stage's model, ready for the loop. */
export interface Built {
  readonly weights: Weights;
  readonly task: Task<unknown>;
}

/** Loads a stage from `checkpoint`, or else from the stages before and the recipe's checkpoints; the rest is drawn. */
export async function build(
  device: Device,
  config: TrainConfig,
  stage: StageNumber,
  chosen: Chosen,
  checkpoint: string | undefined,
  options: TaskOptions,
): Promise<Built> {
  const { host } = device;
  const { freeze: frozen, precision } = stageOf(config, stage);
  const made = await materials(host, config, stage, chosen);
  const opened = await openSources(host, config, made, checkpoint);
  const weights = new Weights(device, opened.options);
  try {
    const task =
      stage === 0
        ? await textTask(host, weights, config, made, options)
        : emotionTask(host, weights, config, made, options);
    const { assets, bert } = made;
    if (stage === 2 && bert && assets.tokenizer) {
      const { maxPositions } = bertConfig(new ConfigReader(bert, "the recipe (model.bert)"));
      await noteCut(assets.tokenizer, [...options.train, ...options.dev], maxPositions, options.onNote);
    }
    await weights.load();
    freeze(weights.parameters, frozen);
    for (const parameter of weights.parameters) parameter.products = precision;
    return { weights, task: task as Task<unknown> };
  } catch (error) {
    weights.dispose();
    throw error;
  } finally {
    await opened.close();
  }
}

/** Marks what stays as it is. */
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
  { stage, assets, hubert, bert }: Materials,
  { train, dev, measure, onProblem, record }: TaskOptions,
): EmotionTask {
  const options = stageOf(config, stage);
  const json = systemJson(config, stage, { hubert, bert });
  const parsed = emotionConfig(new ConfigReader(json, "the recipe (model)"));
  const files = {
    ...assets.files,
    ...Object.fromEntries(Object.entries(assets.bertFiles).map(([name, text]) => [`bert/${name}`, text])),
    "config.json": toJson(json),
    // For transformers: HubertForCTC.from_pretrained(folder, config=HubertConfig.from_pretrained(folder + "/hubert"))
    "hubert/config.json": toJson({
      ...hubert,
      architectures: [parsed.hubert?.prefix === "wav2vec2" ? "Wav2Vec2ForCTC" : "HubertForCTC"],
    }),
    ...(bert ? { "bert/config.json": toJson({ ...bert, architectures: ["BertModel"] }) } : {}),
    ...recordFile(record),
  };
  return new EmotionTask({
    ...{ train, dev, measure, batch: options.batch, seed: config.seed },
    system: new EmotionRecognizer(weights.root, parsed),
    parameters: weights.parameters,
    reader: {
      ...{ host, onProblem, audio: true, normalize: assets.normalize },
      vocabulary: parsed.asr ? assets.vocabulary : undefined,
      tokenizer: assets.tokenizer,
      maxTokens: parsed.bert?.maxPositions ?? 512,
    },
    alpha: parsed.alpha,
    ctcReduction: options.ctcReduction,
    labelSmoothing: options.labelSmoothing,
    augment: options.augment,
    save: async (folder) => {
      await writeFiles(host, folder, files);
      await saveWeights(host, `${folder}/model.safetensors`, weights.parameters);
    },
  });
}

const recordFile = (record: Provenance | undefined): Record<string, string> =>
  record ? { [PROVENANCE_FILE]: provenanceText(record) } : {};

/** Sentences kept for the figures of stage 0. */
const DEV_SENTENCES = 512;

async function textTask(
  host: Host,
  weights: Weights,
  config: TrainConfig,
  { assets: { tokenizer, bertFiles }, bert = {} }: Materials,
  { record, onNote }: TaskOptions,
): Promise<TextTask> {
  if (!tokenizer) throw new Error("Cannot train on text without a tokenizer");
  const parsed = bertConfig(new ConfigReader(bert, "the recipe (model.bert)"));
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
    save: async (folder) => {
      const json = { ...bert, model_type: "bert", architectures: ["BertForMaskedLM"] };
      await writeFiles(host, folder, { ...bertFiles, "config.json": toJson(json), ...recordFile(record) });
      await saveWeights(host, `${folder}/model.safetensors`, weights.parameters);
    },
  });
}

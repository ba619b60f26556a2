/** What a stage starts from: configs, tokenizers and checkpoints, checked without a GPU. */
import type { Host } from "../../host/host.ts";
import { isObject, readJson } from "../../io/config.ts";
import { mismatch } from "../../io/schema.ts";
import { openCheckpoint } from "../../io/checkpoint.ts";
import type { Safetensors } from "../../io/safetensors.ts";
import { bertConfig, checkSubwords, hubertConfig, vocabularyOfHead } from "../../models/config.ts";
import { emotionConfig, emotionSystem } from "../system/emotion_system.ts";
import { checkWords, type LstmKind, lstmSystemConfig, vocabularyOfLstm } from "../system/lstm_config.ts";
import type { EncoderSizes } from "../../models/batches.ts";
import { lstmEncoderConfig } from "../../models/lstm_encoder.ts";
import { checkBertKeys, familyOf, partOf } from "../../models/family.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import { BertForMaskedLM } from "../../models/bert.ts";
import { checkWeights, type WeightsOptions, type WeightScope } from "../../nn/weights.ts";
import { type Assets, openAssets } from "./assets.ts";
import { type StageNumber, stageOf, type TrainConfig } from "../recipes/config.ts";
import { split, type TrainData } from "./data.ts";
import { pretrainingModel } from "./pretraining.ts";
import { bertKeys, hubertKeys, mergeSources, type Source } from "./sources.ts";
import { hasPart, partsOf, pretrains, systemConfig, systemOf } from "../recipes/systems.ts";

type Json = Record<string, unknown>;

/** Folders of the best models of the stages before. */
export type StageModels = Partial<Record<StageNumber, string>>;

/** What a stage starts from. */
export interface StageInputs {
  readonly stage: StageNumber;
  readonly assets: Assets;
  /** Config of the speech encoder in Hugging Face's keys; absent where the stage's model has none. */
  readonly hubert?: Json;
  /** Config of the text encoder; absent where the stage reads no words. */
  readonly bert?: Json;
  /** Config of a system of LSTMs. */
  readonly lstm?: Json;
  /** Folder of the checkpoint that the speech encoder starts from; absent where it is random. */
  readonly hubertFolder?: string;
  /** The same for the text encoder. */
  readonly bertFolder?: string;
  /** Folder of the model whose layer gives the units of masked prediction. */
  readonly teacher?: string;
}

/** Reads configs, vocabulary and tokenizer of a stage; `trained` are the models of the stages before in this run. */
export async function stageInputs(
  host: Host,
  config: TrainConfig,
  stage: StageNumber,
  trained: StageModels,
): Promise<StageInputs> {
  const { from, data } = config;
  const { lstm: kind } = systemOf(config.system);
  if (kind) return lstmInputs(host, config, stage, kind);
  const models: StageModels = { ...from.stages, ...trained };
  const own = pretrains(config.system);
  // A second iteration of masked prediction takes its units from the first, not its weights.
  const teacher = own === "units" && stage === 2 ? (models[1] ?? from.hubert) : undefined;
  const fused = stage === 2 && !own;
  const { hubert: hears, bert: readsText, ctc: writesWords } = partsOf(config.system, stage);
  const hubertFolder = stage === 0 ? undefined : ((fused ? models[1] : undefined) ?? from.hubert);
  const bertFolder = readsText ? ((fused ? models[0] : undefined) ?? from.bert) : undefined;
  const assets = await openAssets(host, from.hubert, readsText ? (bertFolder ?? data) : undefined);
  const hubert = hears ? await merged(host, config, "hubert", from.hubert) : undefined;
  const bert = readsText ? await merged(host, config, "bert", bertFolder) : undefined;
  if (bert && assets.tokenizer) bert.vocab_size ??= assets.tokenizer.vocabularySize;
  if (!writesWords || !hubert) return { stage, assets, hubert, bert, hubertFolder, bertFolder, teacher };
  hubert.pad_token_id ??= assets.vocabulary.blank;
  const vocabulary = vocabularyOfHead(hubert, sourceOf(config, "hubert"), assets.vocabulary);
  return { stage, assets: { ...assets, vocabulary }, hubert, bert, hubertFolder, bertFolder };
}

/** The inputs of a system of LSTMs: sizes of vocabularies that the recipe leaves open are those of the files. */
async function lstmInputs(
  host: Host,
  { from, model, data }: TrainConfig,
  stage: StageNumber,
  kind: LstmKind,
): Promise<StageInputs> {
  const words = kind === "both";
  // Of BERT the words' tokenizer alone is taken.
  const assets = await openAssets(host, undefined, words ? (from.bert ?? data) : undefined);
  const lstm: Json = { vocab_size: assets.vocabulary.size, ...model.lstm, kind };
  if (words) lstm.pad_token_id ??= assets.vocabulary.blank;
  if (assets.tokenizer) {
    lstm.word_vocab_size ??= assets.tokenizer.vocabularySize;
    lstm.word_pad_token_id ??= assets.tokenizer.padId;
  }
  const source = "the recipe (model.lstm)";
  const parsed = lstmSystemConfig(lstm, source);
  if (assets.tokenizer) checkWords(parsed, source, assets.tokenizer);
  const vocabulary = vocabularyOfLstm(parsed, source, assets.vocabulary);
  return { stage, assets: { ...assets, vocabulary }, lstm };
}

/** The config of a part: the keys of the recipe, and the others as in the folder of the checkpoint. */
async function merged(
  host: Host,
  { model, system }: TrainConfig,
  part: "hubert" | "bert",
  folder: string | undefined,
): Promise<Json> {
  const { encoder } = systemOf(system);
  if (folder === undefined) return { ...model[part] };
  const path = `${folder}/config.json`;
  const own = partOf(await readJson(host, path), part);
  // Checked before merging, since the recipe has a model_type of its own.
  familyOf(own, path, part === "bert" ? ["bert"] : encoder ? [encoder] : ["hubert", "wav2vec2"]);
  return { ...own, ...model[part] };
}

/** Frames of the speech encoder that the stages train; undefined where they train none. */
export async function encoderOf(host: Host, config: TrainConfig): Promise<EncoderSizes | undefined> {
  const { from, system, stages, model } = config;
  if (systemOf(system).lstm) return lstmEncoderConfig(model.lstm, "the recipe (model.lstm)").sizes;
  if (!hasPart(system, "hubert", stages)) return undefined;
  return hubertConfig(await merged(host, config, "hubert", from.hubert), sourceOf(config, "hubert"));
}

/** For errors: where the config of a part comes from. */
const sourceOf = ({ from }: TrainConfig, part: "hubert" | "bert"): string =>
  from[part] === undefined ? `the recipe (model.${part})` : `${from[part]}/config.json`;

/** Checks every stage as far as possible without a GPU, so that a run does not fail late on what can be known before it. */
export async function checkStages(
  host: Host,
  config: TrainConfig,
  data: TrainData | undefined,
): Promise<void> {
  split(config, data);
  const { stages } = config;
  if (stages.includes(0) && (await host.kind(`${config.data}/text.txt`)) !== "file")
    throw new Error(
      `Cannot train on ${config.data}: it holds no text.txt for a fresh BERT; --bert DIR takes a published one instead`,
    );
  for (const stage of stages) {
    const inputs = await stageInputs(host, config, stage, {});
    const { assets, hubert, bert } = inputs;
    if (hubert) hubertConfig(hubert, sourceOf(config, "hubert"));
    if (bert && assets.tokenizer) {
      const source = sourceOf(config, "bert");
      checkSubwords(bert, source, assets.tokenizer.vocabularySize, assets.tokenizer);
      const { padId } = assets.tokenizer;
      // The embedding of padding is not trained.
      const { padTokenId } = bertConfig(bert, source);
      if (padTokenId !== padId)
        throw mismatch(
          source,
          "pad_token_id",
          padTokenId,
          `${padId}, the id of the padding in BERT's tokenizer`,
        );
    }
    const opened = await openSources(host, config, inputs);
    try {
      checkWeights(opened.options, (root) => buildModel(root, config, inputs));
    } finally {
      await opened.close();
    }
  }
}

/** The layers of a stage's model. */
function buildModel(
  root: WeightScope,
  config: TrainConfig,
  { stage, hubert, lstm, bert = {} }: StageInputs,
): unknown {
  if (stage === 0) return new BertForMaskedLM(root, bertConfig(bert, "the recipe (model.bert)"));
  if (pretrains(config.system))
    return pretrainingModel(root, config, stage, hubert ?? {}, sourceOf(config, "hubert"));
  const json = systemJson(config, stage, { hubert, bert, lstm });
  return emotionSystem(root, emotionConfig(json, "the recipe (model)"));
}

/** Opens the weights that a stage starts from: `checkpoint`, or those of the encoders. Heads may be missing from the latter. */
export async function openSources(
  host: Host,
  config: TrainConfig,
  { stage, hubertFolder, bertFolder }: StageInputs,
  checkpoint?: string,
): Promise<{ readonly options: WeightsOptions; close(): Promise<void> }> {
  const files: Safetensors[] = [];
  const sources: Source[] = [];
  const add = async (folder: string, rename: Source["rename"]) => {
    const file = await openCheckpoint(host, folder);
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
  // A checkpoint that is given must hold all of its encoder.
  const random = [hubertFolder ? [] : ["hubert.", "wav2vec2."], bertFolder ? [] : ["bert."]].flat();
  const options: WeightsOptions = {
    ...{ spellings, mayIgnore, seed: config.seed },
    file: sources.length > 0 ? mergeSources(sources) : undefined,
    path: checkpoint ?? [hubertFolder, bertFolder].filter(Boolean).join(" and "),
    mayDraw: (key) =>
      !checkpoint &&
      (/^((lm_head|classifier|cmgi|cls|final_proj)\.|label_embs_concat$)/.test(key) ||
        random.some((p) => key.startsWith(p))),
    matmulDType: stageOf(config, stage).precision,
  };
  return { options, close };
}

/** The configs of the parts as the stages use them: the keys of the recipe, and the others as in the checkpoints. */
export async function effectiveModel(host: Host, config: TrainConfig): Promise<TrainConfig["model"]> {
  const model: { -readonly [part in keyof TrainConfig["model"]]: Json } = {};
  for (const stage of config.stages) {
    const { hubert, bert, lstm } = await stageInputs(host, config, stage, {});
    if (lstm) model.lstm = Object.fromEntries(Object.entries(lstm).filter(([key]) => key !== "kind"));
    if (hubert) model.hubert = hubert;
    if (bert) model.bert = bert;
    const { cmgi } = stage > 0 ? systemJson(config, stage, { hubert, bert }) : {};
    if (isObject(cmgi)) model.cmgi = cmgi;
  }
  return model;
}

/** config.json of the model of a stage. */
export const systemJson = (
  config: TrainConfig,
  stage: StageNumber,
  parts: { hubert?: Json; bert?: Json; lstm?: Json },
): Json =>
  systemConfig(systemOf(config.system), stage, {
    ...{ ...parts, cmgi: config.model.cmgi, alpha: stageOf(config, stage).alpha },
  });

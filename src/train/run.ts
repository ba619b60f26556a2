/** A whole run: its data, its models stage by stage, and the way from one to the next. */
import type { Examined } from "../corpora/examine.ts";
import type { Fold } from "../corpora/folds.ts";
import type { Device } from "../gpu/device.ts";
import { isObject, readJson } from "../io/config.ts";
import { openSafetensors, type Safetensors } from "../io/safetensors.ts";
import { bertConfig, ConfigReader } from "../models/config.ts";
import { EmotionRecognizer, emotionConfig } from "../models/emotion.ts";
import { spellings } from "../models/keys.ts";
import { BertForMaskedLM } from "../models/masked_lm.ts";
import type { Parameter } from "../nn/parameter.ts";
import { Weights } from "../nn/weights.ts";
import type { UtteranceAnswer } from "./answer.ts";
import { type Assets, openAssets, writeFiles } from "./assets.ts";
import { saveWeights } from "./checkpoint.ts";
import { type StageNumber, stageOf, type TrainConfig } from "./config.ts";
import { EmotionTask } from "./emotion_task.ts";
import { type Best, type LoopState, type StageOptions, trainStage } from "./loop.ts";
import { type RunFolder, toJson } from "./run_folder.ts";
import { bertKeys, hubertKeys, mergeSources, type Source } from "./sources.ts";
import { systemConfig, systemOf } from "./systems.ts";
import type { Task } from "./task.ts";
import { readSentences, TextTask } from "./text_task.ts";

export interface TrainData {
  readonly examined: Examined;
  readonly fold: Fold;
  /** The corpus's folder: text.txt and vocab.txt of stage 0 lie there. */
  readonly root: string;
}

export interface RunOptions {
  readonly device: Device;
  readonly run: RunFolder;
  readonly config: TrainConfig;
  /** Absent where only stage 0 is trained. */
  readonly data?: TrainData;
  readonly root: string;
  readonly resume: boolean;
  readonly signal: AbortSignal;
  readonly measure: (answers: readonly UtteranceAnswer[]) => { ua: number; wa: number; wer?: number };
  readonly onStage?: (stage: StageNumber, parameters: number, trained: number) => void;
  readonly onStep?: StageOptions<unknown>["onStep"];
  readonly onDev?: (
    stage: StageNumber,
    ...rest: Parameters<NonNullable<StageOptions<unknown>["onDev"]>>
  ) => void;
  readonly onProblem?: (id: string, message: string) => void;
}

type Json = Record<string, unknown>;

/** A stage's model, ready for the loop. */
interface Built {
  readonly weights: Weights;
  readonly task: Task<unknown>;
}

/**
 * Runs the stages of `config`, or goes on from the newest checkpoint. The chosen model of the last stage lands in
 * RUN/model. Returns false where it was interrupted.
 */
export async function trainRun(options: RunOptions): Promise<boolean> {
  const { device, run, config, resume, signal } = options;
  const latest = resume ? await run.latest() : undefined;
  const state = latest?.state as LoopState | undefined;
  await run.rewind(state?.lengths);
  let bests: Readonly<Record<string, Best>> = state?.bests ?? {};
  const stages = [...config.stages].sort();
  for (const stage of stages) {
    if (state && state.stage > stage) continue;
    const from = latest && state?.stage === stage ? { folder: latest.folder, state } : undefined;
    const { weights, task } = await build(options, stage, bests, from?.folder);
    try {
      const counts = weights.parameters.map((p) => ({ size: p.value.size, trainable: p.trainable }));
      const sum = (list: readonly { size: number }[]) => list.reduce((n, { size }) => n + size, 0);
      options.onStage?.(stage, sum(counts), sum(counts.filter((c) => c.trainable)));
      const result = await trainStage({
        ...{ device, run, task, stage, from, bests, signal },
        config: stageOf(config, stage),
        seed: config.seed,
        checkpoints: config.checkpoints,
        isHead: (key) => !/^(hubert|wav2vec2|bert)\./.test(key),
        onStep: options.onStep,
        onDev: (...rest) => options.onDev?.(stage, ...rest),
      });
      bests = result.bests;
      if (!result.finished) return false;
    } finally {
      weights.dispose();
    }
  }
  const last = bests[stages[stages.length - 1]];
  if (last) await copyModel(run, `${run.path}/best/${last.folder}`);
  await run.flush();
  return true;
}

/** Copies the chosen model to RUN/model. */
async function copyModel({ host, path }: RunFolder, from: string): Promise<void> {
  const to = `${path}/model`;
  await host.remove(to);
  const copy = async (folder: string) => {
    await host.makeDirectory(`${to}${folder}`);
    for (const name of await host.list(`${from}${folder}`)) {
      if ((await host.kind(`${from}${folder}/${name}`)) === "directory") await copy(`${folder}/${name}`);
      else if (name !== "state.json") {
        const file = await host.createAtomic(`${to}${folder}/${name}`);
        await file.write(await host.readBytes(`${from}${folder}/${name}`));
        await file.commit();
      }
    }
  };
  await copy("");
}

async function build(
  options: RunOptions,
  stage: StageNumber,
  bests: Readonly<Record<string, Best>>,
  checkpoint: string | undefined,
): Promise<Built> {
  const { device, run, config, root } = options;
  const { host } = run;
  const recipe = systemOf(config.system);
  const bestOf = (n: StageNumber) => (bests[n] ? `${run.path}/best/${bests[n].folder}` : undefined);
  const bertFolder = stage === 2 ? (bestOf(0) ?? config.from.bert) : config.from.bert;
  const readsText = stage === 0 || (stage === 2 && recipe.modalities !== "acoustic");
  const assets = await openAssets(host, config.from.hubert, readsText ? (bertFolder ?? root) : undefined);
  // A folder that train wrote has the configs of both encoders in one.
  const merged = async (part: "hubert" | "bert", folder: string | undefined): Promise<Json> => {
    const json = folder === undefined ? {} : await readJson(host, `${folder}/config.json`);
    const own = json[part];
    return { ...(isObject(own) ? own : json), ...config.model[part] };
  };
  const bert = readsText ? await merged("bert", bertFolder) : undefined;
  if (bert && assets.tokenizer) bert.vocab_size ??= assets.tokenizer.vocabularySize;
  const where = `${run.path}/config.json`;

  const files: Safetensors[] = [];
  const sources: Source[] = [];
  const add = async (folder: string, rename: Source["rename"]) => {
    const file = await openSafetensors(host, folder);
    files.push(file);
    sources.push({ file, rename });
  };
  try {
    if (checkpoint) await add(`${checkpoint}/model.safetensors`, (key) => key);
    else {
      const hubertFolder = stage === 2 ? (bestOf(1) ?? config.from.hubert) : config.from.hubert;
      if (stage > 0 && hubertFolder) await add(hubertFolder, hubertKeys);
      if (readsText && bertFolder) await add(bertFolder, bertKeys);
    }
    const file = sources.length > 0 ? mergeSources(sources) : undefined;
    const has = (prefix: string) => [...(file?.tensors.keys() ?? [])].some((key) => key.startsWith(prefix));
    const drawn = ["hubert.", "bert."].filter((prefix) => !has(prefix));
    const weights = new Weights(device, {
      ...{ file, spellings, seed: config.seed },
      path: checkpoint ?? [config.from.hubert, bertFolder].filter(Boolean).join(" and "),
      mayDraw: (key) =>
        !checkpoint && (/^(lm_head|classifier|cmgi|cls)\./.test(key) || drawn.some((p) => key.startsWith(p))),
    });
    const task =
      stage === 0
        ? await textTask(
            options,
            weights,
            new ConfigReader(bert as Json, `${where} (model.bert)`),
            bert as Json,
            assets,
          )
        : emotionTask(options, weights, assets, stage, {
            hubert: await merged("hubert", config.from.hubert),
            bert,
          });
    await weights.load();
    const { freeze: frozen, precision } = stageOf(config, stage);
    freeze(weights.parameters, frozen);
    if (precision === "f16" && !device.info.f16)
      throw new Error(`Cannot train with f16: ${device.info.name} has no shader-f16; use precision f32`);
    for (const parameter of weights.parameters) parameter.products = precision;
    return { weights, task: task as Task<unknown> };
  } finally {
    for (const file of files) await file.close();
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
  { run, config, data, measure, onProblem }: RunOptions,
  weights: Weights,
  assets: Assets,
  stage: StageNumber,
  parts: { hubert: Json; bert?: Json },
): EmotionTask {
  if (!data) throw new Error("Cannot train on speech without a corpus");
  const { host } = run;
  const options = stageOf(config, stage);
  const recipe = systemOf(config.system);
  const json = systemConfig(recipe, stage, { ...parts, cmgi: config.model.cmgi, alpha: options.alpha });
  const parsed = emotionConfig(new ConfigReader(json, `${run.path}/config.json (model)`));
  const system = new EmotionRecognizer(weights.root, parsed);
  const { notForTraining } = data.examined;
  const files = {
    ...assets.files,
    "config.json": toJson(json),
    // For transformers: HubertForCTC.from_pretrained(folder, config=HubertConfig.from_pretrained(folder + "/hubert"))
    "hubert/config.json": toJson({ ...parts.hubert, architectures: ["HubertForCTC"] }),
    ...(parts.bert ? { "bert/config.json": toJson({ ...parts.bert, architectures: ["BertModel"] }) } : {}),
  };
  return new EmotionTask({
    system,
    parameters: weights.parameters,
    reader: {
      host,
      vocabulary: recipe.asr ? assets.vocabulary : undefined,
      tokenizer: assets.tokenizer,
      maxTokens: parsed.bert?.maxPositions ?? 512,
      audio: true,
      onProblem,
    },
    train: data.fold.train.filter((u) => !notForTraining.has(u.id)),
    dev: data.fold.dev,
    batch: options.batch,
    seed: config.seed,
    alpha: parsed.alpha,
    ctcReduction: options.ctcReduction,
    labelSmoothing: options.labelSmoothing,
    augment: options.augment,
    measure,
    save: async (folder) => {
      await writeFiles(host, folder, files);
      await saveWeights(host, `${folder}/model.safetensors`, weights.parameters);
    },
  });
}

/** Sentences kept for the figures of stage 0. */
const DEV_SENTENCES = 512;

async function textTask(
  { run, config, root }: RunOptions,
  weights: Weights,
  reader: ConfigReader,
  json: Json,
  { tokenizer, files }: Assets,
): Promise<TextTask> {
  if (!tokenizer) throw new Error("Cannot train on text without a tokenizer");
  const { host } = run;
  const parsed = bertConfig(reader);
  const model = new BertForMaskedLM(weights.root, parsed);
  const limits = { lines: config.sentences, tokens: parsed.maxPositions };
  const sentences = await readSentences(host, `${root}/text.txt`, tokenizer, limits);
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
      const { "vocab.json": _ctc, "preprocessor_config.json": _ear, ...own } = files;
      const config = { ...json, model_type: "bert", architectures: ["BertForMaskedLM"] };
      await writeFiles(host, folder, { ...own, "config.json": toJson(config) });
      await saveWeights(host, `${folder}/model.safetensors`, weights.parameters);
    },
  });
}

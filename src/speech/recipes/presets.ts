/**
 * Training recipes as data. "paper": the values of the paper. "safe": the paper's, with the learning rates of comparable
 * public recipes. "small": models of the size of that in weights/default, on a CPU. "nano": a few minutes, to see that
 * everything runs.
 */
import { type StageConfig, type StageNumber, stageOf, type TrainConfig } from "./config.ts";
import { type LstmKind, lstmKeys } from "../system/lstm_config.ts";
import { encoderConfig, partsOf, systemOf } from "./systems.ts";

type Json = Readonly<Record<string, unknown>>;

/** Config of HuBERT-large, for random weights; a checkpoint brings its own. */
export const HUBERT_LARGE: Json = {
  model_type: "hubert",
  conv_dim: [512, 512, 512, 512, 512, 512, 512],
  conv_kernel: [10, 3, 3, 3, 3, 2, 2],
  conv_stride: [5, 2, 2, 2, 2, 2, 2],
  conv_bias: true,
  feat_extract_norm: "layer",
  feat_extract_activation: "gelu",
  feat_proj_layer_norm: true,
  hidden_size: 1024,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  intermediate_size: 4096,
  hidden_act: "gelu",
  layer_norm_eps: 1e-5,
  do_stable_layer_norm: true,
  num_conv_pos_embeddings: 128,
  num_conv_pos_embedding_groups: 16,
  vocab_size: 32,
  pad_token_id: 0,
  hidden_dropout: 0.1,
  attention_dropout: 0.1,
  activation_dropout: 0,
  feat_proj_dropout: 0.1,
  final_dropout: 0,
  layerdrop: 0.1,
  apply_spec_augment: true,
  mask_time_prob: 0.05,
  mask_time_length: 10,
  mask_time_min_masks: 2,
  mask_feature_prob: 0,
};

/** Config of BERT-base, for random weights; a checkpoint brings its own. */
export const BERT_BASE: Json = {
  model_type: "bert",
  hidden_size: 768,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  intermediate_size: 3072,
  hidden_act: "gelu",
  hidden_dropout_prob: 0.1,
  attention_probs_dropout_prob: 0.1,
  max_position_embeddings: 512,
  type_vocab_size: 2,
  layer_norm_eps: 1e-12,
  pad_token_id: 0,
};

/**
 * A small speech encoder: 64 filters of 10 ms every 1.25 ms, then two strided convolutions; as with HuBERT a frame of 25 ms
 * every 20 ms.
 */
const HUBERT_SMALL: Json = {
  ...HUBERT_LARGE,
  conv_dim: [64, 96, 128],
  conv_kernel: [160, 5, 3],
  conv_stride: [20, 4, 4],
  conv_init: "gabor",
  num_feat_extract_layers: 3,
  hidden_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  intermediate_size: 512,
  num_conv_pos_embeddings: 32,
  num_conv_pos_embedding_groups: 8,
  hidden_dropout: 0.1,
  attention_dropout: 0,
  feat_proj_dropout: 0.05,
  layerdrop: 0,
  mask_time_prob: 0.05,
  mask_time_length: 5,
  mask_time_min_masks: 0,
  mask_feature_prob: 0.05,
  mask_feature_length: 8,
};

const BERT_SMALL: Json = {
  ...BERT_BASE,
  hidden_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  intermediate_size: 256,
  max_position_embeddings: 64,
};

const HUBERT_NANO: Json = {
  ...HUBERT_SMALL,
  conv_dim: [16, 24, 32],
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 64,
  num_conv_pos_embeddings: 16,
  num_conv_pos_embedding_groups: 4,
};

const BERT_NANO: Json = {
  ...BERT_SMALL,
  hidden_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 64,
};

/**
 * Systems of LSTMs, always from random weights: as wide as those of comparable recognisers. mel_mean and mel_std are those of
 * recordings that were brought to unit variance, of LibriSpeech and RAVDESS.
 */
const LSTM_LARGE: Json = {
  ...{ n_fft: 512, win_length: 400, hop_length: 160, n_mels: 80, mel_scale: "htk", log_offset: 1e-6 },
  ...{ mel_mean: 0, mel_std: 4.5 },
  ...{ hidden_size: 256, encoder_layers: 3, hidden_dropout: 0.2, pooling: "additive" },
  ...{ embedding_size: 128, decoder_hidden_size: 512, decoder_layers: 1, attention_size: 256 },
  ...{ word_embedding_size: 256, word_hidden_size: 256, max_tokens: 512 },
};

const LSTM_SMALL: Json = {
  ...LSTM_LARGE,
  ...{
    n_mels: 40,
    mel_mean: 1,
    hidden_size: 96,
    hidden_dropout: 0.1,
    embedding_size: 32,
    decoder_hidden_size: 128,
  },
  ...{ attention_size: 64, word_embedding_size: 64, word_hidden_size: 64, max_tokens: 64 },
};

const LSTM_NANO: Json = {
  ...LSTM_SMALL,
  ...{
    n_mels: 24,
    mel_mean: 2,
    hidden_size: 24,
    encoder_layers: 2,
    embedding_size: 12,
    decoder_hidden_size: 32,
  },
  ...{ attention_size: 16, word_embedding_size: 16, word_hidden_size: 16 },
};

/** 20 epochs of about 276 updates of 16 utterances on four sessions of IEMOCAP. */
const PAPER_STAGE: StageConfig = {
  epochs: 20,
  batch: { items: 2 },
  accumulate: 8,
  // The paper prints 10e-5.
  learningRate: { encoder: 1e-4, heads: 1e-4 },
  weightDecay: 0.01,
  maxGradNorm: 1,
  schedule: { kind: "linear", warmup: 0.1 },
  freeze: [],
  alpha: 0.1,
  ctcReduction: "mean",
  labelSmoothing: 0,
  augment: { speed: 0, pitchFormantShift: 0, tilt: 0, noise: 0 },
  select: "ua",
  precision: "f32",
  gradientCheckpointing: false,
};

const PAPER_TEXT: StageConfig = {
  ...PAPER_STAGE,
  epochs: 3,
  batch: { items: 32 },
  accumulate: 1,
  select: "loss",
};

type Units = NonNullable<TrainConfig["units"]>;

type Preset = Omit<TrainConfig, "system" | "data" | "corpus" | "fold" | "stages" | "from">;

const paper: Preset = {
  preset: "paper",
  dev: 0.1,
  seed: 1,
  model: {
    ...{ hubert: HUBERT_LARGE, bert: BERT_BASE, cmgi: { d: 768, heads: 1, bounded: false } },
    lstm: LSTM_LARGE,
  },
  maxSeconds: 20,
  sentences: 1_000_000,
  stage0: PAPER_TEXT,
  stage1: PAPER_STAGE,
  stage2: { ...PAPER_STAGE, freeze: ["cnn"] },
  checkpoints: { keep: 2, every: 0, minutes: 10 },
};

const cautious = (stage: StageConfig): StageConfig => ({
  ...stage,
  learningRate: { encoder: 2e-5, heads: 1e-4 },
  freeze: ["cnn"],
});

const safe: Preset = {
  ...paper,
  preset: "safe",
  model: { ...paper.model, cmgi: { d: 768, heads: 1, bounded: true } },
  stage1: cautious(PAPER_STAGE),
  stage2: cautious(PAPER_STAGE),
};

/** From random weights CTC needs a high learning rate and a large share of the loss. */
const FRESH_STAGE: StageConfig = {
  ...PAPER_STAGE,
  batch: { items: 16, seconds: 48 },
  accumulate: 1,
  learningRate: { encoder: 1.5e-3, heads: 1.5e-3 },
  alpha: 0.5,
  augment: { speed: 0.12, pitchFormantShift: 0, tilt: 0.2, noise: 0.05 },
  select: "wer",
};

const FRESH_FUSION: StageConfig = {
  ...FRESH_STAGE,
  learningRate: { encoder: 2e-4, heads: 1e-3 },
  freeze: ["cnn"],
  alpha: 0.3,
  select: "ua",
};

const small: Preset = {
  ...paper,
  preset: "small",
  model: {
    ...{ hubert: HUBERT_SMALL, bert: BERT_SMALL, cmgi: { d: 128, heads: 4, bounded: true } },
    lstm: LSTM_SMALL,
  },
  maxSeconds: 12,
  sentences: 50_000,
  wordVectors: 0.2,
  stage0: { ...PAPER_TEXT, epochs: 2, batch: { items: 64 }, learningRate: { encoder: 1e-3, heads: 1e-3 } },
  // The corpus has an hour of speech by eight speakers: augmentation keeps the model from overfitting to them.
  stage1: {
    ...FRESH_STAGE,
    epochs: 30,
    batch: { items: 8, seconds: 28 },
    learningRate: { encoder: 1e-3, heads: 1e-3 },
    augment: { speed: 0.2, pitchFormantShift: 0.3, tilt: 0.5, noise: 0.08 },
  },
  stage2: {
    ...FRESH_FUSION,
    epochs: 4,
    learningRate: { encoder: 5e-4, heads: 1e-3 },
    alpha: 0.4,
    weightDecay: 0.05,
    labelSmoothing: 0.1,
    augment: { speed: 0.15, pitchFormantShift: 0.3, tilt: 0.5, noise: 0.08, wordErrors: 0.2 },
  },
};

const nano: Preset = {
  ...small,
  preset: "nano",
  model: {
    ...{ hubert: HUBERT_NANO, bert: BERT_NANO, cmgi: { d: 32, heads: 2, bounded: true } },
    lstm: LSTM_NANO,
  },
  sentences: 512,
  wordVectors: undefined,
  stage0: { ...small.stage0, epochs: 1 },
  stage1: { ...FRESH_STAGE, epochs: 2 },
  stage2: { ...FRESH_FUSION, epochs: 2 },
};

/** 100 and 500 clusters and the middle of 12 layers, as of HuBERT-base (Hsu et al. 2021, section IV-B); 0.1 and 0.8 as there. */
const UNITS_LARGE: Units = {
  ...{ clusters: { mfcc: 100, layer: 500 }, layer: 6, frames: 300_000, iterations: 30 },
  ...{ projectionSize: 256, temperature: 0.1, maskTimeProb: 0.8, maskTimeLength: 10, unmaskedWeight: 0 },
};

const UNITS_SMALL: Units = {
  ...UNITS_LARGE,
  ...{ clusters: { mfcc: 100, layer: 100 }, layer: 2, frames: 40_000, iterations: 20, projectionSize: 64 },
};

const UNITS: Readonly<Record<PresetName, Units>> = {
  paper: UNITS_LARGE,
  safe: UNITS_LARGE,
  small: UNITS_SMALL,
  nano: {
    ...UNITS_SMALL,
    ...{ clusters: { mfcc: 16, layer: 24 }, layer: 1, frames: 4_000, iterations: 10, projectionSize: 16 },
  },
};

/** Stages of pretraining: of random weights, with the rates of models of their size; of a checkpoint, as it is fine-tuned. */
function pretrainingStages(
  preset: PresetName,
  kind: "ctc" | "units",
  fresh: boolean,
): Pick<TrainConfig, "stage1" | "stage2"> {
  const { stage1 } = PRESETS[preset];
  const large = preset === "paper" || preset === "safe";
  if (kind === "ctc") {
    const stage: StageConfig = large && fresh ? { ...FRESH_STAGE, epochs: 60 } : stage1;
    return { stage1: { ...stage, alpha: 1, select: "wer" }, stage2: PRESETS[preset].stage2 };
  }
  const stage: StageConfig = {
    ...PAPER_STAGE,
    ...{ epochs: large ? 100 : preset === "small" ? 20 : 2, accumulate: large ? 16 : 1 },
    batch: large ? { items: 8, seconds: 80 } : { items: 16, seconds: 48 },
    learningRate: large ? { encoder: 5e-4, heads: 5e-4 } : { encoder: 1e-3, heads: 1e-3 },
    ...{ maxGradNorm: 10, schedule: { kind: "linear", warmup: 0.08 }, select: "loss" },
  };
  return { stage1: stage, stage2: stage };
}

/** LSTMs learn from random weights in every preset: those of pretrained encoders have rates and batches that are too small. */
export function lstmStage(preset: PresetName): StageConfig {
  if (preset === "small" || preset === "nano") return { ...PRESETS[preset].stage1, select: "ua" };
  return { ...FRESH_STAGE, epochs: 60, learningRate: { encoder: 1e-3, heads: 1e-3 }, select: "ua" };
}

/** The keys of a preset that a system of the kind reads. CTC needs more frames than characters: one every 20 ms. */
export const lstmOf = (kind: LstmKind, preset: Json): Json => {
  const read = lstmKeys(kind);
  const json = kind === "both" ? { ...preset, subsamplings: 1 } : preset;
  return Object.fromEntries(Object.entries(json).filter(([key]) => read.includes(key)));
};

/** The recipes by name. */
export const PRESETS = { paper, safe, small, nano } as const;
/** Name of a recipe. */
export type PresetName = keyof typeof PRESETS;

/** What a run is to train, and from what. */
export interface RecipeChoice {
  /** The recipe. */
  readonly preset: PresetName;
  /** Name of the system, one of SYSTEMS. */
  readonly system: string;
  /** Folder of the corpus. */
  readonly data: string;
  /** Its layout. Left out: found from the folder. */
  readonly corpus?: TrainConfig["corpus"];
  /** Name of the session held out. */
  readonly fold: TrainConfig["fold"];
  /** A single stage. Left out: all stages of the system. */
  readonly stage?: StageNumber;
  /** Folder of the checkpoint that the speech encoder starts from. Left out: random weights. */
  readonly hubert?: string;
  /** Folder of the checkpoint that the text encoder starts from. Left out: random weights, pretrained in stage 0. */
  readonly bert?: string;
  /** Model folders of earlier stages, trained by other runs; a stage begins with them as with those of its own run. */
  readonly stageModels?: TrainConfig["from"]["stages"];
}

/**
 * The config of a run. The architecture of an encoder is that of its checkpoint, else the preset's. Throws a RangeError for
 * an unknown system.
 */
export function trainConfig(choice: RecipeChoice): TrainConfig {
  const { preset, system, data, corpus, fold, stage, hubert, bert, stageModels } = choice;
  const recipe = systemOf(system);
  const base = PRESETS[preset];
  const fresh = recipe.modalities !== "acoustic" && !recipe.lstm && bert === undefined;
  const all: StageNumber[] = [...new Set<StageNumber>([...(fresh ? ([0] as const) : []), ...recipe.stages])];
  const config: TrainConfig = {
    ...base,
    ...{ system, data, ...(corpus ? { corpus } : {}), fold },
    stages: stage === undefined ? all : [stage],
    from: { hubert, bert, ...(stageModels ? { stages: stageModels } : {}) },
    model: recipe.lstm
      ? { lstm: lstmOf(recipe.lstm, base.model.lstm ?? {}) }
      : {
          hubert: hubert === undefined ? encoderConfig(recipe, base.model.hubert ?? {}) : {},
          bert: bert === undefined ? base.model.bert : {},
          cmgi: base.model.cmgi,
        },
  };
  if (recipe.lstm) config.stage1 = lstmStage(preset);
  if (recipe.pretrains) {
    Object.assign(config, pretrainingStages(preset, recipe.pretrains, hubert === undefined));
    return recipe.pretrains === "units" ? { ...config, units: UNITS[preset] } : config;
  }
  // What is trained in a single stage learns to recognise words in it.
  if (recipe.stages.includes(2) && !recipe.stages.includes(1))
    config.stage2 = partsOf(system, 2).hubert
      ? { ...base.stage1, select: "ua" }
      : { ...base.stage2, freeze: [] };
  const { wordErrors, ...augment } = config.stage2.augment;
  // True words are read as they are.
  if (!recipe.asr && wordErrors !== undefined) config.stage2 = { ...config.stage2, augment };
  // The epoch of the last stage is selected by the score that the run is for: UA.
  const last = config.stages[config.stages.length - 1];
  if (last === 1 && recipe.modalities === "acoustic" && !recipe.lstm)
    config.stage1 = { ...stageOf(config, 1), select: "ua" };
  return config;
}

/** The systems of the paper's tables by name: modalities, fusion and stages; and which settings these do not use. */
import { LABELS } from "../system/labels.ts";
import type { LstmKind } from "../system/lstm_config.ts";
import type { StageNumber, TrainConfig } from "./config.ts";

/** A system: which model it is, and which stages train it. */
export interface SystemRecipe {
  /** What the emotion is recognised from. */
  readonly modalities: "acoustic" | "text" | "both";
  /** Whether there is a CTC head. */
  readonly asr: boolean;
  /** Keys of CmgiConfig. */
  readonly fusion?: { readonly interaction: string; readonly gate?: string };
  /** From pretrained encoders. Without stage 1 all parts are trained together from the start. */
  readonly stages: readonly StageNumber[];
  /** A system of LSTMs, which has neither HuBERT nor BERT nor CmGI; stage 1 trains all of it. */
  readonly lstm?: LstmKind;
  /** The family that the speech encoder must be of; HuBERT in the presets and either in a checkpoint where left out. */
  readonly encoder?: "hubert" | "wav2vec2";
  /**
   * The words that BERT learns from, the true ones where left out. "recognised": those that the model itself decodes, greedily
   * and without dropout, with the weights of each update.
   */
  readonly words?: "true" | "recognised";
  /**
   * Pretraining of a speech encoder, which recognises no emotion: by transcripts, or by units of masked frames, of MFCC in stage 1
   * and of the features of its model in stage 2. The model is a folder for --hubert.
   */
  readonly pretrains?: "ctc" | "units";
}

const both = (interaction: string, gate?: string): SystemRecipe => ({
  modalities: "both",
  asr: true,
  fusion: { interaction, gate },
  stages: [1, 2],
});

/** The systems by name. */
export const SYSTEMS = {
  /** Emotion from speech. */
  acoustic: { modalities: "acoustic", asr: false, stages: [1] },
  /** Emotion and characters from speech. */
  "acoustic-asr": { modalities: "acoustic", asr: true, stages: [1] },
  /** Emotion from the words that the system itself recognised. */
  text: { modalities: "text", asr: true, stages: [1, 2] },
  /** From the true words alone. */
  "text-noasr": { modalities: "text", asr: false, stages: [2] },
  /** From speech and words: means over time concatenated. */
  "both-none": both("none"),
  /** The same from speech and the true words: it recognises none. */
  "both-none-noasr": { ...both("none"), asr: false },
  /** The same with wav2vec 2.0, trained in a single stage, on the words that it recognises at that time. */
  "wav2vec2-both": { ...both("none"), encoder: "wav2vec2", words: "recognised", stages: [2] },
  /** The same after self-attention. */
  "both-self": both("self"),
  /** And with a gate over modalities, one per utterance. */
  "both-self-gated": both("self", "modal"),
  /** After self-attention and cross-attention. */
  "both-cross": both("cross"),
  /** And with a gate over modalities, one per utterance. */
  "both-cross-gated": both("cross", "modal"),
  /** CmGI: both attentions, and a gate for every frame. */
  "both-cmgi": both("cmgi", "temporal"),
  /** CmGI with one gate per utterance. */
  "both-cmgi-pooled": both("cmgi", "pooled"),
  /** CmGI without gates. */
  "both-cmgi-nogate": both("cmgi", "none"),
  /** Emotion from the LSTM encoder of a listen-attend-spell recogniser, which is shared. */
  "lstm-las": { modalities: "acoustic", asr: true, lstm: "las", stages: [1] },
  /** From an LSTM over the states of that recogniser's decoder. */
  "lstm-las-hidden": { modalities: "acoustic", asr: true, lstm: "las-hidden", stages: [1] },
  /** From an LSTM over speech and another over the words that a CTC recogniser of its own recognises. */
  "lstm-both": { modalities: "both", asr: true, lstm: "both", stages: [1] },
  /** Characters by CTC: HuBERT alone, on any speech with transcripts. */
  "hubert-ctc-pretrain": { modalities: "acoustic", asr: true, pretrains: "ctc", stages: [1] },
  /** HuBERT's own objective, masked prediction of clustered units in two iterations, on any speech. */
  "hubert-pretrain": { modalities: "acoustic", asr: false, pretrains: "units", stages: [1, 2] },
  /** Masked language modelling: BERT alone, on the text of a corpus. */
  "text-mlm": { modalities: "text", asr: false, stages: [0] },
} as const satisfies Record<string, SystemRecipe>;

/** Name of a system. */
export type SystemName = keyof typeof SYSTEMS;

/** The system of a name. Throws a RangeError that lists the names. */
export function systemOf(name: string): SystemRecipe {
  if (Object.hasOwn(SYSTEMS, name)) return SYSTEMS[name as SystemName];
  throw new RangeError(`Cannot train ${name}: systems are ${Object.keys(SYSTEMS).join(", ")}`);
}

/** The stages in which a system can be trained; 0 pretrains a text encoder of random weights. */
export function stagesOf(name: string): readonly StageNumber[] {
  const { modalities, lstm, stages } = systemOf(name);
  return modalities === "acoustic" || lstm ? stages : [...new Set<StageNumber>([0, ...stages])];
}

/** The stages whose models a stage of a system begins with where there are any: stage 2 with the encoders of both others. */
export const stagesBefore = (name: string, stage: StageNumber): readonly StageNumber[] =>
  stage === 2 ? stagesOf(name).filter((each) => each < 2) : [];

/** What a system that is only pretrained learns from; undefined for one that recognises emotions. */
export const pretrains = (name: string): SystemRecipe["pretrains"] => systemOf(name).pretrains;

type Parts = Readonly<Record<"hubert" | "ctc" | "bert" | "cmgi" | "lstm", boolean>>;

/** Whether a system has a speech encoder: to recognise the emotion, or the words that it reads. */
const hears = ({ modalities, asr }: SystemRecipe): boolean => modalities !== "text" || asr;

/** Whether a system writes characters by an attention decoder. */
export const spells = (name: string): boolean => {
  const { lstm } = systemOf(name);
  return lstm !== undefined && lstm !== "both";
};

/** The parts of a system's model in a stage: BERT alone in stage 0, HuBERT without BERT in stage 1. */
export function partsOf(name: string, stage: StageNumber): Parts {
  const recipe = systemOf(name);
  const { modalities, asr, lstm } = recipe;
  if (lstm) return { hubert: false, ctc: lstm === "both", bert: false, cmgi: false, lstm: true };
  return {
    lstm: false,
    hubert: stage > 0 && hears(recipe),
    ctc: stage > 0 && asr,
    bert: stage === 0 || (stage === 2 && modalities !== "acoustic"),
    cmgi: stage === 2 && modalities === "both",
  };
}

/** Whether a system's model has a part in any of `stages`, by default all in which it can be trained. */
export const hasPart = (name: string, part: keyof Parts, stages = stagesOf(name)): boolean =>
  stages.some((stage) => partsOf(name, stage)[part]);

type Json = Readonly<Record<string, unknown>>;

/** A config of the speech encoder with the family that the system needs. */
export const encoderConfig = ({ encoder }: SystemRecipe, hubert: Json): Json =>
  encoder === undefined ? hubert : { ...hubert, model_type: encoder };

/** config.json of a system in a stage; in stage 1 every system is an acoustic one. */
export function systemConfig(
  recipe: SystemRecipe,
  stage: StageNumber,
  parts: {
    readonly hubert?: Json;
    readonly bert?: Json;
    readonly cmgi?: Json;
    readonly lstm?: Json;
    readonly alpha: number;
  },
): Json {
  const { hubert, bert, cmgi, lstm, alpha } = parts;
  if (recipe.lstm)
    return {
      ...{ model_type: "wavegate", modalities: recipe.modalities, asr: true, labels: LABELS, alpha },
      lstm: { ...lstm, kind: recipe.lstm },
    };
  const modalities = stage === 1 ? "acoustic" : recipe.modalities;
  return {
    model_type: "wavegate",
    modalities,
    asr: recipe.asr,
    labels: LABELS,
    alpha: recipe.asr ? alpha : 0,
    hubert: hubert && hears(recipe) ? encoderConfig(recipe, hubert) : undefined,
    ...(modalities === "acoustic" ? {} : { bert }),
    ...(modalities === "both"
      ? {
          cmgi: {
            ...cmgi,
            ...Object.fromEntries(Object.entries(recipe.fusion ?? {}).filter(([, x]) => x !== undefined)),
            d_s: hubert?.hidden_size,
            d_t: bert?.hidden_size,
            num_classes: LABELS.length,
          },
        }
      : {}),
  };
}

/** A line for each of `settings`, "key=value", that no stage of `config` uses, or that a later one overrules. */
export function settingNotes(config: TrainConfig, settings: readonly string[]): string[] {
  const keys = settings.map((setting) => setting.slice(0, setting.indexOf("=")));
  return settings.flatMap((setting, i) => {
    const key = keys[i];
    const later = keys.findIndex((each, j) => j > i && (each === key || key.startsWith(`${each}.`)));
    if (later > 0) return [`--set ${setting} is overruled by --set ${settings[later]}, which comes later`];
    const why = unused(config, key);
    return why === undefined ? [] : [`--set ${setting} changes nothing: ${why}`];
  });
}

/** Why no stage uses a key of the config; undefined where one does. */
export function unused({ stages, system, from }: TrainConfig, key: string): string | undefined {
  const [top, part] = key.split(".");
  if (top === "wordVectors" && stages.includes(0) && from.bert !== undefined)
    return "BERT begins with the weights of --bert";
  const trained = stages.length === 1 ? `only stage ${stages[0]} is` : `stages ${stages.join(" and ")} are`;
  const has = (part: Parameters<typeof hasPart>[1]) => hasPart(system, part, stages);
  const spoken = stages.some((stage) => stage > 0);
  const models = { hubert: has("hubert"), bert: has("bert"), cmgi: has("cmgi"), lstm: has("lstm") };
  const needed =
    {
      ...{ stage0: stages.includes(0), stage1: stages.includes(1), stage2: stages.includes(2) },
      ...{ sentences: stages.includes(0), wordVectors: stages.includes(0), maxSeconds: spoken, dev: spoken },
    }[top] ?? (top === "model" ? models[part as keyof typeof models] : true);
  return needed === false ? `${trained} trained` : undefined;
}

/** Config of a training run, as RUN/config.json holds it: the schema, and changes by --set. */
import { CORPUS_NAMES } from "../corpora/read.ts";
import * as v from "valibot";
import { isObject } from "../../io/config.ts";
import { parseJson } from "../../io/json.ts";
import { nearest } from "../../io/nearest.ts";
import { anyObject, entriesOf, finite, integer, parse, strictObject } from "../../io/schema.ts";
import { FORMER_NAMES, presentNames } from "./former_names.ts";
import { refuseModelSetting } from "./model_keys.ts";
import { partsOf, pretrains, spells, stagesOf, systemOf } from "./systems.ts";

const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
/** Finite, since JSON has no infinity: such a run could not be resumed. */
const nonNegative = v.pipe(finite, v.minValue(0));
const positive = v.pipe(finite, v.gtValue(0));

/** A larger number is surely a mistake; all epochs are planned before the first. */
const MAX_EPOCHS = 100_000;

/** Units are kept as 16 bits. */
const MAX_CLUSTERS = 2 ** 16;

const stage = strictObject({
  epochs: integer(1, MAX_EPOCHS),
  batch: strictObject({
    /** Most utterances in a micro-batch. */
    items: integer(1),
    /** Most seconds of audio in a micro-batch, padding included. */
    seconds: v.optional(positive),
  }),
  /** Micro-batches per update. */
  accumulate: integer(1),
  /** Peak learning rates of the encoders, and of the heads, which are new. */
  learningRate: strictObject({
    encoder: nonNegative,
    heads: nonNegative,
  }),
  weightDecay: nonNegative,
  /** Global norm to which gradients are clipped. */
  maxGradNorm: positive,
  schedule: strictObject({ kind: v.picklist(["linear", "newbob", "constant"]), warmup: share }),
  /** Parts that are not trained; cnn: the convolutions of HuBERT. */
  freeze: v.array(v.picklist(["cnn", "hubert", "bert", "ctc"])),
  /** α in L = α·L_CTC + (1 − α)·L_E. */
  alpha: share,
  ctcReduction: v.picklist(["mean", "sum"]),
  labelSmoothing: share,
  /** "balanced": a class counts n / (classes · its number of utterances) in L_E, n of them in all. Equally where left out. */
  classWeights: v.optional(v.picklist(["none", "balanced"])),
  /** Strength of each augmentation, see augment.ts; 0: none. */
  augment: strictObject({
    speed: v.pipe(share, v.maxValue(0.5)),
    pitchFormantShift: v.pipe(share, v.maxValue(0.5)),
    tilt: share,
    noise: share,
    wordErrors: v.optional(share),
  }),
  /** The dev score that selects the epoch; "last": none does, the last epoch is kept. */
  select: v.picklist(["ua", "wer", "loss", "last"]),
  /** The stage ends after so many epochs without a dev score as good as the best. It does not where left out. */
  earlyStoppingPatience: v.optional(integer(1)),
  /** f16: matrix products in f16, master weights in f32 and loss scaling; needs the adapter's shader-f16. */
  precision: v.picklist(["f32", "f16"]),
  /** f16: what layers hand on to each other, and keep for the backward pass; needs precision f16. f32 where left out. */
  activations: v.optional(v.picklist(["f32", "f16"])),
  /** Recompute the activations of each transformer layer in the backward pass instead of keeping them. */
  gradientCheckpointing: v.boolean(),
});

export const schema = strictObject({
  /** Name of the preset that the values are from. */
  preset: v.string(),
  /** Name of the system, see systems.ts. */
  system: v.string(),
  /** Folder of the corpus. */
  data: v.string(),
  /** Its layout; found from the folder where left out. */
  corpus: v.optional(v.picklist(CORPUS_NAMES)),
  /**
   * Name of the session held out, or of the speaker, whose partner in the session is the dev set then. In runs of version 0.1 a
   * number: the session's place among those sorted as text.
   */
  fold: v.pipe(
    v.union([v.string(), v.number()]),
    v.check(
      (fold) => (typeof fold === "string" ? fold !== "" : Number.isInteger(fold) && fold >= 1),
      "the name of a session or of a speaker",
    ),
  ),
  /** Share of the training dialogues in the dev set. */
  dev: v.pipe(v.number(), v.minValue(0), v.ltValue(1)),
  /** Of every random choice. */
  seed: integer(0),
  /** The stages to train. */
  stages: v.pipe(
    v.array(v.picklist([0, 1, 2])),
    v.minLength(1, "at least one stage"),
    v.check((stages) => new Set(stages).size === stages.length, "each stage once"),
  ),
  /** Folders of the checkpoints that the encoders start from. */
  from: strictObject({
    hubert: v.optional(v.string()),
    bert: v.optional(v.string()),
    /** Model folders of stages that other runs have trained, which a later stage begins with. */
    stages: v.optional(strictObject({ 0: v.optional(v.string()), 1: v.optional(v.string()) })),
  }),
  /** Configs of the encoders in Hugging Face's keys, of CmGI, or of LSTMs; checked by their models. */
  model: strictObject({
    hubert: v.optional(anyObject),
    bert: v.optional(anyObject),
    cmgi: v.optional(anyObject),
    lstm: v.optional(anyObject),
  }),
  /** Longer clips are left out of training. */
  maxSeconds: positive,
  /** Lines of the corpus's text.txt that stage 0 reads. */
  sentences: integer(1),
  /**
   * Standard deviation of the word embeddings that stage 0 begins with where they are word vectors of that text. Left out or 0:
   * they are random, as BERT's.
   */
  wordVectors: v.optional(nonNegative),
  /** Of hubert-pretrain alone. */
  units: v.optional(
    strictObject({
      /** Clusters of MFCC, in stage 1, and of the features of a layer, in stage 2. */
      clusters: strictObject({ mfcc: integer(2, MAX_CLUSTERS), layer: integer(2, MAX_CLUSTERS) }),
      /** Of which layer of stage 1's model, from 1. */
      layer: integer(1),
      /** About how many frames are clustered. */
      frames: integer(2),
      /** Most iterations of k-means. */
      iterations: integer(1),
      /** Width in which frames and units are compared. */
      projectionSize: integer(1),
      /** Cosines are divided by it. */
      temperature: positive,
      /** Share of the frames that would be masked if spans did not overlap, and frames of a span. */
      maskTimeProb: v.pipe(v.number(), v.gtValue(0), v.maxValue(1)),
      maskTimeLength: integer(1),
      /** What the loss of unmasked frames counts beside that of masked ones. */
      unmaskedWeight: nonNegative,
    }),
  ),
  stage0: stage,
  stage1: stage,
  stage2: stage,
  checkpoints: strictObject({
    /** Number of checkpoints that are kept besides the best. */
    keep: integer(1),
    /** Updates between two checkpoints; 0: one per epoch. */
    every: integer(0),
    /** Minutes after which another is saved in any case; 10 where left out. */
    minutes: v.optional(positive),
  }),
});

/** Config of a training run: RUN/config.json. */
export type TrainConfig = v.InferOutput<typeof schema>;
/** Config of one stage. */
export type StageConfig = v.InferOutput<typeof stage>;
/** 0: masked language modelling on plain text. 1: characters and emotion from speech. 2: the whole system. */
export type StageNumber = 0 | 1 | 2;

/** The config of a stage. */
export const stageOf = (config: TrainConfig, stage: StageNumber): StageConfig =>
  ({ 0: config.stage0, 1: config.stage1, 2: config.stage2 })[stage];

/** What trainStage() takes of the config of a stage. */
export function recipeOf(config: StageConfig) {
  const { epochs, accumulate, learningRate, weightDecay, maxGradNorm, schedule } = config;
  const { precision, activations, gradientCheckpointing, earlyStoppingPatience } = config;
  return {
    ...{ epochs, accumulate, learningRate, weightDecay, maxGradNorm, schedule, precision },
    ...{ activations, gradientCheckpointing, earlyStoppingPatience },
  };
}

/** Checks a config. Throws one line that names the first wrong key, what it is and what it should be. */
export function checkConfig(value: unknown, source: string): TrainConfig {
  const config = parse(schema, presentNames(value), source);
  const { stages, system, from } = config;
  for (const number of stages) {
    const { precision, activations, select, earlyStoppingPatience } = stageOf(config, number);
    const blind = select === "last" ? `stage${number}.select is last` : "dev is 0";
    if (earlyStoppingPatience !== undefined && (select === "last" || (number > 0 && config.dev === 0)))
      throw new RangeError(
        `Cannot use ${source}: stage${number}.earlyStoppingPatience needs the score of a dev set, but ${blind}`,
      );
    if (activations === "f16" && precision !== "f16")
      throw new RangeError(
        `Cannot use ${source}: stage${number}.activations is f16 and stage${number}.precision ${precision}, but f16 activations need precision f16`,
      );
  }
  const possible = stagesOf(system);
  const wrong = stages.find((stage) => !possible.includes(stage));
  if (wrong !== undefined)
    throw new RangeError(
      `Cannot use ${source}: ${system} has no stage ${wrong}, its stages are ${possible.join(", ")}`,
    );
  if ((pretrains(system) === "units") !== (config.units !== undefined))
    throw new RangeError(
      `Cannot use ${source}: ${config.units ? `${system} has no units` : `${system} needs units, what its frames are clustered by`}`,
    );
  // Fusion, and clusters of what a model hears, need a speech encoder that is trained already.
  const staged = stages.includes(2) && possible.includes(1);
  if (staged && !stages.includes(1) && (from.stages?.[1] ?? from.hubert) === undefined)
    throw new RangeError(
      `Cannot use ${source}: stage 2 without stage 1 needs the model of a stage 1, --stage-model 1=DIR or --hubert DIR`,
    );
  return { ...config, stages: [...stages].sort() };
}

/**
 * Sets values by dotted keys: "stage1.learningRate.heads=1e-3". A value that is not JSON is taken as text. Throws for a
 * setting without "=", and for a key that is unknown, that the system or another option sets, or that nothing reads.
 */
export function applySettings(config: TrainConfig, settings: readonly string[]): unknown {
  // Not structuredClone(), which keeps shared objects shared: stages share parts, and a setting is for one of them.
  const out: Record<string, unknown> = JSON.parse(JSON.stringify(config));
  for (const setting of settings) {
    const at = setting.indexOf("=");
    if (at <= 0) throw new SyntaxError(`Cannot read --set ${setting}: expected key=value`);
    const path = setting.slice(0, at).split(".");
    const value = parseValue(setting, setting.slice(at + 1));
    refuseSetting(config, path, value);
    const last = path.pop() as string;
    let place = out;
    for (const part of path) {
      const next = Object.hasOwn(place, part) ? place[part] : undefined;
      if (!isObject(next))
        throw new SyntaxError(`Cannot read --set ${setting}: there is no ${part} in the config`);
      place = next;
    }
    place[last] = value;
  }
  return out;
}

function parseValue(setting: string, text: string): unknown {
  try {
    return parseJson(text);
  } catch (cause) {
    if (/^\s*[[{"]/.test(text))
      throw new SyntaxError(`Cannot read --set ${setting}: not JSON, ${(cause as Error).message}`, { cause });
    return text;
  }
}

/** Keys that only options of the command line set, since these do more. */
const OPTIONS: Readonly<Record<string, string>> = {
  preset: "--preset NAME",
  data: "--data DIR",
  corpus: "--corpus NAME",
  from: "--hubert DIR, --bert DIR or --stage-model N=DIR",
};

function refuseSetting(config: TrainConfig, path: readonly string[], value: unknown): void {
  const [top, ...rest] = path;
  const key = path.join(".");
  const refuse = (why: string): never => {
    throw new SyntaxError(`Cannot use the recipe with --set: ${why}`);
  };
  if (top === "model") {
    refuseModelSetting(config.system, rest, value);
    return;
  }
  if (Object.hasOwn(OPTIONS, top)) refuse(`${key} is for ${OPTIONS[top]} to set`);
  let entries = entriesOf(schema);
  for (const [i, part] of path.entries()) {
    if (!entries || part === "") refuse(`there is no key ${key}`);
    else if (!Object.hasOwn(entries, part)) {
      const inside = i < path.length - 1;
      const here = entries;
      const names = Object.keys(here).filter((name) => !inside || entriesOf(here[name]));
      const near = names.find((name) => FORMER_NAMES[name] === part) ?? nearest(part, names);
      const elsewhere = leaves(schema).filter((leaf) => leaf.endsWith(`.${path.slice(i).join(".")}`));
      const meant = near === undefined ? elsewhere : [[...path.slice(0, i), near].join(".")];
      const hint = meant.length > 0 ? `; did you mean ${meant.join(" or ")}?` : "";
      refuse(`${inside ? `there is no ${part} in the config` : `there is no key ${key}`}${hint}`);
    } else entries = entriesOf(entries[part]);
  }
  if (top === "units" && pretrains(config.system) !== "units")
    refuse(`nothing reads ${key}: the system ${config.system} clusters no frames`);
  const stage = /^stage(\d)$/.exec(top)?.[1];
  const unread =
    stage !== undefined && unreadInStage(config.system, Number(stage) as StageNumber, rest.join("."), value);
  if (unread) refuse(`nothing reads ${key}: ${unread}`);
}

/** Why a key of a stage changes nothing in a system that has the stage. */
function unreadInStage(system: string, stage: StageNumber, key: string, value: unknown): string | undefined {
  const of = (keys: string) => new RegExp(`^(${keys})(\\.|$)`).test(key);
  const idle =
    key === "freeze" && Array.isArray(value) ? value.find((part) => !has(system, stage, part)) : undefined;
  if (idle !== undefined) return `the model of stage ${stage} of the system ${system} has no ${idle}`;
  if (stage === 0) {
    if (of("batch\\.seconds|alpha|ctcReduction|labelSmoothing|classWeights|augment"))
      return "stage 0 learns from text, by the masked words alone";
    if (key === "select" && (value === "ua" || value === "wer"))
      return "stage 0 is selected by loss or by last";
    return undefined;
  }
  const own = pretrains(system);
  if (own === "units" && of("alpha|ctcReduction|augment"))
    return `the system ${system} predicts the units of recordings as they are`;
  if (own && (of("alpha|labelSmoothing|classWeights") || (key === "select" && value === "ua")))
    return `the system ${system} recognises no emotion`;
  const { hubert, lstm, bert } = partsOf(system, stage);
  if (of("augment\\.wordErrors")) {
    if (!bert && systemOf(system).lstm !== "both")
      return `the model of stage ${stage} of the system ${system} reads no words`;
    if (systemOf(system).words === "recognised")
      return `the system ${system} learns from the words that it recognises`;
    return undefined;
  }
  if (!hubert && !lstm && of("batch\\.seconds|augment")) return `the system ${system} takes no speech`;
  if (spells(system) && of("ctcReduction")) return `the system ${system} has no CTC head`;
  if (lstm && of("gradientCheckpointing|activations"))
    return `the system ${system} has no transformer layers`;
  if (lstm && of("learningRate\\.encoder"))
    return `no part of the system ${system} is pretrained; learningRate.heads is that of all`;
  if (systemOf(system).asr) return undefined;
  if (of("alpha|ctcReduction") || (key === "select" && value === "wer"))
    return `the system ${system} recognises no words`;
  return undefined;
}

/** Whether a stage's model has a part that is to be frozen; true for unknown parts, which the schema refuses. */
function has(system: string, stage: StageNumber, part: unknown): boolean {
  const { hubert, ctc, bert } = partsOf(system, stage);
  const parts = { cnn: hubert, hubert, ctc, bert };
  return parts[part as keyof typeof parts] ?? true;
}

/** Dotted keys of all values that are not objects. */
function leaves(of: unknown): string[] {
  return Object.entries(entriesOf(of) ?? {}).flatMap(([key, inner]) =>
    entriesOf(inner) ? leaves(inner).map((leaf) => `${key}.${leaf}`) : [key],
  );
}

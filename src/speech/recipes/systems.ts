/** The rows of the paper's tables by name: the modalities, how they are fused, which stages train them, and which settings these do not use. */
import { LABELS } from "../system/labels.ts";
import type { StageNumber, TrainConfig } from "./config.ts";

export interface SystemRecipe {
  readonly modalities: "acoustic" | "text" | "both";
  /** A CTC head beside the emotion. */
  readonly asr: boolean;
  readonly fusion?: { readonly interaction: string; readonly gate?: string };
  readonly stages: readonly StageNumber[];
}

const both = (interaction: string, gate?: string): SystemRecipe => ({
  modalities: "both",
  asr: true,
  fusion: { interaction, gate },
  stages: [1, 2],
});

export const SYSTEMS = {
  /** Experiment 1: speech, emotions only. */
  acoustic: { modalities: "acoustic", asr: false, stages: [1] },
  /** Experiment 2: speech, with characters as a second task. */
  "acoustic-asr": { modalities: "acoustic", asr: true, stages: [1] },
  /** Words that the system recognised itself. */
  text: { modalities: "text", asr: true, stages: [1, 2] },
  "both-none": both("none"),
  "both-self": both("self"),
  "both-cross": both("cross"),
  "both-cmgi": both("cmgi", "temporal"),
  "both-cmgi-pooled": both("cmgi", "pooled"),
  "both-cmgi-nogate": both("cmgi", "none"),
  /** Masked words on the corpus's text: BERT alone. */
  "text-mlm": { modalities: "text", asr: false, stages: [0] },
} as const satisfies Record<string, SystemRecipe>;

export type SystemName = keyof typeof SYSTEMS;

/** The recipe of a name. Throws one line that lists the names. */
export function systemOf(name: string): SystemRecipe {
  if (Object.hasOwn(SYSTEMS, name)) return SYSTEMS[name as SystemName];
  throw new RangeError(`Cannot train ${name}: systems are ${Object.keys(SYSTEMS).join(", ")}`);
}

/** The stages that a system can be trained in: 0 for all that read, from fresh weights. */
export function stagesOf(name: string): readonly StageNumber[] {
  const { modalities, stages } = systemOf(name);
  return modalities === "acoustic" ? stages : [...new Set<StageNumber>([0, ...stages])];
}

type Parts = Readonly<Record<"hubert" | "ctc" | "bert" | "cmgi", boolean>>;

/** What a system's model holds in a stage: BERT alone in stage 0, HuBERT without BERT in stage 1. */
export function partsOf(name: string, stage: StageNumber): Parts {
  const { modalities, asr } = systemOf(name);
  return {
    hubert: stage > 0,
    ctc: stage > 0 && asr,
    bert: stage === 0 || (stage === 2 && modalities !== "acoustic"),
    cmgi: stage === 2 && modalities === "both",
  };
}

/** Whether a system's model holds a part in any of these stages; without `stages` in any that it can be trained in. */
export const hasPart = (name: string, part: keyof Parts, stages = stagesOf(name)): boolean =>
  stages.some((stage) => partsOf(name, stage)[part]);

type Json = Readonly<Record<string, unknown>>;

/** config.json of a system in a stage: stage 1 has speech alone, with its words as a second task. */
export function systemConfig(
  recipe: SystemRecipe,
  stage: StageNumber,
  parts: { readonly hubert?: Json; readonly bert?: Json; readonly cmgi?: Json; readonly alpha: number },
): Json {
  const { hubert, bert, cmgi, alpha } = parts;
  const modalities = stage === 1 ? "acoustic" : recipe.modalities;
  return {
    model_type: "wavegate",
    modalities,
    asr: recipe.asr,
    labels: LABELS,
    alpha: recipe.asr ? alpha : 0,
    hubert,
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

/** A line for each of `settings`, "key=value", that the stages of `config` do not use, or that a later one overrules. */
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

/** Why a key, or a folder that is given for a part, is of no use to the stages; undefined where it is. */
export function unused({ stages, system }: TrainConfig, key: string): string | undefined {
  const [top, part] = key.split(".");
  const trained = stages.length === 1 ? `only stage ${stages[0]} is` : `stages ${stages.join(" and ")} are`;
  const has = (part: Parameters<typeof hasPart>[1]) => hasPart(system, part, stages);
  const speech = has("hubert");
  const needed =
    {
      ...{ stage0: stages.includes(0), stage1: stages.includes(1), stage2: stages.includes(2) },
      ...{ sentences: stages.includes(0), maxSeconds: speech, dev: speech },
    }[top] ?? (top === "model" ? { hubert: speech, bert: has("bert"), cmgi: has("cmgi") }[part] : true);
  return needed === false ? `${trained} trained` : undefined;
}

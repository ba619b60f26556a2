/** Which keys of a model's config --set may change: not those that the system sets itself, nor those that nothing reads. */
import { isObject } from "../../io/config.ts";
import { nearest } from "../../io/nearest.ts";
import { CMGI_KEYS } from "../system/cmgi.ts";
import { lstmKeys } from "../system/lstm_config.ts";
import { BERT_KEYS, HUBERT_KEYS } from "../../models/config.ts";
import { FAMILY_KEYS } from "../../models/family.ts";
import { hasPart, SYSTEMS, type SystemRecipe, systemOf } from "./systems.ts";

type Part = "hubert" | "bert" | "cmgi" | "lstm";

/** The keys of a part's config that the model reads. */
const KNOWN: Readonly<Record<Part, ReadonlySet<string>>> = {
  hubert: new Set([...FAMILY_KEYS, ...HUBERT_KEYS]),
  bert: new Set([...FAMILY_KEYS, ...BERT_KEYS]),
  cmgi: new Set(CMGI_KEYS),
  lstm: new Set((["las", "las-hidden", "both"] as const).flatMap(lstmKeys)),
};

/** The keys of a part's config that the model reads. */
export const knownKeys = (part: Part): ReadonlySet<string> => KNOWN[part];

/** Keys that are read but that a recipe must not set, with what sets them. */
const SET_ELSEWHERE: Readonly<Record<string, string>> = {
  "cmgi.d_s": "it is HuBERT's hidden_size, model.hubert.hidden_size",
  "cmgi.d_t": "it is BERT's hidden_size, model.bert.hidden_size",
  "cmgi.num_classes": "it is the number of emotions",
  "lstm.kind": "--system NAME chooses it",
  "lstm.sample_rate": "all audio is at 16 kHz",
  "hubert.ctc_loss_reduction": "ctcReduction of stage1 and stage2 has it",
  "hubert.ctc_zero_infinity": "training always leaves out what does not fit",
  "bert.num_labels": "no classifier of BERT's own is trained",
  "bert.id2label": "no classifier of BERT's own is trained",
  "bert.classifier_dropout": "no classifier of BERT's own is trained",
};

/** The same for keys outside of the parts. */
const SYSTEM_KEYS: Readonly<Record<string, string>> = {
  labels: "they are the corpora's emotions",
  alpha: "alpha of stage1 and stage2 has it",
  model_type: "it is wavegate",
};

/** Throws where a setting "model.PATH=value" would change nothing: something else sets the key, or nothing reads it. */
export function refuseModelSetting(system: string, path: readonly string[], value: unknown): void {
  const [part, key, ...rest] = path;
  if (part === undefined || (key === undefined && isPart(part))) {
    if (isObject(value))
      for (const [name, inner] of Object.entries(value)) refuseModelSetting(system, [...path, name], inner);
    if (part !== undefined) refusePart(system, part as Part);
    return;
  }
  const name = `model.${path.slice(0, 2).join(".")}`;
  if (!isPart(part)) {
    const own =
      (Object.hasOwn(SYSTEM_KEYS, part) ? SYSTEM_KEYS[part] : undefined) ??
      (part === "modalities" || part === "asr" ? other(system, part, value) : undefined);
    if (own !== undefined) throw owned(system, name, own);
    throw unknown(name, nearest(part, ["hubert", "bert", "cmgi", "lstm"]), "model.");
  }
  refusePart(system, part);
  if (part === "cmgi" && (key === "interaction" || key === "gate"))
    throw owned(system, name, other(system, key, value));
  const { encoder } = systemOf(system);
  if (part === "hubert" && key === "model_type" && encoder !== undefined)
    throw owned(
      system,
      name,
      value === encoder ? `it is ${JSON.stringify(encoder)} already` : "no other is its",
    );
  const own = SET_ELSEWHERE[`${part}.${key}`];
  if (own !== undefined) throw owned(system, name, own);
  const why = unreadKey(systemOf(system), part, key);
  if (why !== undefined)
    throw new RangeError(
      `Cannot use the recipe with --set: nothing reads ${name}: the system ${system} ${why}`,
    );
  const known = [...knownKeys(part)].filter((each) => SET_ELSEWHERE[`${part}.${each}`] === undefined);
  if (!known.includes(key) || rest.length > 0)
    throw unknown(rest.length > 0 ? `model.${path.join(".")}` : name, nearest(key, known), `model.${part}.`);
}

/** Why a system that has the part does not read a key of it; undefined where it does. */
function unreadKey({ asr, fusion, lstm }: SystemRecipe, part: Part, key: string): string | undefined {
  if (part === "lstm" && lstm && KNOWN.lstm.has(key) && !lstmKeys(lstm).includes(key))
    return lstm === "both" ? "has no decoder" : "reads no words";
  if (part === "hubert" && !asr && (key === "vocab_size" || key === "pad_token_id"))
    return "recognises no words";
  if (part !== "cmgi") return undefined;
  if (fusion?.interaction === "none" && (key === "d" || key === "heads")) return "has no attention there";
  if (key === "bounded" && (fusion?.gate ?? "none") === "none") return "has no gate";
  return undefined;
}

const isPart = (name: string): name is Part =>
  name === "hubert" || name === "bert" || name === "cmgi" || name === "lstm";

function refusePart(system: string, part: Part): void {
  if (!hasPart(system, part))
    throw new RangeError(`Cannot use the recipe with --set: the system ${system} has no model.${part}`);
}

/** For a message: which system has this value of the key. */
function other(system: string, key: "interaction" | "gate" | "modalities" | "asr", value: unknown): string {
  const own = systemOf(system);
  const of = (recipe: SystemRecipe) =>
    key === "modalities" || key === "asr" ? recipe[key] : recipe.fusion?.[key];
  const found = Object.entries<SystemRecipe>(SYSTEMS).filter(
    ([, recipe]) =>
      of(recipe) === value &&
      recipe.pretrains === undefined &&
      (recipe.lstm === undefined) === (own.lstm === undefined) &&
      (key !== "gate" || recipe.fusion?.interaction === own.fusion?.interaction) &&
      (key !== "asr" || recipe.modalities === own.modalities),
  );
  if (found.some(([name]) => name === system)) return `it is ${JSON.stringify(value)} already`;
  const names = found.map(([name]) => name);
  return names.length > 0 ? `--system ${names.join(" or ")} has that one` : "no system has that one";
}

const owned = (system: string, key: string, why: string) =>
  new RangeError(`Cannot use the recipe with --set: the system ${system} sets ${key} itself; ${why}`);

function unknown(key: string, near: string | undefined, prefix: string): RangeError {
  const hint = near === undefined ? "" : `; did you mean ${prefix}${near}?`;
  return new RangeError(`Cannot use the recipe with --set: nothing reads ${key}${hint}`);
}

/** The family of a Hugging Face config, and the errors where another one is needed. */
import * as v from "valibot";
import { isObject } from "../io/config.ts";
import { brief } from "../io/json.ts";
import { anyObject, keysOf, object, parse } from "../io/schema.ts";

type Json = Readonly<Record<string, unknown>>;

/** Families by `model_type`: name, and prefix of the classes. */
const FAMILIES: Readonly<Record<string, readonly [name: string, classes: string]>> = {
  wavegate: ["Wavegate", "EmotionRecognizer"],
  hubert: ["HuBERT", "Hubert"],
  wav2vec2: ["wav2vec 2.0", "Wav2Vec2"],
  wavlm: ["WavLM", "WavLM"],
  "wav2vec2-bert": ["wav2vec 2.0 BERT", "Wav2Vec2Bert"],
  "wav2vec2-conformer": ["wav2vec 2.0 Conformer", "Wav2Vec2Conformer"],
  "data2vec-audio": ["data2vec", "Data2VecAudio"],
  unispeech: ["UniSpeech", "UniSpeech"],
  "unispeech-sat": ["UniSpeech-SAT", "UniSpeechSat"],
  sew: ["SEW", "SEW"],
  "sew-d": ["SEW-D", "SEWD"],
  whisper: ["Whisper", "Whisper"],
  bert: ["BERT", "Bert"],
  "bert-generation": ["BERT for generation", "BertGeneration"],
  "megatron-bert": ["Megatron-BERT", "MegatronBert"],
  roberta: ["RoBERTa", "Roberta"],
  "xlm-roberta": ["XLM-R", "XLMRoberta"],
  "xlm-roberta-xl": ["XLM-R XL", "XLMRobertaXL"],
  "roberta-prelayernorm": ["RoBERTa with pre-norm", "RobertaPreLayerNorm"],
  camembert: ["CamemBERT", "Camembert"],
  distilbert: ["DistilBERT", "DistilBert"],
  electra: ["ELECTRA", "Electra"],
  albert: ["ALBERT", "Albert"],
  mobilebert: ["MobileBERT", "MobileBert"],
  modernbert: ["ModernBERT", "ModernBert"],
  deberta: ["DeBERTa", "Deberta"],
  "deberta-v2": ["DeBERTa v2", "DebertaV2"],
  mpnet: ["MPNet", "MPNet"],
  ernie: ["ERNIE", "Ernie"],
  nezha: ["NEZHA", "Nezha"],
  xlnet: ["XLNet", "XLNet"],
  gpt2: ["GPT-2", "GPT2"],
  t5: ["T5", "T5"],
};

const nameOf = (type: string) => (Object.hasOwn(FAMILIES, type) ? FAMILIES[type][0] : JSON.stringify(type));

/** The first of `architectures`, as "HubertForCTC"; undefined where there is none. */
export function architectureOf(json: Json): string | undefined {
  const [first] = Array.isArray(json.architectures) ? json.architectures : [];
  return typeof first === "string" && first !== "" ? first : undefined;
}

/** `model_type`, else that of the first architecture; undefined where the config has neither. */
export function modelTypeOf(json: Json): string | undefined {
  const { model_type: type } = json;
  return typeof type === "string" && type !== "" ? type : typeOfArchitecture(json);
}

/** The family of the first architecture, also of a TensorFlow or Flax class; for an unknown class its own prefix. */
function typeOfArchitecture(json: Json): string | undefined {
  const base = architectureOf(json)?.replace(
    /^(TF|Flax)(?=[A-Z])|(For[A-Z]\w*|LMHeadModel|Encoder|Model)$/g,
    "",
  );
  if (base === undefined) return undefined;
  return Object.keys(FAMILIES).find((key) => FAMILIES[key][1] === base) ?? base;
}

const name = v.string("a name");
const schema = object({ model_type: v.nullish(name), architectures: v.nullish(v.array(name)) });

/** The keys that tell the family. */
export const FAMILY_KEYS = keysOf(schema);

/** Whether a key has a value; null is none, as in Hugging Face. */
export const has = (json: Json, key: string): boolean => (json[key] ?? undefined) !== undefined;

/** The family of a config, the first of `wanted` where it does not say. Throws unless it is one of `wanted`. */
export function familyOf<T extends string>(json: unknown, path: string, wanted: readonly T[]): T {
  const config = parse(anyObject, json, path);
  parse(schema, config, path);
  checkFamily(config, path, wanted);
  return (modelTypeOf(config) as T | undefined) ?? wanted[0];
}

/**
 * Throws where a config is of a family that is not wanted, also for one without model_type and architectures that looks like
 * RoBERTa's: its keys and shapes are BERT's, but its positions begin at 2.
 */
function checkFamily(json: Json, path: string, wanted: readonly string[]): void {
  const expected = wanted
    .map(nameOf)
    .join(", ")
    .replace(/, ([^,]*)$/, " or $1");
  const type = modelTypeOf(json);
  if (type !== undefined && !wanted.includes(type)) {
    const source =
      typeof json.model_type === "string" && json.model_type !== ""
        ? `model_type is ${JSON.stringify(type)}`
        : `architectures is ${JSON.stringify(json.architectures)}`;
    throw new SyntaxError(
      `Cannot use ${path}: it is ${article(nameOf(type))} model (${source}), ${expected} expected`,
    );
  }
  // Unknown classes are a user's own; those of another known family contradict model_type.
  const built = typeOfArchitecture(json);
  if (built !== undefined && Object.hasOwn(FAMILIES, built) && !wanted.includes(built))
    throw new SyntaxError(
      `Cannot use ${path}: model_type is ${JSON.stringify(type)}, but architectures is ${brief(json.architectures)}, of ${article(nameOf(built))} model; one of them is wrong`,
    );
  const { max_position_embeddings: positions, type_vocab_size: types, pad_token_id: pad } = json;
  const late = typeof positions === "number" && positions % 8 === 2 && (types === 1 || pad === 1);
  if (type === undefined && wanted.includes("bert") && late)
    throw new SyntaxError(
      `Cannot use ${path}: it names no model_type, and ${positions} positions with pad_token_id ${pad} and type_vocab_size ${types} are those of a RoBERTa model, ${expected} expected`,
    );
}

/** Prefixes of keys of families that resemble BERT. */
const PREFIXES: Readonly<Record<string, string>> = {
  roberta: "RoBERTa",
  distilbert: "DistilBERT",
  electra: "ELECTRA",
  albert: "ALBERT",
  mobilebert: "MobileBERT",
  deberta: "DeBERTa",
  mpnet: "MPNet",
  ernie: "ERNIE",
  nezha: "NEZHA",
};

/** Throws where keys of a checkpoint that should be BERT's have the prefix of another family. */
export function checkBertKeys(keys: Iterable<string>, path: string): void {
  for (const key of keys) {
    const prefix = key.split(".", 1)[0];
    if (Object.hasOwn(PREFIXES, prefix))
      throw new SyntaxError(
        `Cannot use ${path}: it holds ${key}, so it is ${article(PREFIXES[prefix])} model, BERT expected`,
      );
  }
}

const article = (name: string) => `${/^(A|E|MPNet|XL)/.test(name) ? "an" : "a"} ${name}`;

/** The config of one encoder: in model folders of this project it is a part of config.json. */
export function partOf(json: Json, part: "hubert" | "bert"): Json {
  const own = json[part];
  return isObject(own) ? own : json;
}

/**
 * A model folder: everything that turns recordings or texts into words and an emotion, read and checked as far as that
 * goes without a GPU.
 *
 * Two forms. A whole system: `config.json` with `hubert`, `bert`, `cmgi` (see emotion.ts), `model.safetensors`,
 * `vocab.json` for CTC, `vocab.txt` or `tokenizer.json` for BERT, `preprocessor_config.json`. Or a plain `HubertForCTC`
 * or `Wav2Vec2ForCTC` as Hugging Face ships it, which gives words alone.
 */
import type { Host } from "../host/host.ts";
import { SAMPLE_RATE } from "../io/audio.ts";
import { readJson } from "../io/config.ts";
import { openSafetensors, type Safetensors } from "../io/safetensors.ts";
import { type BertTokenizer, openBertTokenizer } from "../io/tokenizer.ts";
import { type CtcVocabulary, openCtcVocabulary } from "../io/vocabulary.ts";
import { ConfigReader, checkCharacters, checkSubwords, type HubertConfig, hubertConfig } from "./config.ts";
import { type EmotionConfig, emotionConfig } from "./emotion.ts";

export interface ModelFolder {
  readonly path: string;
  /** Absent for a system that only reads. */
  readonly hubert?: HubertConfig;
  /** Absent for a plain CTC model. */
  readonly emotion?: EmotionConfig;
  /** Present where the model writes words. */
  readonly vocabulary?: CtcVocabulary;
  /** Present where the model reads words. */
  readonly tokenizer?: BertTokenizer;
  /** Whether each utterance is brought to zero mean and unit variance. */
  readonly normalize: boolean;
  readonly weights: Safetensors;
}

export type HearingModel = ModelFolder & { readonly hubert: HubertConfig };

/** Throws where a model only reads. */
export function requireEars(model: ModelFolder): asserts model is HearingModel {
  if (!model.hubert)
    throw new Error(`Cannot recognise with ${model.path}: a system without hubert takes no recordings`);
}

/** Opens a model folder. Throws one line that names the file at fault; the caller closes `weights`. */
export async function openModelFolder(host: Host, path: string): Promise<ModelFolder> {
  if ((await host.kind(path)) !== "directory") throw new Error(`Cannot open model ${path}: it is no folder`);
  const configPath = `${path}/config.json`;
  const config = new ConfigReader(await readJson(host, configPath), configPath);
  const plain = !config.has("hubert") && !config.has("bert");
  if (plain) config.choice("model_type", ["wavegate", "hubert", "wav2vec2"]);
  const emotion = plain ? undefined : emotionConfig(config);
  const hubert = emotion ? emotion.hubert : hubertConfig(config);
  if (emotion?.cmgi && emotion.cmgi.classes !== emotion.labels.length)
    throw config.part("cmgi").complaint("num_classes", `the number of labels, ${emotion.labels.length}`);
  const readsWords = emotion !== undefined && emotion.modalities !== "acoustic";
  const writesWords = emotion ? emotion.asr : true;
  if (hubert && readsWords && !writesWords)
    throw config.complaint("asr", "true: a system that reads words must hear them first");
  const vocabulary = writesWords ? await openCtcVocabulary(host, path) : undefined;
  if (vocabulary && hubert) checkCharacters(plain ? config : config.part("hubert"), vocabulary.size);
  const tokenizer = readsWords ? await openBertTokenizer(host, path) : undefined;
  if (tokenizer) checkSubwords(config.part("bert"), tokenizer.vocabularySize, tokenizer);
  const normalize = await wantsNormalization(host, `${path}/preprocessor_config.json`);
  return {
    path,
    hubert,
    emotion,
    vocabulary,
    tokenizer,
    normalize,
    weights: await openSafetensors(host, path),
  };
}

/** `do_normalize` of the feature extractor; true where there is no such file. */
async function wantsNormalization(host: Host, path: string): Promise<boolean> {
  if ((await host.kind(path)) !== "file") return true;
  const config = new ConfigReader(await readJson(host, path), path);
  if (config.number("sampling_rate", SAMPLE_RATE) !== SAMPLE_RATE)
    throw config.complaint("sampling_rate", `${SAMPLE_RATE}`);
  return config.boolean("do_normalize", true);
}

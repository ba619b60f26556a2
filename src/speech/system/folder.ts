/**
 * Model folders, read and checked as far as possible without a GPU. One holds either
 *
 * - a whole system: `config.json` with `hubert`, `bert`, `cmgi`, or with `lstm` (see emotion.ts), `model.safetensors`, `vocab.json` for CTC,
 *   `vocab.txt` or `tokenizer.json` for BERT (in `bert/` or beside the rest), and `preprocessor_config.json` or
 *   `processor_config.json`; or
 * - a `HubertForCTC` or `Wav2Vec2ForCTC` as published on Hugging Face, which recognises words alone; or
 * - a `HubertForSequenceClassification` or `Wav2Vec2ForSequenceClassification`, which names one of its labels.
 *
 * One with a CTC head may hold a `language_model/` as well, see language_model.ts.
 */
import type { Host } from "../../host/host.ts";
import { readJson } from "../../io/config.ts";
import { mismatch } from "../../io/schema.ts";
import { openCheckpoint } from "../../io/checkpoint.ts";
import {
  findLanguageModel,
  type LanguageModelFiles,
  languageModelOf,
} from "../../io/language_model_files.ts";
import type { Safetensors } from "../../io/safetensors.ts";
import { type BertTokenizer, openBertTokenizer } from "../../io/tokenizer.ts";
import { type CtcVocabulary, openCtcVocabulary } from "../../io/vocabulary.ts";
import type { EncoderSizes } from "../../models/batches.ts";
import { checkSubwords, type HubertConfig, hubertConfig, vocabularyOfHead } from "../../models/config.ts";
import { type EmotionConfig, readEmotionConfig } from "./emotion.ts";
import { architectureOf, familyOf, has, modelTypeOf } from "../../models/family.ts";
import { openFeatureExtractor } from "../../models/feature_extractor.ts";
import type { SequenceClassificationConfig } from "../../models/sequence_classification.ts";

/** An open model folder. */
export interface ModelFolder {
  /** Of the folder. */
  readonly path: string;
  /** Frames of the speech encoder, whichever it is; absent for a system that reads texts only. */
  readonly speech?: EncoderSizes;
  /** The speech encoder where it is HuBERT or wav2vec 2.0. */
  readonly hubert?: HubertConfig;
  /** The whole system; absent for a plain CTC model. */
  readonly emotion?: EmotionConfig;
  /** A published classifier of recordings. */
  readonly classifier?: SequenceClassificationConfig;
  /** Of the CTC head; absent where no words are recognised. */
  readonly vocabulary?: CtcVocabulary;
  /** What decoding with the CTC head weighs in; openRecognizer() reads it. */
  readonly languageModel?: LanguageModelFiles;
  /** Of BERT; absent where no words are read. */
  readonly tokenizer?: BertTokenizer;
  /** Whether each utterance is brought to zero mean and unit variance. */
  readonly normalize: boolean;
  /** The class, as "HubertForCTC", where config.json says it. */
  readonly architecture?: string;
  /** Irregularities of the files, for the user to know. */
  readonly notes: readonly string[];
  /** The open weights; whoever opened the folder closes them. */
  readonly weights: Safetensors;
}

/** A model folder with a speech encoder. */
export type SpeechModel = ModelFolder & { readonly speech: EncoderSizes };

/** Throws where the model has no speech encoder. */
export function requireSpeechEncoder(model: ModelFolder): asserts model is SpeechModel {
  if (!model.speech)
    throw new Error(
      `Cannot recognise with ${model.path}: a system without a speech encoder takes no recordings`,
    );
}

/** Throws where the model reads words that it does not recognise, so that they must be given. */
export function requireOwnWords({ path, emotion }: ModelFolder): void {
  if (emotion && emotion.modalities !== "acoustic" && !emotion.asr)
    throw new Error(
      `Cannot recognise with ${path}: it reads the true words and recognises none; evaluate tests it on a corpus, whose words are known`,
    );
}

/** Opens a model folder. Throws one line that names the file at fault; the caller closes `weights`. */
export async function openModelFolder(host: Host, path: string): Promise<ModelFolder> {
  if ((await host.kind(path)) !== "directory") throw new Error(`Cannot open model ${path}: it is no folder`);
  const configPath = `${path}/config.json`;
  const json = await readJson(host, configPath);
  if (isSystem(json)) {
    const parts = await withOwnLanguageModel(host, await openSystem(host, path, json, configPath));
    const weights = await openCheckpoint(host, path);
    return { ...parts, notes: [...parts.notes, ...droppedNotes(path, weights)], weights };
  }
  if (modelTypeOf(json) === "bert")
    throw new Error(
      `Cannot recognise with ${path}: it is a ${architectureOf(json) ?? "BERT model"}, which takes text, not speech; train --bert ${path} can start from it`,
    );
  familyOf(json, configPath, ["hubert", "wav2vec2"]);
  const weights = await openCheckpoint(host, path).catch((error) => {
    // Missing weights of a model that could not be used anyway are not the error to report.
    if (!/For(CTC|SequenceClassification)$/.test(architectureOf(json) ?? "ForCTC"))
      throw headless(path, json);
    throw error;
  });
  try {
    const open = classifies(json, weights.tensors) ? openClassifier : openCtc;
    const parts = await withOwnLanguageModel(host, await open(host, path, json, configPath, weights.tensors));
    return { ...parts, notes: [...parts.notes, ...droppedNotes(path, weights)], weights };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/** Why no language model can be weighed in; undefined where one can. */
function lacksForLanguageModel({ vocabulary, emotion }: Parts): string | undefined {
  if (!vocabulary || (emotion?.lstm && emotion.lstm.kind !== "both"))
    return "it has no CTC head that writes words";
  return vocabulary.delimiter === undefined ? "its vocabulary has no space between words" : undefined;
}

async function withOwnLanguageModel(host: Host, parts: Parts): Promise<Parts> {
  const found = await languageModelOf(host, parts.path);
  if (!found) return parts;
  const why = lacksForLanguageModel(parts) ?? ("path" in found ? undefined : found.why);
  if (why === undefined && "path" in found) return { ...parts, languageModel: found };
  return { ...parts, notes: [...parts.notes, `${parts.path}/language_model is not used: ${why}`] };
}

/**
 * The model with the language model at `path`, as findLanguageModel() finds it, in place of its own; without any where `path` is
 * undefined. Throws one line where there is none, and where the model cannot take one.
 */
export async function withLanguageModel<M extends ModelFolder>(
  host: Host,
  model: M,
  path: string | undefined,
): Promise<M> {
  if (path === undefined) return { ...model, languageModel: undefined };
  const why = lacksForLanguageModel(model);
  if (why !== undefined) throw new Error(`Cannot weigh a language model in with ${model.path}: ${why}`);
  return { ...model, languageModel: await findLanguageModel(host, path) };
}

/** What a PyTorch checkpoint holds besides tensors. */
const droppedNotes = (path: string, { dropped = [] }: Safetensors): string[] =>
  dropped.length > 0 ? [`${path} holds besides its tensors, unused: ${dropped.slice(0, 5).join("; ")}`] : [];

/** Whether the model has a classifier of recordings. */
function classifies(json: Json, tensors: Safetensors["tensors"]): boolean {
  const architecture = architectureOf(json);
  if (architecture !== undefined) return /ForSequenceClassification$/.test(architecture);
  return HEAD.every((key) => tensors.has(key)) && !tensors.has("lm_head.weight");
}

/** Weights of a classifier of recordings. */
const HEAD: readonly string[] = ["projector.weight", "classifier.weight"];

/** Whether a config.json is that of a whole system. */
export const isSystem = (json: Readonly<Record<string, unknown>>): boolean =>
  has(json, "hubert") || has(json, "bert") || has(json, "lstm");

type Json = Readonly<Record<string, unknown>>;
type Parts = Omit<ModelFolder, "weights">;

async function openSystem(host: Host, path: string, json: Json, source: string): Promise<Parts> {
  const ofLstm = has(json, "lstm") ? await import("./lstm_config.ts") : undefined;
  const emotion = readEmotionConfig(json, source, ofLstm?.lstmSystemConfig);
  if (emotion.cmgi && emotion.cmgi.classes !== emotion.labels.length)
    throw mismatch(
      `${source} (cmgi)`,
      "num_classes",
      emotion.cmgi.classes,
      `the number of labels, ${emotion.labels.length}`,
    );
  const readsWords = emotion.modalities !== "acoustic";
  const vocab = emotion.asr ? await openCtcVocabulary(host, path) : undefined;
  const vocabulary =
    vocab && emotion.hubert
      ? vocabularyOfHead(json.hubert as Json, `${source} (hubert)`, vocab)
      : vocab && emotion.lstm && ofLstm
        ? ofLstm.vocabularyOfLstm(emotion.lstm, `${source} (lstm)`, vocab)
        : vocab;
  const tokenizer = readsWords ? await openBertTokenizer(host, path) : undefined;
  if (tokenizer && emotion.lstm && ofLstm) ofLstm.checkWords(emotion.lstm, `${source} (lstm)`, tokenizer);
  else if (tokenizer)
    checkSubwords(json.bert as Json, `${source} (bert)`, tokenizer.vocabularySize, tokenizer);
  const { normalize, note } = await openFeatureExtractor(host, path);
  return {
    path,
    speech: emotion.speech,
    hubert: emotion.hubert,
    emotion,
    vocabulary,
    tokenizer,
    normalize,
    notes: note ? [note] : [],
  };
}

async function openCtc(
  host: Host,
  path: string,
  json: Json,
  source: string,
  tensors: Safetensors["tensors"],
): Promise<Parts> {
  if (!tensors.has("lm_head.weight")) throw headless(path, json);
  const hubert = hubertConfig(json, source);
  const vocab = await openCtcVocabulary(host, path);
  const vocabulary = vocabularyOfHead(json, source, vocab);
  const { normalize, note } = await openFeatureExtractor(host, path);
  const count = Object.keys(vocab.vocab).length;
  const rest = hubert.vocabSize - vocab.size;
  const padded = `the CTC head has ${hubert.vocabSize} outputs and vocab.json ${count} tokens: the others are no text`;
  return {
    path,
    speech: hubert,
    hubert,
    vocabulary,
    normalize,
    architecture: architectureOf(json),
    notes: [...(note ? [note] : []), ...(rest > 0 ? [padded] : [])],
  };
}

async function openClassifier(
  host: Host,
  path: string,
  json: Json,
  source: string,
  tensors: Safetensors["tensors"],
): Promise<Parts> {
  const hubert = hubertConfig(json, source);
  const { sequenceClassificationConfig } = await import("../../models/sequence_classification.ts");
  const classifier = sequenceClassificationConfig(json, source);
  const { labels, weightedLayerSum, lastIsNormed } = classifier;
  const missing = HEAD.find((key) => !tensors.has(key));
  if (missing !== undefined)
    throw new Error(
      `Cannot recognise with ${path}: it is a ${architectureOf(json)} without ${missing}, so its classifier is not that of transformers; train --hubert ${path} can start from its encoder`,
    );
  const outputs = tensors.get("classifier.weight")?.shape[0];
  if (outputs !== undefined && outputs !== labels.length)
    throw mismatch(source, "id2label", json.id2label, `${outputs} names, as the classifier has outputs`);
  const { normalize, note } = await openFeatureExtractor(host, path);
  // Newer versions of transformers compute otherwise what older ones trained.
  const older = `an older transformers saved ${path}: the last of its weighted layers is taken behind the final norm, as there; version 5 takes it before`;
  const differs =
    weightedLayerSum && hubert.stableLayerNorm && lastIsNormed && !has(json, "tie_last_hidden_states");
  return {
    ...{ path, speech: hubert, hubert, classifier, normalize },
    architecture: architectureOf(json),
    notes: [...(note ? [note] : []), ...(differs ? [older] : [])],
  };
}

/** The error for a model without a head that is of use here; it says what the model is, and what it can be used for. */
function headless(path: string, json: Json): Error {
  const architecture = architectureOf(json);
  return new Error(
    `Cannot recognise with ${path}: it is ${architecture ? `a ${architecture}` : "a plain encoder"} without a CTC head or a classifier, which names neither words nor emotions; train --hubert ${path} can start from its encoder`,
  );
}

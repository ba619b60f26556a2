/** HuBERT, wav2vec 2.0 and BERT as in Hugging Face's transformers, by the same names and keys. */
export {
  BertForMaskedLM,
  BertForSequenceClassification,
  type BertInput,
  BertModel,
  type BertOutput,
} from "./bert.ts";
export { type BertConfig, bertConfig, type HubertConfig, hubertConfig } from "./config.ts";
export {
  type FrameGeometry,
  frameCount,
  frameStride,
  HubertForCTC,
  type HubertInput,
  HubertModel,
  type HubertOutput,
  receptiveField,
  secondsPerFrame,
} from "./hubert.ts";
export { mayIgnore, spellings } from "./keys.ts";
export type { Pretrained, PretrainedOptions } from "./pretrained.ts";
export {
  HubertForSequenceClassification,
  type PooledSpeech,
  type SequenceClassificationConfig,
  sequenceClassificationConfig,
} from "./sequence_classification.ts";

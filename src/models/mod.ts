/** Mirrors of Hugging Face's classes, by their names and keys. */
export { BertForSequenceClassification, type BertInput, BertModel, type BertOutput } from "./bert.ts";
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
export { BertForMaskedLM } from "./masked_lm.ts";
export type { Pretrained, PretrainedOptions } from "./pretrained.ts";

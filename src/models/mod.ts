/** HuBERT, wav2vec 2.0 and BERT as in Hugging Face's transformers, by the same names and keys; listen, attend and spell. */
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
export {
  AttentionDecoder,
  type AttentionDecoderConfig,
  type LasConfig,
  lasConfig,
  ListenAttendSpell,
  type Spelling,
  type SpellOptions,
} from "./las.ts";
export {
  LstmEncoder,
  type LstmEncoderConfig,
  lstmEncoderConfig,
  type LstmEncoderInput,
  type LstmEncoderOutput,
} from "./lstm_encoder.ts";
export { mayIgnore, spellings } from "./keys.ts";
export type { Pretrained, PretrainedOptions } from "./pretrained.ts";

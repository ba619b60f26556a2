/** Recordings, tensors, vocabularies and tokenizers, and what is in them. */
export { type Audio, type AudioOptions, readWav } from "./audio.ts";
export { normalize } from "./samples.ts";
export {
  type AudioStream,
  type AudioStreamOptions,
  openAudio,
  type RawFormat,
  readAudio,
} from "./audio_stream.ts";
export {
  type BeamOptions,
  decodeBeam,
  type DecodedCharacter,
  type DecodedWord,
  decodeGreedy,
  type DecodeOptions,
  type Transcript,
} from "./decode.ts";
export { openCheckpoint } from "./checkpoint.ts";
export { type Conversion, convertCheckpoint, type ConvertOptions } from "./convert_checkpoint.ts";
export type { StoredDType } from "./dtype.ts";
export { LanguageModel, readLanguageModel } from "./language_model.ts";
export {
  findLanguageModel,
  type LanguageModelFiles,
  type LanguageModelWeights,
} from "./language_model_files.ts";
export { NgramModel, parseArpa, readArpa } from "./ngram_model.ts";
export { openSafetensors, readF32, type Safetensors, type TensorEntry } from "./safetensors.ts";
export { type TensorSource, writeSafetensors } from "./safetensors_writer.ts";
export { type Segment, Segmenter, type SegmentOptions } from "./segmenter.ts";
export { normalizeTranscript } from "./text.ts";
export { type BertEncoding, type BertTokenizer, openBertTokenizer } from "./tokenizer.ts";
export { type CtcTokens, CtcVocabulary, openCtcVocabulary } from "./vocabulary.ts";
export { writeWav16 } from "./wav.ts";

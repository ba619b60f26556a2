/** Audio, safetensors, CTC decoding and tokenizers. */
export { type Audio, type AudioOptions, normalize, readWav } from "./audio.ts";
export {
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
export { openSafetensors, readF32, type Safetensors, type TensorEntry } from "./safetensors.ts";
export { type TensorSource, writeSafetensors } from "./safetensors_writer.ts";
export { normalizeTranscript } from "./text.ts";
export { type BertEncoding, type BertTokenizer, openBertTokenizer } from "./tokenizer.ts";
export { type CtcTokens, CtcVocabulary, openCtcVocabulary } from "./vocabulary.ts";
export { writeWav16 } from "./wav.ts";

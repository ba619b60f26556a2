/** What recognises recordings. */
export { type RecognizedFile, toAudacity, toCsv, toRttm, toSrt, toVtt } from "./predict/formats.ts";
export {
  type LongOptions,
  type LongRecognition,
  recognizeLong,
  type RecognizedSegment,
} from "./predict/long.ts";
export { predict, type Prediction, type PredictOptions } from "./predict/predict.ts";
export { findRecordings, type FoundRecording } from "./predict/recordings.ts";
export { SpeechStream, type StreamOptions, type StreamUpdate } from "./predict/stream.ts";
export { type ModelFolder, openModelFolder, type SpeechModel } from "./system/folder.ts";
export type { SpeechEmbedding } from "./system/inference.ts";
export {
  openRecognizer,
  type Recognition,
  type RecognizeOptions,
  Recognizer,
  type RecognizerOptions,
} from "./system/recognizer.ts";

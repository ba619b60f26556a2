/** Recordings of any length, from files and while somebody speaks, and what is written of them. */
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

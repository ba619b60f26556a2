/** Model folders and what recognises with them. */
export { type ModelFolder, openModelFolder, type SpeechModel, withLanguageModel } from "./system/folder.ts";
export type { SpeechEmbedding } from "./system/inference.ts";
export {
  openRecognizer,
  type Recognition,
  type RecognizeOptions,
  Recognizer,
  type RecognizerOptions,
} from "./system/recognizer.ts";

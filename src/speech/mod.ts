/** Speech emotion recognition: recordings to words and emotions, and the paper's systems. */
export { type Fold, type FoldOptions, folds, holdOut } from "./corpora/folds.ts";
export type { Corpus, Utterance } from "./corpora/corpus.ts";
export { type IemocapOptions, readIemocap } from "./corpora/iemocap.ts";
export { type ClassScores, score, type Scores } from "./metrics/metrics.ts";
export { type Edits, type TranscriptPair, totalEdits, wer, wordEdits } from "./metrics/wer.ts";
export type { StageConfig, StageNumber, TrainConfig } from "./recipes/config.ts";
export { PRESETS, type PresetName, type RecipeChoice, trainConfig } from "./recipes/presets.ts";
export { SYSTEMS, type SystemName } from "./recipes/systems.ts";
export { CmGI, type CmgiConfig, type CmgiInput, type CmgiOutput } from "./system/cmgi.ts";
export {
  type EmotionConfig,
  EmotionRecognizer,
  type EncodedSpeech,
  emotionConfig,
} from "./system/emotion.ts";
export { type ModelFolder, openModelFolder, type SpeechModel } from "./system/folder.ts";
export { type Label, LABELS } from "./system/labels.ts";
export {
  openRecognizer,
  type RecognizeOptions,
  type Recognition,
  Recognizer,
  type RecognizerOptions,
} from "./system/recognizer.ts";
export type { TrainData } from "./training/data.ts";
export { type RunOptions, trainRun } from "./training/run.ts";

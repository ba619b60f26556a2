/** Speech emotion recognition: recordings to words and emotions, and the paper's systems. */
export { holdOut, folds, type Fold } from "./corpora/folds.ts";
export type { Corpus, Utterance } from "./corpora/corpus.ts";
export { readIemocap } from "./corpora/iemocap.ts";
export { score, type Scores } from "./metrics/metrics.ts";
export { type Edits, totalEdits, wer, wordEdits } from "./metrics/wer.ts";
export { PRESETS, type PresetName, trainConfig } from "./recipes/presets.ts";
export { SYSTEMS, type SystemName } from "./recipes/systems.ts";
export { CmGI, type CmgiConfig } from "./system/cmgi.ts";
export { type EmotionConfig, EmotionRecognizer, emotionConfig } from "./system/emotion.ts";
export { type ModelFolder, openModelFolder } from "./system/folder.ts";
export { type Label, LABELS } from "./system/labels.ts";
export {
  openRecognizer,
  type RecognizeOptions,
  type Recognition,
  Recognizer,
  type RecognizerOptions,
} from "./system/recognizer.ts";
export { type RunOptions, trainRun } from "./training/run.ts";

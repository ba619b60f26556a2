/** Corpora, training and evaluation. */
export {
  type Baseline,
  type Baselines,
  type BaselinesOptions,
  formatBaselines,
  measureBaselines,
  readBaselines,
} from "./baselines/baselines.ts";
export { type CheckedCorpus, checkCorpus } from "./corpora/check.ts";
export type { Corpus, Problem, ProblemKind, Utterance } from "./corpora/corpus.ts";
export { type Examined, examine, type ExamineOptions } from "./corpora/examine.ts";
export { type Fold, type FoldOptions, folds, holdOut, holdOutSpeaker } from "./corpora/folds.ts";
export { type IemocapOptions, readIemocap } from "./corpora/iemocap.ts";
export { CORPUS_NAMES, type CorpusName, readCorpus } from "./corpora/read.ts";
export { type CorpusStatistics, corpusStatistics, type SessionStatistics } from "./corpora/statistics.ts";
export {
  type EmotionModel,
  type EvaluateOptions,
  evaluateModel,
  openEmotionModel,
  type Words,
  wordsRead,
} from "./evaluate/evaluate.ts";
export { bootstrap, type BootstrapOptions, type Interval, wilson } from "./evaluate/intervals.ts";
export {
  type Answer,
  answersCsv,
  type Estimate,
  formatReport,
  type Report,
  scoreAnswers,
} from "./evaluate/report.ts";
export type { Slice } from "./evaluate/slices.ts";
export type { UtteranceAnswer } from "./metrics/answer.ts";
export { type ClassScores, score, type Scores } from "./metrics/metrics.ts";
export { type Edits, totalEdits, type TranscriptPair, wer, wordEdits } from "./metrics/wer.ts";
export type { StageConfig, StageNumber, TrainConfig } from "./recipes/config.ts";
export { type PresetName, PRESETS, type RecipeChoice, trainConfig } from "./recipes/presets.ts";
export { PAPER_ROWS, type PaperRow, rowsOf } from "./recipes/tables.ts";
export { type SystemName, type SystemRecipe, SYSTEMS } from "./recipes/systems.ts";
export { averageModels } from "./training/average_models.ts";
export type { TrainData } from "./training/data.ts";
export { heldOutSession, trainingOverlap, type TrainingOverlap } from "./training/overlap.ts";
export {
  newRun,
  type PlannedRun,
  prepareRun,
  resumedRun,
  type RunChoice,
} from "./training/prepare_run.ts";
export { type Overlap, type Provenance, readProvenance, type TrainingCorpus } from "./training/provenance.ts";
export { type RunOptions, trainRun } from "./training/run.ts";

/** What any model needs to be trained: optimisers, schedules, a loop that resumes, checkpoints. */
export { loadOptimizer, loadWeights, saveOptimizer, saveWeights } from "./checkpoint.ts";
export { trainStage } from "./loop.ts";
export {
  Adam,
  type AdamOptions,
  AdamW,
  type ByKey,
  type NamedMoment,
  Optimizer,
  type OptimizerOptions,
  SGD,
  type SgdOptions,
  type Slot,
  type StepOptions,
} from "./optimizer.ts";
export { Ranks } from "./ranks.ts";
export { type Metrics, RunExistsError, RunFolder } from "./run_folder.ts";
export { type ScheduleKind, type ScheduleOptions, scheduleFactor } from "./schedule.ts";
export { seedOf, trainingStream, uniformStream } from "./seeds.ts";
export type { CheckpointRecipe, StageOptions, StageRecipe, StageResult, StepReport } from "./stage.ts";
export {
  type Best,
  type Identity,
  type Latest,
  type LoopState,
  OtherRunError,
  openLatest,
  type Stages,
} from "./state.ts";
export { type DevResult, type Losses, refuseTooFew, type Task, TooFewError } from "./task.ts";
export type { ExchangeReport, GradientExchange } from "./exchange.ts";
export { type UpdateOptions, type UpdateResult, type UpdateShare, update } from "./update.ts";

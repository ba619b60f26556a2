/** What a stage of training is given, and what it tells. */
import type { Device } from "../gpu/device.ts";
import type { RunFolder } from "./run_folder.ts";
import { checkChoice, checkNumber, checkOptions, keysOf } from "../io/checks.ts";
import { checkSchedule, type ScheduleOptions } from "./schedule.ts";
import type { Best, Identity, Latest } from "./state.ts";
import type { DevResult, Task } from "./task.ts";

/** How a stage is trained, by AdamW. */
export interface StageRecipe {
  /** Passes over the data, at least one. */
  readonly epochs: number;
  /** Micro-batches of an update, whose gradients are averaged; 1 by default. */
  readonly accumulate: number;
  /** Largest learning rate of each group of parameters, by the group's name. */
  readonly learningRate: Readonly<Record<string, number>>;
  /** Decoupled from the gradient, as in torch.optim.AdamW; 0 by default. */
  readonly weightDecay: number;
  /** Decay of the mean of the gradients; 0.9 by default. */
  readonly beta1: number;
  /** Decay of the mean of their squares; 0.999 by default. */
  readonly beta2: number;
  /** Added to the root of that mean; 1e-8 by default. */
  readonly eps: number;
  /** Largest global norm of the gradients; infinite by default. */
  readonly maxGradNorm: number;
  /** What the learning rates are multiplied by; constant by default. */
  readonly schedule: Omit<ScheduleOptions, "total">;
  /**
   * "f16": products read f16 copies of the f32 weights, by subgroup matrices of f16 activations and gradients too, and the loss
   * is scaled dynamically. "f32" by default.
   */
  readonly precision: "f32" | "f16";
  /**
   * What Mode.activations is in each forward: with "f16" layers that read it, as those of the models here do, hand on and keep
   * f16, and pass f16 gradients. Needs `precision: "f16"`, whose loss scale keeps these from underflowing; parameters, their
   * gradients and their moments stay f32. "f32" by default.
   */
  readonly activations: "f32" | "f16";
  /**
   * What Mode.checkpoint is in each forward: layers that read it keep only their inputs, as those of the models here do.
   * False by default.
   */
  readonly gradientCheckpointing: boolean;
  /**
   * The stage ends after so many epochs without a score of `select` as good as the best; the schedule is planned for all of
   * `epochs`. Infinite by default.
   */
  readonly earlyStoppingPatience: number;
}

/** When checkpoints are saved, besides after every epoch. */
export interface CheckpointRecipe {
  /** How many are kept besides the best, at least one. */
  readonly keep: number;
  /** Updates between two; 0: one an epoch. */
  readonly every: number;
  /** Also one whenever so many minutes have passed since the last; 10 where left out. */
  readonly minutes?: number;
}

/** What is told after every update. */
export interface StepReport {
  /** StageOptions.stage. */
  readonly stage: number;
  /** From 0. */
  readonly epoch: number;
  /** Of the stage. */
  readonly epochs: number;
  /** Number of the update in the stage, from 1. */
  readonly step: number;
  /** Updates of the stage. */
  readonly total: number;
  /** Mean over the micro-batches, not scaled. */
  readonly loss: number;
  /** Means of Losses.parts. */
  readonly parts: Readonly<Record<string, number>>;
  /** Before clipping. */
  readonly gradientNorm: number;
  /** Sum of Task.amount() over the micro-batches. */
  readonly amount: number;
  /** Wall-clock time of this update. */
  readonly seconds: number;
  /** Of GPU buffers. */
  readonly bytes: number;
}

/** What trainStage() trains, where it writes, and who is told. */
export interface StageOptions<B> {
  /** The device of the task's parameters. */
  readonly device: Device;
  /** Where checkpoints and metrics are written. */
  readonly run: RunFolder;
  /** The model, its data and its loss. */
  readonly task: Task<B>;
  /** The run that its checkpoints are of: openLatest() refuses those of another. */
  readonly of: Identity;
  /** Its place in the run, from 0 to 9: names of checkpoints and random numbers go by it. 0 by default. */
  readonly stage?: number;
  /** Epochs and learning rates; what is left out is as StageRecipe says. Other keys are refused. */
  readonly config: Partial<StageRecipe> & Pick<StageRecipe, "epochs" | "learningRate">;
  /** Of dropout and all other random numbers; 0 by default. */
  readonly seed?: number;
  /** When checkpoints are saved; by default after every epoch and every 10 minutes, and two are kept. */
  readonly checkpoints?: CheckpointRecipe;
  /**
   * The figure of Task.evaluate() that chooses the epoch, or a score of its figures, the higher the better. Without it,
   * and where evaluate() gives no figures, the last is kept. A figure that is not there is an error.
   */
  readonly select?: { readonly figure: string; readonly mode: "max" | "min" } | ((dev: DevResult) => number);
  /** The checkpoint to go on from, if it is of this stage. Its weights are loaded already. */
  readonly from?: Latest;
  /** Bests of the stages before; none by default. */
  readonly bests?: Readonly<Record<string, Best>>;
  /** The group of config.learningRate that a parameter belongs to, by its key. Needed where there are several groups. */
  readonly group?: (key: string) => string;
  /** Aborting it saves a checkpoint after the update under way and ends the stage. */
  readonly signal?: AbortSignal;
  /** Told after every update. */
  readonly onStep?: (report: StepReport) => void;
  /** Told after every epoch (from 0) that has figures of a dev set; `best`: none was better so far. */
  readonly onDev?: (epoch: number, dev: DevResult, best: boolean) => void;
  /** A line about what is not as it should be, while training goes on. */
  readonly onNote?: (line: string) => void;
}

/** StageOptions with all that has a default. */
export type ResolvedOptions<B> = StageOptions<B> &
  Required<Pick<StageOptions<B>, "stage" | "seed" | "checkpoints" | "bests" | "group" | "signal">> & {
    readonly config: StageRecipe;
  };

/** How a stage ended. */
export interface StageResult {
  /** False: interrupted, after a checkpoint. */
  readonly finished: boolean;
  /** The best epoch of each stage so far, by the stage's number; its model is RUN/best/FOLDER. */
  readonly bests: Readonly<Record<string, Best>>;
}

const RECIPE: Omit<StageRecipe, "epochs" | "learningRate"> = {
  ...{ accumulate: 1, weightDecay: 0, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
  ...{ maxGradNorm: Number.POSITIVE_INFINITY, precision: "f32" },
  ...{ activations: "f32", schedule: { kind: "constant", warmup: 0 }, gradientCheckpointing: false },
  earlyStoppingPatience: Number.POSITIVE_INFINITY,
};
const RECIPE_KEYS = ["epochs", "learningRate", ...Object.keys(RECIPE)];
const OPTION_KEYS = keysOf<StageOptions<unknown>>({
  ...{
    device: true,
    run: true,
    task: true,
    of: true,
    stage: true,
    config: true,
    seed: true,
    checkpoints: true,
  },
  ...{
    select: true,
    from: true,
    bests: true,
    group: true,
    signal: true,
    onStep: true,
    onDev: true,
    onNote: true,
  },
});
const CHECKPOINTS: CheckpointRecipe = { keep: 2, every: 0 };

const wholeFrom =
  (least: number, most = Number.MAX_SAFE_INTEGER) =>
  (x: number) =>
    Number.isSafeInteger(x) && x >= least && x <= most;

/** An object's own values over the defaults; one that is undefined counts as left out. */
const over = <T extends object>(defaults: T, given: object): T => ({
  ...defaults,
  ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
});

/**
 * Fills in what was left out. Throws for what would train nothing, or something else than is meant: options that there
 * are not, numbers out of their range, several groups of learning rates that `group` does not tell apart.
 */
export function resolveStage<B>(options: StageOptions<B>): ResolvedOptions<B> {
  checkOptions("train", options, OPTION_KEYS);
  const { stage = 0, seed = 0, bests = {}, select, task } = options;
  checkNumber("train", "stage", stage, "a whole number from 0 to 9", wholeFrom(0, 9));
  const action = `train stage ${stage}`;
  checkNumber(action, "seed", seed, "a whole number from 0", wholeFrom(0));
  checkOptions(action, options.config, RECIPE_KEYS, "config");
  const config = over(RECIPE as StageRecipe, options.config);
  checkRecipe(action, config);
  checkOptions(action, options.checkpoints ?? {}, ["keep", "every", "minutes"], "checkpoints");
  const checkpoints = over(CHECKPOINTS, options.checkpoints ?? {});
  const { keep, every, minutes } = checkpoints;
  checkNumber(action, "checkpoints.keep", keep, "a whole number from 1", wholeFrom(1));
  checkNumber(action, "checkpoints.every", every, "a whole number from 0", wholeFrom(0));
  if (minutes !== undefined) checkNumber(action, "checkpoints.minutes", minutes, "more than 0", (x) => x > 0);
  if (select && !task.evaluate)
    throw new TypeError(`Cannot ${action}: there is an option select, but the task has no evaluate()`);
  if (config.earlyStoppingPatience !== Number.POSITIVE_INFINITY && !select)
    throw new TypeError(
      `Cannot ${action}: config.earlyStoppingPatience is ${config.earlyStoppingPatience} and there is no option select, whose score it waits for`,
    );
  if (select && typeof select !== "function") {
    checkOptions(action, select, ["figure", "mode"], "select");
    checkChoice(action, "select.mode", select.mode, ["max", "min"]);
  }
  const groups = Object.keys(config.learningRate);
  if (groups.length !== 1 && !options.group)
    throw new TypeError(
      `Cannot train stage ${stage}: config.learningRate has ${groups.length} groups (${groups.join(", ")}) and there is no option group, which names that of a key`,
    );
  const { group = () => groups[0], signal = new AbortController().signal } = options;
  return { ...options, stage, config, seed, checkpoints, bests, group, signal };
}

/** What AdamW does not check itself, of the numbers that a stage is trained with. */
function checkRecipe(action: string, config: StageRecipe): void {
  const { epochs, accumulate, learningRate, schedule, precision, activations, gradientCheckpointing } =
    config;
  checkNumber(action, "config.epochs", epochs, "a whole number from 1", wholeFrom(1));
  checkNumber(action, "config.accumulate", accumulate, "a whole number from 1", wholeFrom(1));
  if (typeof learningRate !== "object" || learningRate === null)
    throw new TypeError(
      `Cannot ${action}: config.learningRate is ${learningRate} but should be an object, as { all: 1e-3 }`,
    );
  checkSchedule(action, schedule);
  checkChoice(action, "config.precision", precision, ["f32", "f16"]);
  checkChoice(action, "config.activations", activations, ["f32", "f16"]);
  if (activations === "f16" && precision !== "f16")
    throw new TypeError(
      `Cannot ${action}: config.activations is f16 and config.precision ${precision}, but gradients of f16 activations need the loss scaling of precision f16`,
    );
  const { earlyStoppingPatience: patience } = config;
  const unlimited = (x: number) => x === Number.POSITIVE_INFINITY || wholeFrom(1)(x);
  checkNumber(action, "config.earlyStoppingPatience", patience, "a whole number from 1", unlimited);
  if (typeof gradientCheckpointing !== "boolean")
    throw new TypeError(`Cannot ${action}: config.gradientCheckpointing should be true or false`);
}

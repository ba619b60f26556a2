/** What a stage of training is given, and what it tells. */
import type { Device } from "../gpu/device.ts";
import type { RunFolder } from "./run_folder.ts";
import type { ScheduleOptions } from "./schedule.ts";
import type { Best, Identity, Latest } from "./state.ts";
import type { DevResult, Task } from "./task.ts";

/** How a stage is trained, by AdamW. */
export interface StageRecipe {
  /** Passes over the data. */
  readonly epochs: number;
  /** Micro-batches of an update, whose gradients are averaged; 1 by default. */
  readonly accumulate: number;
  /** Largest learning rate of each group of parameters, by the group's name. */
  readonly learningRate: Readonly<Record<string, number>>;
  /** Decoupled from the gradient, as in torch.optim.AdamW; 0 by default. */
  readonly weightDecay: number;
  /** Largest global norm of the gradients; infinite by default. */
  readonly maxGradNorm: number;
  /** What the learning rates are multiplied by; constant by default. */
  readonly schedule: Omit<ScheduleOptions, "total">;
  /** "f16": products read f16 copies of the f32 weights, and the loss is scaled dynamically. "f32" by default. */
  readonly precision: "f32" | "f16";
  /** What Mode.checkpoint is in each forward: transformer layers keep only their inputs. False by default. */
  readonly gradientCheckpointing: boolean;
}

/** When checkpoints are saved, besides after every epoch. */
export interface CheckpointRecipe {
  /** How many are kept besides the best. */
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
  /** Its place in the run, from 0: names of checkpoints and random numbers go by it. 0 by default. */
  readonly stage?: number;
  /** Epochs and learning rates; what is left out is as StageRecipe says. */
  readonly config: Partial<StageRecipe> & Pick<StageRecipe, "epochs" | "learningRate">;
  /** Of dropout and all other random numbers; 0 by default. */
  readonly seed?: number;
  /** When checkpoints are saved; by default after every epoch and every 10 minutes, and two are kept. */
  readonly checkpoints?: CheckpointRecipe;
  /** The figure of the dev set that chooses the epoch; without it the last is kept. */
  readonly select?: { readonly figure: string; readonly mode: "max" | "min" };
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
  ...{ accumulate: 1, weightDecay: 0, maxGradNorm: Number.POSITIVE_INFINITY, precision: "f32" },
  ...{ schedule: { kind: "constant", warmup: 0 }, gradientCheckpointing: false },
};

/** Fills in what was left out. Throws where several groups have learning rates and `group` does not tell them apart. */
export function resolveStage<B>(options: StageOptions<B>): ResolvedOptions<B> {
  const { stage = 0, seed = 0, checkpoints = { keep: 2, every: 0 }, bests = {} } = options;
  const config = { ...RECIPE, ...options.config };
  const groups = Object.keys(config.learningRate);
  if (groups.length !== 1 && !options.group)
    throw new TypeError(
      `Cannot train stage ${stage}: config.learningRate has ${groups.length} groups (${groups.join(", ")}) and there is no option group, which names that of a key`,
    );
  const { group = () => groups[0], signal = new AbortController().signal } = options;
  return { ...options, stage, config, seed, checkpoints, bests, group, signal };
}

/** A training run, stage by stage. */
import type { Device } from "../../gpu/device.ts";
import { build } from "./build.ts";
import { readChecked } from "../../train/checksum.ts";
import { recipeOf, type StageNumber, stageOf, type TrainConfig } from "../recipes/config.ts";
import { identify, split, type TrainData } from "./data.ts";
import { trainStage } from "../../train/loop.ts";
import type { StageOptions } from "../../train/stage.ts";
import type { DevResult } from "../../train/task.ts";
import type { StageModels } from "./stage_inputs.ts";
import type { RunFolder } from "../../train/run_folder.ts";
import { writeWhole } from "../../io/write_whole.ts";
import { LAUNCH_FILE, launchText, useRecorded } from "../../tune/pinned.ts";
import { addRecord, recordOf, runProvenance } from "./run_provenance.ts";
import { type Best, openLatest, OtherRunError } from "../../train/state.ts";

/** Options of trainRun(). */
export interface RunOptions {
  /** Where the models run. */
  readonly device: Device;
  /** The folder of the run. */
  readonly run: RunFolder;
  /** From prepareRun(). */
  readonly config: TrainConfig;
  /** From prepareRun(); absent where only stage 0 is trained. */
  readonly data?: TrainData;
  /** Whether to continue from the newest checkpoint. */
  readonly resume: boolean;
  /** Where aborted, the run saves a checkpoint and stops. */
  readonly signal: AbortSignal;
  /** Told of every recording that can no longer be read, whose utterance is left out. Without it such a recording is an error. */
  readonly onProblem?: (id: string, message: string) => void;
  /** Told what is irregular and does not stop the run. */
  readonly onNote?: (line: string) => void;
  /** Told of each stage as it begins, with the number of its parameters and of those that are trained. */
  readonly onStage?: (stage: StageNumber, parameters: number, trained: number) => void;
  /** Told of each update. */
  readonly onStep?: StageOptions<unknown>["onStep"];
  /** Builds model and task of a stage. Default build(). */
  readonly buildStage?: typeof build;
  /** Told of the dev scores of each epoch, and whether they are the best of the stage. */
  readonly onDev?: (
    stage: StageNumber,
    ...rest: Parameters<NonNullable<StageOptions<unknown>["onDev"]>>
  ) => void;
}

/**
 * Trains the stages of `config` one after the other, or resumes from the newest checkpoint. The best model of the last stage is
 * published in RUN/model. RUN/launch.json records the device's launch choices; a run that is resumed takes these and no others.
 * Returns false where it was interrupted.
 */
export async function trainRun(options: RunOptions): Promise<boolean> {
  try {
    return await trainStages(options);
  } catch (error) {
    await options.run.refuseGone(error); // the cause of any error, where the folder is gone
    throw error instanceof OtherRunError
      ? new OtherRunError(options.run.path, error.part, PARTS[error.part])
      : error;
  }
}

async function trainStages(options: RunOptions): Promise<boolean> {
  const { device, run, config, data, resume, signal, onNote, buildStage = build } = options;
  checkPrecision(device, config);
  if (resume) await useRecorded(run.host, device, run.path, onNote);
  const launches = `${run.path}/${LAUNCH_FILE}`;
  // A run that was killed before it wrote them, or that is of an earlier version, has none.
  if (!resume || (await run.host.kind(launches)) === undefined)
    await writeWhole(run.host, launches, launchText(device));
  const { train, dev } = split(config, data);
  const of = await identify(config, data?.examined);
  const latest = resume
    ? await openLatest(run, of, new Map(config.stages.map((stage) => [stage, stageOf(config, stage)])))
    : undefined;
  const state = latest?.state;
  if (resume && !latest) onNote?.(`${run.path} has no checkpoint yet: it starts from the beginning`);
  for (const line of [...(latest?.lost ?? []), ...(await run.rewind(state?.lengths))]) onNote?.(line);
  if (latest) await run.prune(config.checkpoints.keep);
  const provenance = await runProvenance(run.host, config, data, { latest, signal });
  if (!provenance) return false;
  let bests: Readonly<Record<string, Best>> = state?.bests ?? {};
  for (const stage of config.stages) {
    if (state && state.stage > stage) continue;
    if (signal.aborted) return false; // the stage before has saved its checkpoint
    const from = latest && state?.stage === stage ? latest : undefined;
    const models: StageModels = Object.fromEntries(
      Object.entries(bests).map(([n, { folder }]) => [n, `${run.path}/best/${folder}`]),
    );
    if (!from)
      for (const folder of Object.values({ ...config.from.stages, ...models }))
        await readChecked(run.host, `${folder}/model.safetensors`);
    const { weights, task } = await buildStage(device, config, stage, models, from?.folder, {
      ...{ train, dev, onProblem: options.onProblem, onNote },
      record: recordOf(provenance, stage),
    });
    try {
      const counts = weights.parameters.map((p) => ({ size: p.value.size, trainable: p.trainable }));
      const sum = (list: readonly { size: number }[]) => list.reduce((n, { size }) => n + size, 0);
      options.onStage?.(stage, sum(counts), sum(counts.filter((c) => c.trainable)));
      const result = await trainStage({
        ...{ device, run, task, of, stage, from, bests, signal },
        config: recipeOf(stageOf(config, stage)),
        seed: config.seed,
        checkpoints: config.checkpoints,
        group: (key) => (/^(hubert|wav2vec2|bert)\./.test(key) ? "encoder" : "heads"),
        select: SELECT[stageOf(config, stage).select],
        onStep: options.onStep,
        onNote,
        onDev: (...rest) => options.onDev?.(stage, ...rest),
      });
      bests = result.bests;
      if (!result.finished) return false;
    } finally {
      weights.dispose();
    }
  }
  const stage = config.stages[config.stages.length - 1];
  const last = bests[stage];
  if (last) {
    await addRecord(run.host, `${run.path}/best/${last.folder}`, recordOf(provenance, stage));
    await run.publish(last.folder);
  }
  await run.flush();
  return true;
}

/** What the parts of a run's identity are to its owner. */
const PARTS = { recipe: "its config.json", data: "the corpus" };

/** A dev set without emotions has no UA, one without words no WER: then the loss chooses. */
const SELECT = {
  ua: (dev: DevResult) => dev.ua ?? -dev.loss,
  wer: (dev: DevResult) => -(dev.wer ?? dev.loss),
  loss: { figure: "loss", mode: "min" },
  last: undefined,
} as const;

/** Throws where any stage of a run needs a feature that the device lacks. */
function checkPrecision({ info }: Device, config: TrainConfig): void {
  const stage = config.stages.find((each) => stageOf(config, each).precision === "f16");
  if (stage !== undefined && !info.f16)
    throw new Error(`Cannot train with f16: ${info.name} has no shader-f16; use stage${stage}.precision f32`);
}

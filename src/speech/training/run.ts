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
import { Ranks } from "../../train/ranks.ts";
import { type Best, type Identity, type Latest, openLatest, OtherRunError } from "../../train/state.ts";

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
  /** The processes that train together, by default this one alone; those but rank 0 with a run of RunFolder.follow(). */
  readonly ranks?: Ranks;
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
  const { ranks = new Ranks() } = options;
  checkPrecision(device, config);
  const of = await agreeOnRun(ranks, config, data);
  await ranks.agree("the adapter", device.info.name);
  if (resume) await useRecorded(run.host, device, run.path, onNote);
  const launches = `${run.path}/${LAUNCH_FILE}`;
  // A run that was killed before it wrote them, or that is of an earlier version, has none.
  if (run.writes && (!resume || (await run.host.kind(launches)) === undefined))
    await writeWhole(run.host, launches, launchText(device));
  await ranks.gather("launch.json", "written");
  if (!run.writes && !resume) await useRecorded(run.host, device, run.path);
  const { train, dev } = split(config, data);
  const latest = resume
    ? await openLatest(run, of, new Map(config.stages.map((stage) => [stage, stageOf(config, stage)])))
    : undefined;
  const state = latest?.state;
  // Nothing is cleared away before all have read.
  await ranks.agree("the newest checkpoint", latest?.folder ?? "none");
  if (latest) noteRanks(latest, config, ranks, onNote);
  if (resume && !latest) onNote?.(`${run.path} has no checkpoint yet: it starts from the beginning`);
  for (const line of [...(latest?.lost ?? []), ...(await run.rewind(state?.lengths))]) onNote?.(line);
  if (latest) await run.prune(config.checkpoints.keep);
  // Reads every recording: once is enough, where one process saves.
  const provenance = ranks.first
    ? await runProvenance(run.host, config, data, { latest, signal })
    : undefined;
  const [known] = await ranks.gather("what the model is trained on", provenance !== undefined);
  if (!known) return false;
  let bests: Readonly<Record<string, Best>> = state?.bests ?? {};
  for (const stage of config.stages) {
    if (state && state.stage > stage) continue;
    // The stage before has saved its checkpoint.
    if (await ranks.any("whether to stop", signal.aborted)) return false;
    const from = latest && state?.stage === stage ? latest : undefined;
    const models: StageModels = Object.fromEntries(
      Object.entries(bests).map(([n, { folder }]) => [n, `${run.path}/best/${folder}`]),
    );
    if (!from)
      for (const folder of Object.values({ ...config.from.stages, ...models }))
        await readChecked(run.host, `${folder}/model.safetensors`);
    const built = await buildStage(device, config, stage, models, from?.folder, {
      ...{ train, dev, onProblem: options.onProblem, onNote },
      // Ranks stop together, once they train.
      signal: ranks.size === 1 ? signal : undefined,
      record: provenance && recordOf(provenance, stage),
    }).catch((error) => {
      if (signal.aborted && error === signal.reason) return undefined;
      throw error;
    });
    if (!built) return false;
    const { weights, task } = built;
    try {
      await ranks.agree("the units' centroids", built.units ?? "none");
      const counts = weights.parameters.map((p) => ({ size: p.value.size, trainable: p.trainable }));
      const sum = (list: readonly { size: number }[]) => list.reduce((n, { size }) => n + size, 0);
      options.onStage?.(stage, sum(counts), sum(counts.filter((c) => c.trainable)));
      const result = await trainStage({
        ...{ device, run, task, of, stage, from, bests, signal, ranks },
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
      built.dispose?.();
      weights.dispose();
    }
  }
  const stage = config.stages[config.stages.length - 1];
  const last = bests[stage];
  if (last && provenance) {
    await addRecord(run.host, `${run.path}/best/${last.folder}`, recordOf(provenance, stage));
    await run.publish(last.folder);
  }
  await run.flush();
  return true;
}

/** Throws on all ranks where they were not started with one recipe and one corpus, or are too many for it. */
export async function agreeOnRun(
  ranks: Ranks,
  config: TrainConfig,
  data: TrainData | undefined,
): Promise<Identity> {
  const of = await identify(config, data?.examined);
  await ranks.agree("the recipe's hash", of.recipe);
  await ranks.agree("the corpus' hash", of.data);
  refuseIdleRanks(config, ranks);
  return of;
}

/** Throws where ranks would have nothing to do in any stage. */
function refuseIdleRanks(config: TrainConfig, { size }: Ranks): void {
  const most = Math.max(...config.stages.map((stage) => stageOf(config, stage).accumulate));
  if (most >= size) return;
  const key = `stage${config.stages[config.stages.length - 1]}.accumulate`;
  throw new RangeError(
    `Cannot train on ${size} ranks: they share the micro-batches of an update, of which no stage has more than ${most}; start ${most}, or a new run with --set ${key}=${size} and smaller batches`,
  );
}

/** Says where a run goes on with another number of processes. */
function noteRanks(
  { state }: Latest,
  config: TrainConfig,
  { size }: Ranks,
  onNote?: (line: string) => void,
): void {
  const { ranks: before = 1, stage } = state;
  if (before === size) return;
  const one = config.stages.find((each) => each === stage) ?? config.stages[0];
  const { accumulate } = stageOf(config, one);
  onNote?.(
    `ranks: ${before} at the checkpoint, ${size} now; an update is still of ${accumulate} micro-batches, at most ${Math.ceil(accumulate / size)} a rank, and gives the same weights`,
  );
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

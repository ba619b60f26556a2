/**
 * Trains one stage: epochs of updates, dev figures after each, checkpoints from which a run goes on as if it had never
 * stopped. Everything random is a function of (seed, stage, step), so the state is weights, moments and a few counts.
 */
import type { Device } from "../gpu/device.ts";
import { AdamW } from "./adamw.ts";
import { loadOptimizer, saveOptimizer } from "./checkpoint.ts";
import { checksums } from "./checksum.ts";
import type { StageConfig, StageNumber, TrainConfig } from "./config.ts";
import { firstBadTensor } from "./diagnose.ts";
import { refuseTooFew, TooFewError } from "./missing.ts";
import type { RunFolder } from "./run_folder.ts";
import { newBob, scheduleFactor } from "./schedule.ts";
import { trainingStream } from "./seeds.ts";
import type { Best, Identity, Latest, LoopState } from "./state.ts";
import type { DevResult, Task } from "./task.ts";
import { update } from "./update.ts";

/** What is told after every update. */
export interface StepReport {
  readonly stage: StageNumber;
  readonly epoch: number;
  readonly epochs: number;
  readonly step: number;
  readonly total: number;
  readonly loss: number;
  readonly parts: Readonly<Record<string, number>>;
  readonly gradientNorm: number;
  /** Seconds of speech, or sentences, in this update. */
  readonly amount: number;
  readonly seconds: number;
  /** Of GPU buffers. */
  readonly bytes: number;
}

export interface StageOptions<B> {
  readonly device: Device;
  readonly run: RunFolder;
  readonly task: Task<B>;
  /** The run that its checkpoints are of. */
  readonly of: Identity;
  readonly stage: StageNumber;
  readonly config: StageConfig;
  readonly seed: number;
  readonly checkpoints: TrainConfig["checkpoints"];
  /** The checkpoint to go on from, if it is of this stage. Its weights are loaded already. */
  readonly from?: Latest;
  /** Bests of the stages before. */
  readonly bests: Readonly<Record<string, Best>>;
  /** Which group of rates a parameter belongs to, by its key. */
  readonly isHead: (key: string) => boolean;
  readonly signal: AbortSignal;
  readonly onStep?: (report: StepReport) => void;
  readonly onDev?: (epoch: number, dev: DevResult, best: boolean) => void;
  /** A line about what is not as it should be, while training goes on. */
  readonly onNote?: (line: string) => void;
}

export interface StageResult {
  /** False: interrupted, after a checkpoint. */
  readonly finished: boolean;
  readonly bests: Readonly<Record<string, Best>>;
}

/** f16's gradients underflow below 6e-8: losses are scaled up by this at first, down at each overflow. */
const FIRST_SCALE = 2 ** 16;
const GROW_AFTER = 2000;
/** Milliseconds between two writes of the metrics, for those who watch. */
const FLUSH_EVERY = 2000;
/** Minutes between two checkpoints within a long epoch, where the recipe says nothing. */
const MINUTES = 10;

export async function trainStage<B>(options: StageOptions<B>): Promise<StageResult> {
  const { device, run, task, stage, config, seed, checkpoints, from, isHead, signal } = options;
  const { epochs, accumulate, schedule, rate, decay, clip } = config;
  const scaled = config.precision === "f16";
  const optimizer = new AdamW(device, task.parameters, {
    clip,
    rate: (key) => (isHead(key) ? rate.heads : rate.encoder),
    decay: () => decay,
  });
  let state: LoopState = from?.state ?? {
    of: options.of,
    stage,
    epoch: 0,
    batch: 0,
    step: 0,
    newBob: { factor: 1 },
    lossScale: scaled ? FIRST_SCALE : 1,
    steady: 0,
    updates: {},
    bests: options.bests,
    lengths: { metrics: 0, events: 0 },
  };
  let savedAt = performance.now();
  const due = () =>
    (checkpoints.every > 0 && state.step % checkpoints.every === 0) ||
    performance.now() - savedAt >= 60_000 * (checkpoints.minutes ?? MINUTES);
  // The state before the first of the updates just past of which nothing could be read: the weights are still its own,
  // and where the corpus is lost the run goes on from there.
  let whole: LoopState | undefined;
  const save = async () => {
    const saved = whole ?? state;
    await run.checkpoint(
      "checkpoints",
      `stage${stage}-${String(saved.step).padStart(7, "0")}`,
      async (folder) => {
        await task.save(folder);
        await saveOptimizer(run.host, `${folder}/optimizer.safetensors`, optimizer);
        const [sha256, lengths] = [await checksums(run.host, folder), await run.flush()];
        return { ...saved, updates: optimizer.steps, sha256, lengths };
      },
    );
    await run.prune(checkpoints.keep);
    savedAt = performance.now();
  };
  try {
    if (from) {
      await loadOptimizer(run.host, `${from.folder}/optimizer.safetensors`, optimizer, from.state.updates);
    }
    const plans = Array.from({ length: epochs }, (_, epoch) => task.plan(epoch));
    const total = plans.reduce((n, plan) => n + Math.ceil(plan.length / accumulate), 0);
    if (from) refuseStep(from, plans, accumulate);
    let flushed = performance.now();
    while (state.epoch < epochs) {
      const plan = plans[state.epoch];
      const items = plan.flat().length;
      let missing = 0;
      let next = state.batch < plan.length ? loadGroup(task, plan, state, accumulate) : undefined;
      while (next) {
        const started = performance.now();
        const { batches, lost } = await next;
        const after = state.batch + accumulate;
        next =
          after < plan.length ? loadGroup(task, plan, { ...state, batch: after }, accumulate) : undefined;
        next?.catch(() => {}); // awaited in the next turn, where it may throw
        const step = state.step + 1;
        missing += lost;
        whole = batches.length > 0 ? undefined : (whole ?? state);
        try {
          refuseTooFew(missing, items, `epoch ${state.epoch + 1}`);
        } catch (error) {
          await save();
          throw error;
        }
        if (batches.length === 0)
          options.onNote?.(
            `stage ${stage}  step ${step}: none of its ${lost} utterances can be read, no update`,
          );
        const factor =
          scheduleFactor(step, { ...schedule, total }) *
          (schedule.kind === "newbob" ? state.newBob.factor : 1);
        state = { ...state, step, batch: after };
        if (batches.length > 0) {
          const { lossScale } = state;
          const mode = (micro: number) => ({
            training: trainingStream(seed, "step", stage, step, micro),
            recompute: config.recompute,
          });
          const result = await update(device, task, optimizer, batches, { factor, lossScale, mode });
          // A smaller scale cannot mend the loss itself, which was not scaled.
          const hopeless = !scaled || lossScale < 2 ** -14;
          if (!Number.isFinite(result.loss) || (!result.finite && hopeless))
            await stop(device, options, batches, mode, step);
          if (!result.finite) {
            state = { ...state, lossScale: lossScale / 2, steady: 0 };
          } else if (scaled && state.steady + 1 >= GROW_AFTER) {
            state = { ...state, lossScale: lossScale * 2, steady: 0 };
          } else {
            state = { ...state, steady: state.steady + 1 };
          }
          const seconds = (performance.now() - started) / 1000;
          const { allocated: bytes, held: buffers } = device.pool.statistics;
          const { loss, parts, gradientNorm } = result;
          run.metrics({
            ...{ stage, step, epoch: state.epoch, loss, ...parts, gradient_norm: gradientNorm },
            ...{ rate_encoder: rate.encoder * factor, rate_heads: rate.heads * factor },
            ...(scaled ? { loss_scale: lossScale, skipped: !result.finite } : {}),
            ...{ seconds, bytes, buffers, bind_groups: device.bindGroups.alive },
          });
          const amount = batches.reduce((n, batch) => n + task.amount(batch), 0);
          const { epoch } = state;
          options.onStep?.({
            ...{ stage, epoch, epochs, step, total, loss, parts, gradientNorm, amount, seconds, bytes },
          });
        }
        if (performance.now() - flushed > FLUSH_EVERY) {
          await run.flush();
          flushed = performance.now();
        }
        if (signal.aborted) {
          await save();
          return { finished: false, bests: state.bests };
        }
        if (next && !whole && due()) await save();
      }
      if (state.epoch === 0) noteUntrained(run, stage, optimizer);
      try {
        state = await endEpoch(options, state);
      } catch (error) {
        if (!signal.aborted && !(error instanceof TooFewError)) throw error;
        await save(); // the epoch's updates are done: going on begins with its figures
        if (!signal.aborted) throw error;
        return { finished: false, bests: state.bests };
      }
      whole = undefined;
      await save();
      if (signal.aborted && state.epoch < epochs) return { finished: false, bests: state.bests };
    }
    return { finished: true, bests: state.bests };
  } finally {
    optimizer.dispose();
  }
}

/** Says in the log which parameters no gradient of the first epoch reached: those that the losses do not depend on. */
function noteUntrained(run: RunFolder, stage: StageNumber, optimizer: AdamW): void {
  const steps = Object.entries(optimizer.steps);
  const still = steps.filter(([, n]) => n === 0).map(([key]) => key);
  if (still.length === 0 || still.length === steps.length) return;
  const keys = still.slice(0, 3).join(", ") + (still.length > 3 ? ` and ${still.length - 3} more` : "");
  run.log(`note: no gradient reached ${keys} in the first epoch of stage ${stage}; not trained so far`);
}

/** The micro-batches of one update, without those of which nothing can be read, and how many items are missing. */
async function loadGroup<B>(
  task: Task<B>,
  plan: readonly (readonly number[])[],
  { epoch, batch: from }: LoopState,
  count: number,
): Promise<{ batches: B[]; lost: number }> {
  const wanted = plan.slice(from, from + count);
  const loaded = await Promise.all(wanted.map((indices) => task.load(indices, epoch)));
  let lost = 0;
  for (const [i, batch] of loaded.entries())
    lost += wanted[i].length - (batch === undefined ? 0 : (task.size?.(batch) ?? wanted[i].length));
  return { batches: loaded.filter((batch) => batch !== undefined), lost };
}

/** Throws where a checkpoint has not done as many updates as its place in the epochs says. */
function refuseStep(
  { state: { epoch, batch, step }, folder }: Latest,
  plans: readonly (readonly unknown[])[],
  accumulate: number,
): void {
  const updates = (batches: number) => Math.ceil(batches / accumulate);
  const before = plans.slice(0, epoch).reduce((n, plan) => n + updates(plan.length), 0);
  const expected = before + updates(Math.min(batch, plans[epoch]?.length ?? 0));
  if (step !== expected)
    throw new RangeError(
      `Cannot use ${folder}/state.json: step is ${step} at epoch ${epoch} and batch ${batch}, but should be ${expected}`,
    );
}

/** Judges the epoch on the dev set and keeps its model if none was better. */
async function endEpoch<B>(options: StageOptions<B>, state: LoopState): Promise<LoopState> {
  const { run, task, stage, config, onDev } = options;
  const { epoch, step } = state;
  const next = { ...state, epoch: epoch + 1, batch: 0 };
  const dev = await task.evaluate(options.signal);
  if (dev) {
    run.metrics({
      ...{ stage, step, epoch },
      ...Object.fromEntries(Object.entries(dev).map(([name, value]) => [`dev_${name}`, value])),
    });
  }
  const score = dev && config.select !== "last" ? scoreOf(dev, config.select) : epoch;
  const utterances = dev && config.select !== "last" ? dev.utterances : undefined;
  const better = isBetter({ score, utterances }, state.bests[stage], options);
  let bests = state.bests;
  if (better) {
    const folder = `stage${stage}-epoch${String(epoch + 1).padStart(3, "0")}`;
    await run.checkpoint("best", folder, async (path) => {
      await task.save(path);
      return { stage, epoch, score, dev };
    });
    bests = { ...bests, [stage]: { folder, epoch, score, utterances } };
  }
  if (dev) onDev?.(epoch, dev, better);
  return { ...next, bests, newBob: dev ? nextNewBob(state.newBob, dev) : state.newBob };
}

/** Figures over different parts of the dev set say nothing about each other: those over more of it win. */
function isBetter<B>(
  own: Pick<Best, "score" | "utterances">,
  best: Best | undefined,
  { stage, onNote }: StageOptions<B>,
): boolean {
  if (best === undefined) return true;
  const [now, then] = [own.utterances, best.utterances];
  if (now !== undefined && then !== undefined && now !== then) {
    const result = now > then ? "this epoch is taken" : `epoch ${best.epoch + 1} stays`;
    onNote?.(
      `stage ${stage}: dev figures over ${now} utterances are not compared with those of the best, over ${then}: ${result}`,
    );
    return now > then;
  }
  // A figure that is none, of a dev set without words for one, wins nothing.
  return Number.isNaN(best.score) || own.score >= best.score;
}

function nextNewBob(state: LoopState["newBob"], { loss, utterances }: DevResult): LoopState["newBob"] {
  if (utterances === undefined) return newBob(state, loss);
  const comparable = state.utterances === undefined || state.utterances === utterances;
  return { ...(comparable ? newBob(state, loss) : { ...state, last: loss }), utterances };
}

function scoreOf(dev: DevResult, select: "ua" | "wer" | "loss"): number {
  const value = dev[select] ?? dev.loss;
  return select === "ua" && dev.ua !== undefined ? value : -value;
}

/** Ends a run whose loss or gradient is not finite, naming the first tensor that was not. */
async function stop<B>(
  device: Device,
  { task, stage, run }: StageOptions<B>,
  batches: readonly B[],
  mode: (micro: number) => { training: { next: () => number } },
  step: number,
): Promise<never> {
  await run.flush();
  for (const [micro, batch] of batches.entries()) {
    const name = await firstBadTensor(device, task, batch, mode(micro));
    if (name) throw new Error(`Stopped at step ${step} of stage ${stage}: ${name} is not finite`);
  }
  throw new Error(`Stopped at step ${step} of stage ${stage}: the sum over its micro-batches is not finite`);
}

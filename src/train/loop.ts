/**
 * Trains one stage: epochs of updates, dev figures after each, checkpoints from which a run goes on as if it had never
 * stopped. Everything random is a function of (seed, stage, step), so the state is weights, moments and a few counts.
 */
import type { Device } from "../gpu/device.ts";
import { listed } from "../io/listed.ts";
import { AdamW, type Optimizer } from "./optimizer.ts";
import { loadOptimizer, saveOptimizer } from "./checkpoint.ts";
import { checksums } from "./checksum.ts";
import { firstBadTensor } from "./diagnose.ts";
import { endEpoch, FiguresError } from "./epoch_end.ts";
import type { RunFolder } from "./run_folder.ts";
import { scheduleFactor } from "./schedule.ts";
import { trainingStream } from "./seeds.ts";
import { type ResolvedOptions, resolveStage, type StageOptions, type StageResult } from "./stage.ts";
import type { Latest, LoopState } from "./state.ts";
import { refuseTooFew, type Task, TooFewError } from "./task.ts";
import { type UpdateResult, update } from "./update.ts";

/** f16's gradients underflow below 6e-8: losses are scaled up by this at first, down at each overflow. */
const FIRST_SCALE = 2 ** 16;
const GROW_AFTER = 2000;
/** Milliseconds between two writes of the metrics, for those who watch. */
const FLUSH_EVERY = 2000;
/** Minutes between two checkpoints within a long epoch, where the recipe says nothing. */
const MINUTES = 10;

/**
 * Trains a stage to its end, or from `from` on. Throws where the corpus is lost, the disk is full or the loss is not finite;
 * checkpoints of before stay.
 *
 * A run that is stopped and goes on ends with the same bits as one that was never stopped, as long as the task gives the
 * same batches and losses for the same epoch and Mode.
 *
 * @example
 * ```ts
 * const weights = new Weights(device, { seed: 1 });
 * const layer = new Linear(weights.root, 1, 1);
 * await weights.initialize();
 * const task: Task<readonly number[]> = {
 *   parameters: weights.parameters,
 *   plan: () => [[0, 1], [2, 3]], // two batches of two items, the same in every epoch
 *   load: async (indices) => indices,
 *   losses(batch) {
 *     const x = Tensor.from(device, Float32Array.from(batch), [batch.length, 1]);
 *     return { loss: ops.mse(layer.forward(x), ops.mul(x, 3)) };
 *   },
 *   save: (folder) => saveWeights(host, `${folder}/model.safetensors`, weights.parameters),
 * };
 * const run = await RunFolder.create(host, "runs/three", {});
 * const { finished, bests } = await trainStage({
 *   device, run, task,
 *   of: { recipe: "3x", data: "0 1 2 3" },
 *   config: { epochs: 3, learningRate: { all: 0.1 } },
 * });
 * console.log(finished, bests[0].folder); // true stage0-epoch003
 * ```
 */
export async function trainStage<B>(options: StageOptions<B>): Promise<StageResult> {
  const loop = new StageLoop(resolveStage(options));
  try {
    return await loop.run();
  } finally {
    loop.dispose();
  }
}

/** The micro-batches of an epoch, by the items in them. */
type Plan = ReturnType<Task<unknown>["plan"]>;

class StageLoop<B> {
  readonly #options: ResolvedOptions<B>;
  readonly #optimizer: Optimizer;
  readonly #scaled: boolean;
  /** Updates of the whole stage. */
  #total = 0;
  #state: LoopState;
  /**
   * Set while the last updates were skipped, none of their data being readable: the state before the first of them. The
   * weights are still of that state, so a checkpoint saves it: with the corpus back, nothing was skipped.
   */
  #whole: LoopState | undefined;
  #savedAt = performance.now();
  #flushedAt = performance.now();

  constructor(options: ResolvedOptions<B>) {
    const { device, task, stage, config, from, group, of, bests } = options;
    const { maxGradNorm, learningRate, weightDecay, beta1, beta2, eps } = config;
    this.#options = options;
    this.#scaled = config.precision === "f16";
    if (this.#scaled && !device.info.f16)
      throw new Error(`Cannot train with f16: ${device.info.name} has no shader-f16; use precision f32`);
    if (this.#scaled) for (const parameter of task.parameters) parameter.matmulDType = "f16";
    this.#optimizer = new AdamW(device, task.parameters, {
      ...{ maxGradNorm, weightDecay, beta1, beta2, eps },
      learningRate: (key) => learningRate[group(key)],
    });
    this.#state = from?.state ?? {
      ...{ of, stage, epoch: 0, batch: 0, step: 0, newBob: { factor: 1 } },
      ...{ lossScale: this.#scaled ? FIRST_SCALE : 1, steady: 0, updates: {} },
      ...{ bests, lengths: { metrics: 0, events: 0 } },
    };
  }

  dispose(): void {
    this.#optimizer.dispose();
  }

  async run(): Promise<StageResult> {
    const { run, task, config, from, signal } = this.#options;
    const { epochs, accumulate } = config;
    const optimizer = this.#optimizer;
    if (from)
      await loadOptimizer(run.host, `${from.folder}/optimizer.safetensors`, optimizer, from.state.updates);
    const plans = Array.from({ length: epochs }, (_, epoch) => checkPlan(task.plan(epoch), epoch));
    this.#total = plans.reduce((n, plan) => n + Math.ceil(plan.length / accumulate), 0);
    if (this.#total === 0) throw new RangeError("Cannot train: plan() gives no micro-batch in any epoch");
    if (from) refuseStep(from, plans, accumulate);
    while (this.#state.epoch < epochs && !this.#stopsEarly()) {
      const { epoch } = this.#state;
      const done = (await this.#updates(plans[epoch])) && (await this.#endEpoch(epoch));
      if (!done || (signal.aborted && this.#state.epoch < epochs))
        return { finished: false, bests: this.#state.bests };
    }
    return { finished: true, bests: this.#state.bests };
  }

  /** Whether the dev scores have stalled. A function of the state, so a run that goes on stops where it would have. */
  #stopsEarly(): boolean {
    const { stage, config, onNote } = this.#options;
    const { epoch, batch, bests } = this.#state;
    const best = bests[stage]?.epoch;
    if (batch > 0 || best === undefined || epoch - 1 - best < config.earlyStoppingPatience) return false;
    onNote?.(
      `stage ${stage}  stops after epoch ${epoch} of ${config.epochs}: since epoch ${best + 1} none was as good`,
    );
    return true;
  }

  async #save(): Promise<void> {
    const { run, task, stage, checkpoints } = this.#options;
    const saved = this.#whole ?? this.#state;
    const name = `stage${stage}-${String(saved.step).padStart(7, "0")}`;
    await run.checkpoint("checkpoints", name, async (folder) => {
      await task.save(folder);
      await saveOptimizer(run.host, `${folder}/optimizer.safetensors`, this.#optimizer);
      const [sha256, lengths] = [await checksums(run.host, folder), await run.flush()];
      return { ...saved, updates: this.#optimizer.steps, sha256, lengths };
    });
    await run.prune(checkpoints.keep);
    this.#savedAt = performance.now();
  }

  /** Whether it is time for a checkpoint within an epoch. */
  get #due(): boolean {
    const { every, minutes = MINUTES } = this.#options.checkpoints;
    return (
      (every > 0 && this.#state.step % every === 0) || performance.now() - this.#savedAt >= 60_000 * minutes
    );
  }

  #load(plan: Plan, batch: number): ReturnType<typeof loadGroup<B>> | undefined {
    const { task, config } = this.#options;
    if (batch >= plan.length) return undefined;
    const loading = loadGroup(task, plan, { ...this.#state, batch }, config.accumulate);
    loading.catch(() => {}); // awaited in the next turn, where it may throw
    return loading;
  }

  /** The rest of an epoch's updates. False where it was interrupted, after a checkpoint. */
  async #updates(plan: Plan): Promise<boolean> {
    const { run, task, stage, config, signal, onNote } = this.#options;
    const { items: name = "items" } = task;
    const items = plan.flat().length;
    let missing = 0;
    let next = this.#load(plan, this.#state.batch);
    while (next) {
      const started = performance.now();
      const { batches, lost } = await next;
      const after = this.#state.batch + config.accumulate;
      next = this.#load(plan, after);
      missing += lost;
      const nothing = batches.length === 0;
      this.#whole = nothing ? (this.#whole ?? this.#state) : undefined;
      try {
        refuseTooFew(missing, items, `epoch ${this.#state.epoch + 1}`, name);
      } catch (error) {
        await this.#giveUp(error as TooFewError);
      }
      const step = this.#state.step + 1;
      if (nothing)
        onNote?.(`stage ${stage}  step ${step}: none of its ${lost} ${name} can be read, no update`);
      this.#state = { ...this.#state, step, batch: after };
      if (!nothing) await this.#update(batches, started);
      if (performance.now() - this.#flushedAt > FLUSH_EVERY) {
        await run.flush();
        this.#flushedAt = performance.now();
      }
      if (signal.aborted) {
        await this.#save();
        return false;
      }
      if (next && !this.#whole && this.#due) await this.#save();
    }
    return true;
  }

  /** Saves a checkpoint and throws: the corpus is lost, and where the checkpoint could not be saved, that as well. */
  async #giveUp(lost: TooFewError): Promise<never> {
    const saved = await this.#save().then(
      () => "what was learnt is saved, and resuming goes on once they are back",
      (error: Error) => `and what was learnt since the last checkpoint could not be saved: ${error.message}`,
    );
    throw new Error(`${lost.message}; ${saved}`, { cause: lost });
  }

  /** One update by these micro-batches, and its report. */
  async #update(batches: readonly B[], started: number): Promise<void> {
    const { device, task, stage, config, seed } = this.#options;
    const { step, lossScale, newBob } = this.#state;
    const { schedule } = config;
    const factor =
      scheduleFactor(step, { ...schedule, total: this.#total }) *
      (schedule.kind === "newbob" ? newBob.factor : 1);
    const mode = (micro: number) => ({
      training: trainingStream(seed, "step", stage, step, micro),
      checkpoint: config.gradientCheckpointing,
      activations: config.activations,
    });
    const result = await update(device, task, this.#optimizer, batches, { factor, lossScale, mode });
    // A smaller scale cannot mend the loss itself, which was not scaled.
    const hopeless = !this.#scaled || lossScale < 2 ** -14;
    if (!Number.isFinite(result.loss) || (!result.finite && hopeless))
      await stop(device, this.#options, batches, mode, step);
    this.#state = { ...this.#state, ...this.#nextScale(result.finite) };
    this.#report(result, batches, { factor, lossScale, seconds: (performance.now() - started) / 1000 });
  }

  #nextScale(finite: boolean): Pick<LoopState, "lossScale" | "steady"> {
    const { lossScale, steady } = this.#state;
    if (!finite) return { lossScale: lossScale / 2, steady: 0 };
    if (this.#scaled && steady + 1 >= GROW_AFTER) return { lossScale: lossScale * 2, steady: 0 };
    return { lossScale, steady: steady + 1 };
  }

  #report(
    { loss, parts, gradientNorm, finite }: UpdateResult,
    batches: readonly B[],
    { factor, lossScale, seconds }: { factor: number; lossScale: number; seconds: number },
  ): void {
    const { device, run, task, stage, config, onStep } = this.#options;
    const { epochs, learningRate } = config;
    const { epoch, step } = this.#state;
    const { allocated: bytes, buffers } = device.pool.statistics;
    run.metrics({
      ...{ stage, step, epoch, loss, ...parts, gradient_norm: gradientNorm },
      ...Object.fromEntries(
        Object.entries(learningRate).map(([name, rate]) => [`learning_rate_${name}`, rate * factor]),
      ),
      ...(this.#scaled ? { loss_scale: lossScale, skipped: !finite } : {}),
      ...{ seconds, bytes, buffers, bind_groups: device.bindGroups.alive },
    });
    const amount = batches.reduce((n, batch) => n + (task.amount?.(batch) ?? 0), 0);
    const total = this.#total;
    onStep?.({ stage, epoch, epochs, step, total, loss, parts, gradientNorm, amount, seconds, bytes });
  }

  /** Ends an epoch: its dev figures and a checkpoint. False where it was interrupted before the figures were there. */
  async #endEpoch(epoch: number): Promise<boolean> {
    const { run, stage, signal } = this.#options;
    if (epoch === 0) noteUntrained(run, stage, this.#optimizer);
    try {
      this.#state = await endEpoch(this.#options, this.#state);
    } catch (error) {
      // The epoch's updates are done: going on begins with its figures.
      if (error instanceof TooFewError && !signal.aborted) await this.#giveUp(error);
      if (!signal.aborted) {
        if (error instanceof FiguresError) await this.#save(); // an option is wrong, not what was learnt
        throw error;
      }
      await this.#save();
      return false;
    }
    this.#whole = undefined;
    await this.#save();
    return true;
  }
}

/** Says in the log which parameters no gradient of the first epoch reached: those that the losses do not depend on. */
function noteUntrained(run: RunFolder, stage: number, optimizer: Optimizer): void {
  const steps = Object.entries(optimizer.steps);
  const still = steps.filter(([, n]) => n === 0).map(([key]) => key);
  if (still.length === 0 || still.length === steps.length) return;
  run.log(
    `note: no gradient reached ${listed(still, 3)} in the first epoch of stage ${stage}; not trained so far`,
  );
}

/** Throws unless a plan is a list of micro-batches, each a list of indices. */
function checkPlan(plan: Plan, epoch: number): Plan {
  const wrong = Array.isArray(plan)
    ? plan.findIndex((batch) => !Array.isArray(batch) || !batch.every(Number.isSafeInteger))
    : 0;
  if (Array.isArray(plan) && wrong < 0) return plan;
  const what = Array.isArray(plan) ? `plan(${epoch})[${wrong}]` : `plan(${epoch})`;
  const should = Array.isArray(plan) ? "a list of indices, a micro-batch" : "a list of micro-batches";
  throw new TypeError(
    `Cannot train: ${what} is ${Array.isArray(plan) ? plan[wrong] : plan} but should be ${should}`,
  );
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

/** Ends a run whose loss or gradient is not finite, naming the first tensor that was not. */
async function stop<B>(
  device: Device,
  { task, stage, run, config }: ResolvedOptions<B>,
  batches: readonly B[],
  mode: (micro: number) => { training: { next: () => number } },
  step: number,
): Promise<never> {
  await run.flush();
  const { activations } = config;
  for (const [micro, loaded] of batches.entries()) {
    const batch = (await task.prepare?.(loaded, { activations })) ?? loaded;
    const name = await firstBadTensor(device, task, batch, mode(micro));
    const hint = activations === "f16" ? "; f16 activations end at 65504" : "";
    if (name) throw new Error(`Stopped at step ${step} of stage ${stage}: ${name} is not finite${hint}`);
  }
  throw new Error(`Stopped at step ${step} of stage ${stage}: the sum over its micro-batches is not finite`);
}

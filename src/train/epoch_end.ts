/** The end of an epoch: its dev figures, and whether its model is the best so far. */
import { newBob } from "./schedule.ts";
import { isObject } from "../io/config.ts";
import type { ResolvedOptions } from "./stage.ts";
import type { Best, LoopState } from "./state.ts";
import type { DevResult } from "./task.ts";

/** Evaluates the epoch on the dev set, and saves its model in best/ where none was better. */
export async function endEpoch<B>(options: ResolvedOptions<B>, state: LoopState): Promise<LoopState> {
  const { run, task, stage, select, onDev } = options;
  const { epoch, step } = state;
  const next = { ...state, epoch: epoch + 1, batch: 0 };
  const dev = checkDev(await task.evaluate?.(options.signal));
  const score = dev && select ? scoreOf(dev, select) : epoch;
  if (dev) {
    run.metrics({
      ...{ stage, step, epoch },
      ...Object.fromEntries(Object.entries(dev).map(([name, value]) => [`dev_${name}`, value])),
    });
  }
  const utterances = dev && select ? dev.utterances : undefined;
  const better = isBetter({ score, utterances }, state.bests[stage], options);
  let bests = state.bests;
  if (better) {
    const folder = `stage${stage}-epoch${String(epoch + 1).padStart(3, "0")}`;
    await run.checkpoint("best", folder, async (path) => {
      await task.save(path, { epoch: epoch + 1, dev });
      return { stage, epoch, score, dev };
    });
    bests = { ...bests, [stage]: { folder, epoch, score, utterances } };
  }
  if (dev) onDev?.(epoch, dev, better);
  return { ...next, bests, newBob: dev ? nextNewBob(state.newBob, dev) : state.newBob };
}

/** Figures over different parts of the dev set cannot be compared: those over more utterances win. */
function isBetter<B>(
  own: Pick<Best, "score" | "utterances">,
  best: Best | undefined,
  { stage, task: { items = "items" }, onNote }: ResolvedOptions<B>,
): boolean {
  if (best === undefined) return true;
  const [now, then] = [own.utterances, best.utterances];
  if (now !== undefined && then !== undefined && now !== then) {
    const result = now > then ? "this epoch is taken" : `epoch ${best.epoch + 1} stays`;
    onNote?.(
      `stage ${stage}: dev figures over ${now} ${items} are not compared with those of the best, over ${then}: ${result}`,
    );
    return now > then;
  }
  // NaN, as the WER of a dev set without words, is never better.
  return Number.isNaN(best.score) || own.score >= best.score;
}

function nextNewBob(state: LoopState["newBob"], { loss, utterances }: DevResult): LoopState["newBob"] {
  if (utterances === undefined) return newBob(state, loss);
  const comparable = state.utterances === undefined || state.utterances === utterances;
  return { ...(comparable ? newBob(state, loss) : { ...state, last: loss }), utterances };
}

/** evaluate() gave no figures, or not the one that chooses the epoch. The epoch's updates are done all the same. */
export class FiguresError extends Error {}

/** Throws where evaluate() gave no figures by name, the loss among them. */
function checkDev(dev: unknown): DevResult | undefined {
  if (dev === undefined) return undefined;
  const wrong = !isObject(dev)
    ? `${dev}`
    : Object.entries({ loss: undefined, ...dev })
        .find(([, value]) => typeof value !== "number")
        ?.join(": ");
  if (wrong === undefined) return dev as DevResult;
  throw new FiguresError(
    `Cannot end the epoch: evaluate() gave ${wrong}, expected an object of numbers, loss among them`,
  );
}

/** The higher the better. Throws where the dev set has no such figure. */
function scoreOf(dev: DevResult, select: NonNullable<ResolvedOptions<unknown>["select"]>): number {
  if (typeof select === "function") return select(dev);
  const { figure, mode } = select;
  const value = dev[figure];
  if (value === undefined)
    throw new FiguresError(
      `Cannot choose the best epoch by ${figure}: evaluate() gives ${Object.keys(dev).join(", ")}`,
    );
  return mode === "max" ? value : -value;
}

/** Progress of a training run on stderr and in its log. */
import process from "node:process";
import type { StageNumber } from "../../src/speech/recipes/config.ts";
import type { StepReport } from "../../src/train/stage.ts";
import type { RunFolder } from "../../src/train/run_folder.ts";
import type { Context } from "../cli.ts";
import { formatBytes, formatSeconds } from "../format.ts";
import type { Progress } from "../progress.ts";

/** Seconds between lines where stderr is no terminal. */
const LINE_EVERY = 10;

/** Handlers for trainRun(): a progress bar on a terminal, else a line now and then; lines go into the log as well. */
export function display({ progress, note }: Pick<Context, "progress" | "note">, run: RunFolder) {
  let bar: Progress | undefined;
  let lastLine = performance.now();
  // Totals of this process in the present stage: a resumed run begins at a later step.
  let [steps, amount, seconds] = [0, 0, 0];
  const say = (line: string) => {
    run.log(line);
    note(`${process.stderr.isTTY ? "\r\x1b[K" : ""}${line}`);
  };
  const describe = (r: StepReport) => {
    const parts = Object.entries({ loss: r.loss, ...r.parts }).map(([name, x]) => `${name} ${x.toFixed(3)}`);
    const unit = r.stage === 0 ? "sentences/s" : "audio s/s";
    // The most important first: narrow terminals cut off the end.
    const rate = `${(amount / seconds).toPrecision(3)} ${unit}`;
    return `${rate}  ${formatBytes(r.bytes)}  ${parts.join("  ")}  norm ${r.gradientNorm.toPrecision(3)}`;
  };
  return {
    stop: () => bar?.stop(),
    handlers: {
      onStage(stage: StageNumber, parameters: number, trained: number) {
        say(`stage ${stage}: ${parameters} parameters, ${trained} of them trained`);
        bar?.stop();
        bar = undefined;
        [steps, amount, seconds] = [0, 0, 0];
      },
      onStep(r: StepReport) {
        bar ??= progress(`stage ${r.stage}`, r.total, { from: r.step - 1 });
        steps++;
        amount += r.amount;
        seconds += r.seconds;
        bar?.update(r.step, describe(r));
        const now = performance.now();
        if (now - lastLine > 1000 * LINE_EVERY) {
          const left = formatSeconds(((r.total - r.step) * seconds) / steps);
          const line = `stage ${r.stage}  epoch ${r.epoch + 1}/${r.epochs}  step ${r.step}/${r.total}  ${describe(r)}  ${left} left`;
          if (process.stderr.isTTY) run.log(line);
          else say(line);
          lastLine = now;
        }
      },
      onDev(stage: StageNumber, epoch: number, dev: Readonly<Record<string, number>>, best: boolean) {
        const { utterances = 0, of = 0, ...rest } = dev;
        const figures = Object.entries(rest).map(([name, x]) => `${name} ${x.toFixed(3)}`);
        if (utterances < of) figures.push(`over ${utterances} of ${of} utterances`);
        say(`stage ${stage}  epoch ${epoch + 1}  dev ${figures.join("  ")}${best ? "  best" : ""}`);
      },
      onNote: say,
      onProblem(id: string, message: string) {
        say(`${id}: left out of its batch: ${message}`);
      },
    },
  };
}

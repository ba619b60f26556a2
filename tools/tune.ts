/** wavegate tune: measures how this adapter launches the kernels of a workload fastest, and remembers it. */
import { shapeClass } from "../src/gpu/tunable.ts";
import { currentHost } from "../src/host/current.ts";
import { launchesOf, showValue, tune } from "../src/tune/tune.ts";
import { placeOf, readTuning, type Tuned, writeTuning } from "../src/tune/tuning.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { openChosenDevice } from "./device.ts";
import { SUMMARIES } from "./summaries.ts";
import { checkOperands, chooseWorkload, locateFolder, workloadOptions } from "./workload.ts";

export const verb = defineVerb({
  name: "tune",
  summary: SUMMARIES.tune,
  usage: `[FOLDER] [options]   (a forward pass of a model; by default the bundled one)
       wavegate tune predict [FOLDER] [options]   (a whole recognition)
       wavegate tune train [FOLDER] [options]   (a training step; without FOLDER of --preset, from random weights)`,
  example: "wavegate tune train --preset small --budget 120",
  options: {
    ...workloadOptions,
    budget: { type: "number", value: "S", default: 60, help: "seconds after which nothing else is begun" },
    retune: { type: "boolean", help: "measure also what was measured before" },
  },
  operands: { max: 2 },
  async main({ values, operands, print, printJson, ...output }) {
    const { note, progress } = output;
    const { budget, retune } = values;
    if (!(budget > 0))
      throw new UsageError(`Cannot read --budget ${budget}: it is a number of seconds above 0`);
    checkOperands(operands);
    const host = await currentHost();
    const onNote = (line: string) => note(`tune: ${line}`);
    const openDevice = () => openChosenDevice(host, values);
    const located = await locateFolder(host, operands, "tune", output);
    const { workload } = await chooseWorkload(host, values, located, { openDevice, onNote });
    const { device } = workload;
    const place = placeOf(device);
    const known = await readTuning(host, device, onNote);
    const wanted = await launchesOf(device, async () => {
      await workload.run();
      await device.idle();
    });
    workload.dispose();
    const before = new Set(known.map(({ choice, sizes }) => shapeClass(choice, sizes)));
    const fresh = wanted.filter(({ choice, sizes }) => retune || !before.has(shapeClass(choice, sizes)));
    const counts = new Map(wanted.map(({ choice, sizes, count }) => [shapeClass(choice, sizes), count]));
    const bar = progress("tuning", fresh.length, { unit: "shapes" });
    const tuned: Tuned[] = [];
    let file: string | undefined;
    try {
      await tune(fresh, {
        ...{ openDevice, budget, note: onNote, onProgress: (done) => bar.update(done) },
        onTuned: (each) => tuned.push(each),
      });
    } finally {
      bar.stop();
      // What was measured before a failure is as good.
      if (tuned.length > 0) file = await writeTuning(host, place, [...known, ...tuned]);
    }
    for (const line of showTuned(tuned, counts)) print(line);
    if (fresh.length < wanted.length)
      print(
        `${wanted.length - fresh.length} of ${wanted.length} classes of shapes were tuned before; --retune measures anew`,
      );
    if (file !== undefined) print(`remembered in ${file}`);
    printJson({ ...place, file, classes: wanted.length, tuned });
    return 0;
  },
});

/** A line for each class for which something is faster than the default, and what that saves. */
function showTuned(tuned: readonly Tuned[], counts: ReadonlyMap<string, number>): string[] {
  let [usual, saved] = [0, 0];
  const lines: string[] = [];
  for (const { choice, sizes, value, milliseconds } of tuned) {
    const name = shapeClass(choice, sizes);
    const count = counts.get(name) ?? 0;
    usual += count * milliseconds.default;
    saved += count * (milliseconds.default - milliseconds.chosen);
    if (value)
      lines.push(
        `${name.padEnd(48)} ${milliseconds.default.toPrecision(3)} → ${milliseconds.chosen.toPrecision(3)} ms  ${showValue(value)}`,
      );
  }
  const all = `${lines.length} of ${tuned.length} classes of shapes measured are faster otherwise than by default`;
  return [
    ...lines,
    lines.length > 0 ? `${all}: ${saved.toPrecision(3)} of ${usual.toPrecision(3)} ms a run` : all,
  ];
}

if (isMain(import.meta)) await runVerb(verb);

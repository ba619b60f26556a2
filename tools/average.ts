/** wavegate average: the mean of the weights of several models. */
import { currentHost } from "../src/host/current.ts";
import { averageModels } from "../src/speech/training/average_models.ts";
import { defineVerb, isMain, runVerb, UsageError, withoutSlash } from "./cli.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "average",
  summary: SUMMARIES.average,
  usage: "MODEL MODEL… --out DIR",
  example: "wavegate average runs/a/model runs/b/model --out runs/mean",
  options: { out: { type: "string", value: "DIR", help: "a new folder" } },
  operands: { min: 2, max: Number.POSITIVE_INFINITY },
  async main({ values, operands, print, printJson }) {
    if (values.out === undefined) throw new UsageError("Cannot average without --out DIR");
    const [out, models] = [withoutSlash(values.out), operands.map(withoutSlash)];
    const tensors = await averageModels(await currentHost(), models, out);
    print(`${out}: the mean of ${models.length} models, ${tensors} tensors`);
    printJson({ models, out, tensors });
  },
});

if (isMain(import.meta)) await runVerb(verb);

/** `wavegate pull`: downloads models of the Hugging Face Hub into its cache. */
import { currentHost } from "../src/host/current.ts";
import { type PulledModel, pullModel } from "../src/hub/mod.ts";
import { defineVerb, isMain, runVerb } from "./cli.ts";
import { formatBytes } from "./format.ts";
import { pullOptions } from "./hub.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "pull",
  summary: SUMMARIES.pull,
  usage: `ORG/NAME[@REVISION]… [options]

Downloads what is missing of config, tokenizer, vocabulary and weights into the cache that Python's huggingface_hub uses,
and prints the folder. Other verbs then take ORG/NAME as a model folder, and would pull it themselves. REVISION is a branch,
a tag, a commit or as refs/pr/1. Variables: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE.`,
  example: "wavegate pull facebook/hubert-large-ls960-ft google-bert/bert-base-uncased",
  interruptible: true,
  options: {},
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main({ operands, print, printJson, ...output }) {
    const host = await currentHost();
    const models: PulledModel[] = [];
    for (const name of operands) {
      const { options, stop } = pullOptions(host, "pull", output);
      try {
        const model = await pullModel(host, name, options);
        models.push(model);
        print(model.folder);
        const { files, downloaded } = model;
        const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
        if (files.length > 0)
          output.note(
            `pull: ${name}: ${files.length} files of ${formatBytes(total)}, ${formatBytes(downloaded)} of them downloaded`,
          );
        if ((await host.kind(name)) === "directory")
          output.note(`pull: as a model ${name} is the folder here, ${model.id}@main that of the hub`);
      } finally {
        stop();
        if (output.signal.aborted) output.note("pull: stopped; the next pull goes on from there");
      }
    }
    printJson({ models });
    return 0;
  },
});

if (isMain(import.meta)) await runVerb(verb);

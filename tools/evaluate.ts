/** `wavegate evaluate`: a model's words and emotions on the held-out session of a corpus, beside the corpus's own ceilings. */
import { summarizeProblems } from "../src/corpora/corpus.ts";
import { examine } from "../src/corpora/examine.ts";
import { folds } from "../src/corpora/folds.ts";
import { readIemocap } from "../src/corpora/iemocap.ts";
import type { Oracle } from "../src/evaluate/oracle.ts";
import { type Answer, answersCsv, report, reportText } from "../src/evaluate/report.ts";
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { readJson } from "../src/io/config.ts";
import { EmotionRecognizer } from "../src/models/emotion.ts";
import { openModelFolder } from "../src/models/folder.ts";
import { spellings } from "../src/models/keys.ts";
import { Weights } from "../src/nn/weights.ts";
import { answerBatch } from "../src/train/answer.ts";
import { planInOrder } from "../src/train/batches.ts";
import { type Reader, readBatch } from "../src/train/examples.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";

export const verb = defineVerb({
  name: "evaluate",
  summary: "Measures UA, WA and WER of a model on the session that it never heard.",
  usage: "--model DIR --data DIR [--fold N] [options]",
  example: "wavegate evaluate --model runs/small/model --data corpus/mini --fold 5 --out answers.csv",
  options: {
    model: { type: "string", value: "DIR", help: "a model folder, as train writes it" },
    data: { type: "string", value: "DIR", help: "a corpus in IEMOCAP's layout" },
    fold: { type: "number", value: "N", default: 5, help: "session held out from the training" },
    out: { type: "string", value: "FILE", help: "write every answer as CSV" },
    batch: { type: "number", value: "N", default: 8, help: "most recordings at once" },
    ...deviceOptions,
  },
  async main({ values, print, printJson, note, progress }) {
    const { model, data, fold: wanted, out } = values;
    if (model === undefined || data === undefined)
      throw new UsageError("Cannot evaluate without --model DIR and --data DIR");
    const host = await currentHost();
    const corpus = await readIemocap(host, data);
    const { utterances, problems } = await examine(host, corpus);
    if (problems.length > 0) note(`${problems.length} problems in ${data}: ${summarizeProblems(problems)}`);
    const all = folds(utterances);
    const fold = all[wanted - 1];
    if (!fold) throw new UsageError(`Cannot evaluate fold ${wanted}: ${data} has ${all.length} sessions`);
    const device = await openChosenDevice(host, values);
    const { system, reader: plain } = await openSystem(host, device, model);
    const reader: Reader = { ...plain, onProblem: (id, said) => note(`${id}: left out: ${said}`) };
    const answers: Answer[] = [];
    const bar = progress("evaluating", fold.test.length, { unit: "clips" });
    for (const indices of planInOrder(
      fold.test.map((u) => u.seconds ?? 0),
      { items: values.batch },
    )) {
      const batch = await readBatch(
        reader,
        indices.map((i) => fold.test[i]),
      );
      if (!batch) continue;
      for (const answer of (await answerBatch(system, batch, reader)).answers) {
        const { label } = answer.utterance;
        if (label !== undefined) answers.push({ ...answer, utterance: { ...answer.utterance, label } });
      }
      bar.update(answers.length);
    }
    bar.stop();
    device.dispose();
    if (answers.length === 0)
      throw new Error(`Cannot evaluate ${model}: ${fold.name} of ${data} has no utterance with a label`);
    const result = report(answers);
    const oracle =
      (await host.kind(`${data}/oracle.json`)) === "file"
        ? ((await readJson(host, `${data}/oracle.json`)) as unknown as Oracle)
        : undefined;
    print(`${model} on ${fold.name} of ${data}`);
    print(reportText(result));
    if (oracle) print(ceilings(oracle, fold.name));
    if (out !== undefined) {
      const file = await host.createAtomic(out);
      await file.write(new TextEncoder().encode(answersCsv(answers)));
      await file.commit();
      print(`every answer is in ${out}`);
    }
    printJson({ model, data, fold: fold.name, report: result, oracle });
  },
});

/** A whole system, its weights on the GPU, and how utterances are read for it. */
async function openSystem(
  host: Host,
  device: Device,
  path: string,
): Promise<{ system: EmotionRecognizer; reader: Reader }> {
  const {
    emotion,
    hubert,
    vocabulary,
    tokenizer,
    normalize,
    weights: file,
  } = await openModelFolder(host, path);
  try {
    if (!emotion) throw new Error(`Cannot evaluate ${path}: a plain CTC model names no emotions`);
    const weights = new Weights(device, { file, path, spellings });
    const system = new EmotionRecognizer(weights.root, emotion);
    await weights.load();
    const maxTokens = emotion.bert?.maxPositions ?? 0;
    return {
      system,
      reader: { host, vocabulary, tokenizer, maxTokens, normalize, audio: hubert !== undefined },
    };
  } finally {
    await file.close();
  }
}

/** What simple methods reach on this corpus, this session held out. */
function ceilings(oracle: Oracle, fold: string): string {
  const percent = (x: number | undefined) => (x === undefined ? "-" : `${(100 * x).toFixed(1)} %`);
  const rows = [
    ["voice: LDA on hand features", oracle.lda],
    ["voice: the same, by speaker", oracle.ldaBySpeaker],
    ["words: naive Bayes on the true ones", oracle.unigrams],
    ["both: posteriors multiplied", oracle.lateFusion],
  ] as const;
  const lines = rows.map(
    ([name, b]) =>
      `  ${name.padEnd(38)}UA ${percent(b.folds[fold])} on this session, ${percent(b.ua)} over all`,
  );
  return ["", "beside it, on the same corpus:", ...lines].join("\n");
}

if (isMain(import.meta)) await runVerb(verb);

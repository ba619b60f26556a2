/** `wavegate evaluate`: scores of a model on a held-out session of a corpus, beside the baselines of the corpus. */
import { type Problem, summarizeProblems } from "../src/speech/corpora/corpus.ts";
import { CORPUS_NAMES } from "../src/speech/corpora/read.ts";
import type { Fold } from "../src/speech/corpora/folds.ts";
import { figuresOf, formatSessionBaselines } from "../src/speech/baselines/baselines.ts";
import {
  type EmotionModel,
  evaluateModel,
  openEmotionModel,
  wordsRead,
} from "../src/speech/evaluate/evaluate.ts";
import { besideBaseline, formatBesideBaseline } from "../src/speech/evaluate/beside_baseline.ts";
import { openTest } from "../src/speech/evaluate/open_test.ts";
import { type Answer, answersCsv, formatReport, scoreAnswers } from "../src/speech/evaluate/report.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { checkWritable, writeWhole } from "../src/io/write_whole.ts";
import { withLanguageModel } from "../src/speech/system/folder.ts";
import { trainingLines } from "../src/speech/training/overlap.ts";
import { useRecorded } from "../src/tune/pinned.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { modelOf, OR_HUB } from "./hub.ts";
import { languageModelOption, languageModelPath } from "./language_model.ts";
import { SUMMARIES } from "./summaries.ts";

const options = {
  model: { type: "string", value: "DIR", help: `a model folder, as train writes it, ${OR_HUB}` },
  data: {
    type: "string",
    value: "DIR",
    help: "a corpus: IEMOCAP, RAVDESS, CREMA-D, EMO-DB, TESS, MELD or a manifest",
  },
  corpus: { type: "string", choices: CORPUS_NAMES, help: "layout of the corpus (found from the folder)" },
  fold: {
    type: "string",
    value: "NAME",
    help: "session to test on, as Session2 or 2, or speaker, as 02F (what the training held out)",
  },
  words: {
    type: "string",
    choices: ["true", "recognised"],
    help: "words that the model reads: of the transcripts, or its own (its own, where it recognises any)",
  },
  ...languageModelOption,
  anyway: { type: "boolean", help: "measure also where the model was trained on some of it" },
  out: { type: "string", value: "FILE", help: "write every answer as CSV" },
  batch: { type: "count", value: "N", default: 8, help: "most recordings at once" },
  ...deviceOptions,
} as const;

export const verb = defineVerb({
  name: "evaluate",
  summary: SUMMARIES.evaluate,
  usage: "--model DIR --data DIR [--fold NAME] [options]",
  example: "wavegate evaluate --model runs/a/model --data corpus/nano --out answers.csv",
  options,
  async main(context) {
    const { values, print, printJson, note } = context;
    const { data, out } = values;
    if (values.model === undefined || data === undefined)
      throw new UsageError("Cannot evaluate without --model DIR and --data DIR");
    const host = await currentHost();
    if (out !== undefined) await checkWritable(host, out);
    const path = await modelOf(host, values.model, "evaluate", context);
    let model = await openEmotionModel(host, path);
    try {
      if (values.lm !== undefined) model = await withLanguageModel(host, model, languageModelPath(values.lm));
      for (const line of model.notes) note(`evaluate: ${line}`);
      const words = wordsRead(model, values.words);
      const { examined, fold, training, baselines } = await openTest(host, model, {
        ...{ data, corpus: values.corpus, fold: values.fold, anyway: values.anyway },
        onNote: note,
      });
      const problems = [...examined.problems];
      const answers = await answer(host, model, fold, context, (problem) => {
        problems.push(problem);
        note(`${problem.id}: ${problem.handled}`);
      });
      const result = scoreAnswers(answers);
      print(`${path} on ${fold.name} of ${data}`);
      if (words !== undefined)
        print(words === "true" ? "it reads the true words" : "it reads the words that it recognises");
      const languageModel = model.languageModel?.path;
      if (languageModel !== undefined) print(`words are decoded with the language model ${languageModel}`);
      for (const line of trainingLines(training, fold.test.length)) print(line);
      if (problems.length > 0) print(`problems: ${summarizeProblems(problems)}; --json names them`);
      print(formatReport(result));
      if (baselines) print(`\n${formatSessionBaselines(baselines, fold.name)}`);
      const against = baselines && besideBaseline(answers, baselines);
      if (against) print(formatBesideBaseline(against));
      if (out !== undefined) {
        await writeWhole(host, out, answersCsv(answers));
        print(`every answer is in ${out}`);
      }
      printJson({
        ...{ model: path, data, fold: fold.name, words, languageModel, training },
        ...{ report: result, problems, baselines: baselines && figuresOf(baselines), against },
      });
    } finally {
      await model.weights.close();
    }
  },
});

/** The answers to the test set. Throws where there is none. */
async function answer(
  host: Host,
  model: EmotionModel,
  { name, test }: Fold,
  { values, progress, note }: Context<typeof options>,
  onProblem: (problem: Problem) => void,
): Promise<Answer[]> {
  const device = await openChosenDevice(host, values);
  // As the dev set was scored, whatever was tuned since.
  await useRecorded(host, device, model.path, (line) => note(`evaluate: ${line}`));
  const bar = progress("evaluating", test.length, { unit: "clips" });
  try {
    const answers = await evaluateModel(host, device, model, test, {
      ...{ batch: values.batch, words: values.words, onProblem },
      onProgress: (done) => bar.update(done),
    });
    if (answers.length > 0) return answers;
    throw new Error(`Cannot evaluate ${model.path}: no utterance of ${name} in ${values.data} can be used`);
  } finally {
    bar.stop();
    device.dispose();
  }
}

if (isMain(import.meta)) await runVerb(verb);

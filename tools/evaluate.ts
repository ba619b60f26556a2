/** `wavegate evaluate`: a model's words and emotions on the held-out session of a corpus, beside the corpus's own ceilings. */
import { LABELS, type Problem, summarizeProblems, type Utterance } from "../src/speech/corpora/corpus.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { type Fold, holdOut } from "../src/speech/corpora/folds.ts";
import { chooseSession, tellProblems } from "../src/speech/corpora/held_out.ts";
import { readIemocap } from "../src/speech/corpora/iemocap.ts";
import { type Baselines, readBaselines } from "../src/speech/evaluate/baselines.ts";
import { type Answer, answersCsv, report, reportText } from "../src/speech/evaluate/report.ts";
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { SAMPLE_RATE } from "../src/io/audio.ts";
import { checkWritable, writeWhole } from "../src/io/write_whole.ts";
import { batchBytes, bindableBytes, largestBytes, mayPad, planBatches } from "../src/models/batches.ts";
import { type EmotionConfig, EmotionRecognizer } from "../src/speech/system/emotion.ts";
import { type ModelFolder, openModelFolder } from "../src/speech/system/folder.ts";
import { mayIgnore, spellings } from "../src/models/keys.ts";
import { Weights } from "../src/nn/weights.ts";
import { answerBatch } from "../src/speech/training/answer.ts";
import { planInOrder, roundLength } from "../src/speech/training/batches.ts";
import { type Reader, readBatch } from "../src/speech/training/examples.ts";
import { heldOutBy, refuseOverlap, trainingLines, trainingOf } from "../src/speech/training/overlap.ts";
import { readProvenance } from "../src/speech/training/provenance.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { type DeviceChoice, deviceOptions, openChosenDevice } from "./device.ts";
import { SUMMARIES } from "./summaries.ts";

export const verb = defineVerb({
  name: "evaluate",
  summary: SUMMARIES.evaluate,
  usage: "--model DIR --data DIR [--fold NAME] [options]",
  example: "wavegate evaluate --model runs/a/model --data corpus/nano --out answers.csv",
  options: {
    model: { type: "string", value: "DIR", help: "a model folder, as train writes it" },
    data: { type: "string", value: "DIR", help: "a corpus in IEMOCAP's layout" },
    fold: {
      type: "string",
      value: "NAME",
      help: "session to test on, as Session2 or 2 (the one that the training held out)",
    },
    anyway: { type: "boolean", help: "measure also where the model was trained on some of it" },
    out: { type: "string", value: "FILE", help: "write every answer as CSV" },
    batch: { type: "count", value: "N", default: 8, help: "most recordings at once" },
    ...deviceOptions,
  },
  async main({ values, print, printJson, note, progress }) {
    const { model: path, data, out } = values;
    if (path === undefined || data === undefined)
      throw new UsageError("Cannot evaluate without --model DIR and --data DIR");
    const host = await currentHost();
    if (out !== undefined) await checkWritable(host, out);
    const model = await openSystem(host, path);
    for (const line of model.notes) note(`evaluate: ${line}`);
    const { examined, fold, training, baselines } = await openTest(host, model, values, note).catch(
      async (error) => {
        await model.weights.close();
        throw error;
      },
    );
    const problems = [...examined.problems];

    const leaveOut = (id: string, kind: Problem["kind"], why: string) => {
      problems.push({ id, kind, handled: `left out: ${why}` });
      note(`${id}: left out: ${why}`);
    };
    const { device, system } = await loadSystem(host, values, model);
    const { hubert, vocabulary, tokenizer, normalize, emotion } = model;
    const reader: Reader = {
      ...{ host, vocabulary, tokenizer, normalize, audio: hubert !== undefined, exact: exact(model) },
      maxTokens: emotion.bert?.maxPositions ?? 0,
      onProblem: (id, said) => leaveOut(id, "unreadable wav", said),
    };
    const test = fold.test.filter((utterance) => {
      const fits = !hubert || largestBytes(hubert, samplesOf(utterance, model)) <= bindableBytes(device);
      if (!fits) leaveOut(utterance.id, "long clip", `${device.info.name} does not take it in one piece`);
      return fits;
    });
    const answers = new Map<string, Answer>();
    const bar = progress("evaluating", test.length, { unit: "clips" });
    let done = 0;
    for (const indices of plan(test, model, device, values.batch)) {
      const wanted = indices.map((i) => test[i]);
      const batch = await readBatch(reader, wanted);
      for (const answer of batch ? (await answerBatch(system, batch, reader)).answers : []) {
        const { id, label } = answer.utterance;
        if (label !== undefined) answers.set(id, { ...answer, utterance: { ...answer.utterance, label } });
      }
      done += indices.length;
      bar.update(done);
    }
    bar.stop();
    device.dispose();
    if (answers.size === 0)
      throw new Error(`Cannot evaluate ${path}: no utterance of ${fold.name} in ${data} can be used`);

    const inOrder = test.flatMap(({ id }) => answers.get(id) ?? []);
    const result = report(inOrder);
    print(`${path} on ${fold.name} of ${data}`);
    for (const line of trainingLines(training, fold.test.length)) print(line);
    if (problems.length > 0) print(`problems: ${summarizeProblems(problems)}; --json names them`);
    print(reportText(result));
    if (baselines) print(ceilings(baselines, fold.name));
    if (out !== undefined) {
      await writeWhole(host, out, answersCsv(inOrder));
      print(`every answer is in ${out}`);
    }
    printJson({ model: path, data, fold: fold.name, training, report: result, problems, baselines });
  },
});

/** The corpus, the session to test on and what the model has heard of it. Throws where it heard some, unless told. */
async function openTest(
  host: Host,
  { path }: System,
  { data, fold: given, anyway }: { data?: string; fold?: string; anyway: boolean },
  note: (line: string) => void,
) {
  const record = await readProvenance(host, path);
  const corpus = await readIemocap(host, data as string);
  const examined = await examine(host, corpus);
  const wanted = given ?? heldOutBy(record, path, corpus);
  let fold: Fold;
  try {
    fold = holdOut(examined.utterances, chooseSession(wanted, corpus, examined, "evaluate"), { dev: 0 });
  } catch (error) {
    // They may be why there is no such session.
    tellProblems(examined.problems, corpus.root, note);
    throw error;
  }
  const training = await trainingOf(host, record, fold, examined.utterances);
  if (!anyway) refuseOverlap(path, fold, training);
  return { examined, fold, training, baselines: await readBaselines(host, corpus.root) };
}

type System = ModelFolder & { readonly emotion: EmotionConfig };

/** A model folder whose emotions are those of the corpora. */
async function openSystem(host: Host, path: string): Promise<System> {
  const model = await openModelFolder(host, path);
  const { emotion } = model;
  try {
    if (!emotion) throw new Error(`Cannot evaluate ${path}: a plain CTC model names no emotions`);
    const { labels } = emotion;
    if (labels.length !== LABELS.length || LABELS.some((label) => !labels.includes(label)))
      throw new RangeError(
        `Cannot evaluate ${path}: its labels are ${labels.join(", ")}, expected ${LABELS.join(", ")} in any order`,
      );
    return { ...model, emotion };
  } catch (error) {
    await model.weights.close();
    throw error;
  }
}

/** The system with its weights on a device. Closes their file. */
async function loadSystem(host: Host, choice: DeviceChoice, { weights: file, path, emotion }: System) {
  try {
    const device = await openChosenDevice(host, choice);
    const weights = new Weights(device, { file, path, spellings, mayIgnore });
    const system = new EmotionRecognizer(weights.root, emotion);
    await weights.initialize();
    return { device, system };
  } finally {
    await file.close();
  }
}

/** Whether a batch may have no padding that predict would not give it. */
const exact = ({ hubert }: System) => hubert !== undefined && !mayPad(hubert);

/** Samples of an utterance in a batch of its own. */
function samplesOf({ seconds = 0 }: Utterance, system: System): number {
  const samples = Math.round(seconds * SAMPLE_RATE);
  return exact(system) ? samples : roundLength(samples);
}

/** Batches within the same bounds as those of predict; of texts by their number alone. */
function plan(test: readonly Utterance[], system: System, device: Device, batch: number): number[][] {
  const lengths = test.map((utterance) => samplesOf(utterance, system));
  const { hubert } = system;
  return hubert
    ? planBatches(lengths, hubert, { batch, bytes: batchBytes(device) })
    : planInOrder(lengths, { items: batch });
}

/** What simple methods reach on this corpus, this session held out. */
function ceilings(baselines: Baselines, fold: string): string {
  const percent = (x: number | undefined) => (x === undefined ? "-" : `${(100 * x).toFixed(1)} %`);
  const rows = [
    ["voice: LDA on hand features", baselines.lda],
    ["voice: the same, by speaker", baselines.ldaBySpeaker],
    ["words: naive Bayes on the true ones", baselines.unigrams],
    ["both: posteriors multiplied", baselines.lateFusion],
  ] as const;
  const lines = rows.map(
    ([name, b]) =>
      `  ${name.padEnd(38)}UA ${percent(b.folds[fold])} on this session, ${percent(b.ua)} over all`,
  );
  return ["", "beside it, on the same corpus:", ...lines].join("\n");
}

if (isMain(import.meta)) await runVerb(verb);

/**
 * npm run demo: a recording through the whole system, stage by stage beside PyTorch, and the other recordings after it.
 *
 * The model is weights/default where there is one, else weights/demo, whose weights are seeded and untrained. Both hold
 * recordings in `clips/` with what is said in them, and what PyTorch computed of one: in `reference/`, or beside the
 * weights.
 */
import { bundled } from "../src/host/bundled_model.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { readWav } from "../src/io/audio.ts";
import { openRecognizer, type Recognizer } from "../src/speech/system/recognizer.ts";
import { normalizeTranscript } from "../src/io/text.ts";
import { wordEdits } from "../src/speech/metrics/wer.ts";
import { compareRecording, findReference, readClips } from "../src/speech/validate/recording.ts";
import { defineVerb, isMain, runVerb } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatBytes, formatSeconds, formatTable } from "./format.ts";

/** Names of the stages in the table. */
const NAMES: [RegExp, string][] = [
  [/^input_values$/, "samples, normalised"],
  [/^conv\.(\d)$/, "convolution $1"],
  [/^feat_proj$/, "feature projection"],
  [/^pos_conv$/, "positional convolution"],
  [/^acoustic_hidden$/, "HuBERT's frames"],
  [/^ctc_logits$/, "CTC logits"],
  [/^text_hidden$/, "BERT's subwords"],
  [/^cmgi\.s_(.)$/, "CmGI self-attention, $1"],
  [/^cmgi\.c_(.)$/, "CmGI cross-attention, $1"],
  [/^cmgi\.gate_(.)$/, "CmGI gate, $1"],
  [/^cmgi\.output_(.)$/, "CmGI gated, $1"],
  [/^cmgi\.pooled_(.)$/, "CmGI mean over time, $1"],
  [/^(cmgi\.)?logits$/, "emotion logits"],
  [/^probabilities$/, "emotion probabilities"],
];

export const verb = defineVerb({
  name: "demo",
  summary: "a recording through the whole system, stage by stage beside PyTorch",
  usage: "[options]",
  example: "npm run demo",
  options: deviceOptions,
  async main({ values, print, printJson }) {
    const host = await currentHost();
    const trained = bundled("default");
    const folder = trained ?? bundled("demo");
    if (!folder) throw new Error("Cannot find a model: neither weights/default nor weights/demo is there");
    const start = performance.now();
    const device = await openChosenDevice(host, values);
    const recognizer = await openRecognizer(host, device, folder);
    print(`adapter  ${device.info.name}, through ${host.describe().split(",")[0]}`);
    print(
      `model    weights/${trained ? "default" : "demo"}, ${formatBytes(device.pool.statistics.live)} of weights, opened in ${formatSeconds((performance.now() - start) / 1000)}`,
    );
    if (!trained)
      print(
        "         These small weights are UNTRAINED: the words and emotions below mean nothing, the figures do.",
      );
    const reference = await findReference(host, folder);
    const compared = reference && (await compare(host, recognizer, folder, reference, print));
    if (!reference)
      print("         No reference lies beside these weights, so there is nothing to compare with.");
    const clips = await recognise(host, recognizer, folder, print);
    printJson({ adapter: device.info.name, trained: trained !== undefined, ...compared, clips });
    recognizer.dispose();
    device.dispose();
    return compared && !compared.pass ? 1 : 0;
  },
});

async function compare(
  host: Host,
  recognizer: Recognizer,
  folder: string,
  reference: string,
  print: (line?: string) => void,
) {
  const compared = await compareRecording(host, recognizer, folder, reference);
  const { file, seconds, cold, warm, dispatches, words, wanted, pass } = compared;
  print(`audio    clips/${file}, ${seconds.toFixed(2)} s`);
  print(
    `time     ${formatSeconds(cold)} the first time, kernels compiled on the way; ${formatSeconds(warm)} the second, in ${dispatches} dispatches`,
  );
  print();
  const stages = compared.stages.map(({ name, ...rest }) => ({ stage: title(name), ...rest }));
  const rows = stages.map((s) => [
    s.stage,
    `(${s.shape.join(", ")})`,
    s.relL2.toExponential(1),
    s.pass ? "agrees" : "DEPARTS",
  ]);
  const table = formatTable(["stage", "shape", "relative L2 to PyTorch", ""], rows);
  const ctc = stages.findIndex((s) => s.stage === "CTC logits");
  table.forEach((line, i) => {
    print(`  ${line}`);
    if (i === ctc + 1 && ctc >= 0)
      print(
        `  words decoded: "${words}", ${words === wanted ? "as from PyTorch's logits" : `but PyTorch's say "${wanted}"`}`,
      );
  });
  const worst = stages.reduce((a, b) => (b.relL2 > a.relL2 ? b : a));
  print();
  print(
    pass
      ? `All ${stages.length} stages agree with PyTorch; the farthest, ${worst.stage}, is ${worst.relL2.toExponential(1)} away.`
      : `Stages depart from PyTorch; the first is ${stages.find((s) => !s.pass)?.stage ?? "the words"}.`,
  );
  print();
  return { stages, decoded: words, pass };
}

const title = (name: string) => {
  const found = NAMES.find(([pattern]) => pattern.test(name));
  const text = found ? name.replace(found[0], found[1]) : name;
  return text.replace(/, s$/, ", speech").replace(/, t$/, ", text");
};

/** Recognises every recording of the folder; the rows have reference and label beside what was recognised. */
async function recognise(host: Host, recognizer: Recognizer, folder: string, print: (line?: string) => void) {
  const list = await readClips(host, folder);
  const audios: Float32Array[] = [];
  for (const { file } of list) audios.push((await readWav(host, `${folder}/clips/${file}`)).samples);
  const start = performance.now();
  const found = await recognizer.recognize(audios);
  const elapsed = (performance.now() - start) / 1000;
  const total = found.reduce((sum, r) => sum + r.seconds, 0);
  const rows = list.map(({ file, text, label, note }, i) => {
    const { emotion, probabilities, transcript } = found[i];
    const sure = emotion && probabilities ? `${emotion} ${probabilities[emotion].toFixed(2)}` : "-";
    const edits =
      transcript && wordEdits({ reference: normalizeTranscript(text), hypothesis: transcript.text });
    return { file, text, label, note, emotion, sure, words: transcript?.text ?? "-", edits };
  });
  for (const line of formatTable(
    ["recording", "label", "recognised", "reference", "hypothesis"],
    rows.map((r) => [r.file, r.label ?? "-", r.sure, r.text, r.words]),
  ))
    print(`  ${line}`);
  const labelled = rows.filter((r) => r.label !== undefined);
  const right = labelled.filter((r) => r.emotion === r.label).length;
  print();
  for (const { file, note, edits } of rows)
    if (note)
      print(`${file} is ${note}: ${edits ? `${edits.correct} of ${edits.length} words right` : "no words"}.`);
  print(
    `${right} of ${labelled.length} emotions right; ${total.toFixed(1)} s of audio in ${formatSeconds(elapsed)}, ${formatSeconds(elapsed / total)} per second.`,
  );
  return rows.map(({ sure: _, edits: __, ...row }) => row);
}

if (isMain(import.meta)) await runVerb(verb);

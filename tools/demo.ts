/**
 * npm run demo: a recording through the whole system, stage by stage beside PyTorch, and the other recordings after it.
 *
 * The model is weights/default where there is one, else weights/demo, whose weights are seeded and untrained. Both hold
 * recordings in `clips/` with what is said in them, and what PyTorch computed of one: in `reference/`, or beside the
 * weights.
 */
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { readWav } from "../src/io/audio.ts";
import { isObject, readJson } from "../src/io/config.ts";
import { parseJson } from "../src/io/json.ts";
import { openRecognizer, type Recognizer } from "../src/speech/system/recognizer.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { bundled } from "../src/host/bundled_model.ts";
import { defineVerb, isMain, runVerb } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatBytes, formatSeconds, formatTable } from "./format.ts";
import { CaseTensors } from "../src/validate/case.ts";
import { distance } from "../src/validate/compare.ts";
import { readStage } from "../src/speech/validate/models.ts";

const LIMIT = 1e-4;

/** What the stages of the cases are called in the paper's words. */
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
      `model    weights/${trained ? "default" : "demo"}, ${formatBytes(device.pool.statistics.live)} of weights, opened in ${seconds(start)}`,
    );
    if (!trained)
      print(
        "         These small weights are UNTRAINED: the words and emotions below mean nothing, the figures do.",
      );
    const reference = await findReference(host, folder);
    const compared = reference && (await compare(host, device, recognizer, folder, reference, print));
    if (!reference)
      print("         No reference lies beside these weights, so there is nothing to compare with.");
    const clips = await recognise(host, recognizer, folder, print);
    printJson({ adapter: device.info.name, trained: trained !== undefined, ...compared, clips });
    recognizer.dispose();
    device.dispose();
    return compared && !compared.pass ? 1 : 0;
  },
});

const seconds = (since: number) => formatSeconds((performance.now() - since) / 1000);

/** The folder with what PyTorch computed. */
async function findReference(host: Host, folder: string): Promise<string | undefined> {
  for (const candidate of [`${folder}/reference`, folder])
    if ((await host.kind(`${candidate}/outputs.safetensors`)) === "file") return candidate;
  return undefined;
}

async function compare(
  host: Host,
  device: Device,
  recognizer: Recognizer,
  folder: string,
  reference: string,
  print: (line?: string) => void,
) {
  const { audio, decoded } = await readJson(host, `${reference}/case.json`);
  if (!Array.isArray(audio) || !Array.isArray(decoded))
    throw new Error(
      `Cannot compare with ${reference}: its case.json names no audio, nor what PyTorch decoded`,
    );
  const path = `${folder}/clips/${audio[0]}`;
  const { samples, seconds: length } = await readWav(host, path);
  const truth = await Truth.open(host, reference);
  const seen = new Map<string, Tensor>();
  const observe = (name: string, t: Tensor) => {
    if (truth.has(name) && !seen.has(name)) seen.set(name, t.keep());
  };
  const first = performance.now();
  const [{ transcript }] = await recognizer.recognize([samples], { observe });
  const cold = seconds(first);
  const { dispatches } = device.recorder;
  const second = performance.now();
  await recognizer.recognize([samples]);
  const warm = seconds(second);
  print(`audio    clips/${audio[0]}, ${length.toFixed(2)} s`);
  print(
    `time     ${cold} the first time, kernels compiled on the way; ${warm} the second, in ${device.recorder.dispatches - dispatches} dispatches`,
  );
  print();
  const stages: { stage: string; shape: readonly number[]; relL2: number; pass: boolean }[] = [];
  for (const [name, tensor] of seen) {
    const got = await readStage(tensor, truth.shape(name));
    const { relL2 } = distance(got ?? [], await truth.read(name));
    stages.push({ stage: title(name), shape: tensor.shape, relL2, pass: relL2 <= LIMIT });
    tensor.release();
  }
  await truth.close();
  const same = transcript?.text === decoded[0];
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
        `  words decoded: "${transcript?.text}", ${same ? "as from PyTorch's logits" : `but PyTorch's say "${decoded[0]}"`}`,
      );
  });
  const worst = stages.reduce((a, b) => (b.relL2 > a.relL2 ? b : a));
  const pass = same && stages.every((s) => s.pass);
  print();
  print(
    pass
      ? `All ${stages.length} stages agree with PyTorch; the farthest, ${worst.stage}, is ${worst.relL2.toExponential(1)} away.`
      : `Stages depart from PyTorch; the first is ${stages.find((s) => !s.pass)?.stage ?? "the words"}.`,
  );
  print();
  return { stages, decoded: transcript?.text, pass };
}

const title = (name: string) => {
  const found = NAMES.find(([pattern]) => pattern.test(name));
  const text = found ? name.replace(found[0], found[1]) : name;
  return text.replace(/, s$/, ", speech").replace(/, t$/, ", text");
};

/** Tensors of a case: float64 where it is stored, else PyTorch's float32; probabilities follow from the logits. */
class Truth {
  readonly #files: readonly CaseTensors[];

  private constructor(files: readonly CaseTensors[]) {
    this.#files = files;
  }
  static async open(host: Host, folder: string): Promise<Truth> {
    const files: CaseTensors[] = [];
    for (const name of ["outputs_f64", "outputs", "inputs"]) {
      const path = `${folder}/${name}.safetensors`;
      if ((await host.kind(path)) === "file") files.push(await CaseTensors.open(host, path));
    }
    return new Truth(files);
  }
  #of(name: string): [file: CaseTensors | undefined, source: string] {
    const sources = name === "probabilities" ? ["cmgi.logits", "logits"] : [name];
    for (const source of sources) {
      const file = this.#files.find((f) => f.has(source));
      if (file) return [file, source];
    }
    return [undefined, name];
  }
  has(name: string): boolean {
    return this.#of(name)[0] !== undefined;
  }
  shape(name: string): readonly number[] {
    const [file, source] = this.#of(name);
    return file?.shape(source) ?? [];
  }
  async read(name: string): Promise<ArrayLike<number>> {
    const [file, source] = this.#of(name);
    const values = (await file?.read(source)) ?? new Float32Array();
    if (name !== "probabilities") return values;
    const e = Array.from(values, Math.exp);
    const total = e.reduce((a, b) => a + b, 0);
    return e.map((v) => v / total);
  }
  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }
}

interface Clip {
  readonly file: string;
  readonly text: string;
  readonly label: string;
}

/** Every recording of the folder, with the truth beside what was recognised. */
async function recognise(host: Host, recognizer: Recognizer, folder: string, print: (line?: string) => void) {
  const path = `${folder}/clips/clips.json`;
  const list = parseJson(await host.readText(path));
  const isClip = (c: unknown): c is Clip =>
    isObject(c) && [c.file, c.text, c.label].every((v) => typeof v === "string");
  if (!Array.isArray(list) || !list.every(isClip))
    throw new TypeError(`Cannot read ${path}: it should list objects with file, text and label`);
  const audios: Float32Array[] = [];
  for (const { file } of list) audios.push((await readWav(host, `${folder}/clips/${file}`)).samples);
  const start = performance.now();
  const found = await recognizer.recognize(audios);
  const elapsed = (performance.now() - start) / 1000;
  const total = found.reduce((sum, r) => sum + r.seconds, 0);
  const rows = list.map(({ file, text, label }, i) => {
    const { emotion, probabilities, transcript } = found[i];
    const sure = emotion && probabilities ? `${emotion} ${probabilities[emotion].toFixed(2)}` : "-";
    return { file, text, label, emotion, sure, words: transcript?.text ?? "-" };
  });
  for (const line of formatTable(
    ["recording", "felt", "recognised", "said", "heard"],
    rows.map((r) => [r.file, r.label, r.sure, r.text, r.words]),
  ))
    print(`  ${line}`);
  const right = rows.filter((r) => r.emotion === r.label).length;
  print();
  print(
    `${right} of ${rows.length} emotions right; ${total.toFixed(1)} s of audio in ${formatSeconds(elapsed)}, ${formatSeconds(elapsed / total)} per second.`,
  );
  return rows.map(({ sure: _, ...row }) => row);
}

if (isMain(import.meta)) await runVerb(verb);

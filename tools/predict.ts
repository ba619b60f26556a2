/** wavegate predict: words and emotion of recordings. */
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { type HearingModel, openModelFolder, requireEars } from "../src/models/folder.ts";
import { openRecognizer, type Recognition, type Recognizer } from "../src/models/recognizer.ts";
import { boxed } from "./box.ts";
import { defineVerb, isMain, runVerb, UsageError, type Values } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatSeconds } from "./format.ts";
import { type Engine, recogniseWindow } from "./predict/recognise.ts";
import { firstLine, onOneLine } from "./output.ts";
import { findRecordings, readWindows } from "./predict/recordings.ts";

const UNTRAINED =
  "predict: the model in weights/demo is untrained, so its words and emotions mean nothing; --model DIR names another";

const options = {
  model: { type: "string", value: "DIR", help: "model folder; by default the one in the box" },
  ...deviceOptions,
  dtype: { type: "string", choices: ["f32", "f16"], default: "f32", help: "storage of the weights" },
  beam: { type: "count", value: "N", help: "beam search of this width; greedy without" },
  batch: { type: "count", value: "N", default: 8, help: "most recordings at once" },
} as const;

export const verb = defineVerb({
  name: "predict",
  summary: "words and emotion of recordings",
  usage: "FILE… [options]   (a folder stands for every *.wav below it, - for standard input)",
  example: "wavegate predict a.wav recordings/ --model my-model --json",
  options,
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main({ values, operands, json, print, printJson, note, progress }) {
    const host = await currentHost();
    const model = await openModelFolder(host, values.model ?? boxedModel());
    requireEars(model);
    for (const line of model.notes) note(`predict: ${line}`);
    const found = await findRecordings(host, operands);
    const files: (ReturnType<typeof record> | Failure)[] = [];
    const fail = (index: number, error: Error) => {
      const message = firstLine(error.message, [found[index].path]);
      files[index] = { file: found[index].path, error: message };
      note(`wavegate predict: ${message}`);
    };
    const engine = new OpenOnce(host, values, model);
    const bar = progress("recognising", found.length, { unit: "files" });
    let elapsed = 0;
    let broken: Error | undefined;
    try {
      for await (const window of readWindows(host, found, fail)) {
        for (const { path, audio } of window)
          for (const line of audio.notes) note(`predict: ${onOneLine(path)}: ${line}`);
        const { first } = engine;
        await engine.open();
        if (first && model.path === boxed("demo")) note(UNTRAINED);
        const before = files.filter((file) => file !== undefined).length;
        const start = performance.now();
        await recogniseWindow(
          engine,
          window,
          {
            onResult: ({ index, path }, recognition) => {
              files[index] = record(path, recognition);
              bar.stop();
              if (!json) for (const line of lines(path, recognition)) print(line);
            },
            onError: ({ index }, error) => fail(index, error),
          },
          { beam: values.beam, batch: values.batch, onProgress: (done) => bar.update(before + done) },
        );
        elapsed += (performance.now() - start) / 1000;
      }
    } catch (error) {
      // What was done is told all the same.
      broken = error as Error;
      if (files.every((file) => file === undefined)) throw broken;
      const message = `not recognised: ${broken.message.split("\n")[0]}`;
      for (const [index, { path }] of found.entries()) files[index] ??= { file: path, error: message };
    } finally {
      bar.stop();
      engine.close();
      await model.weights.close();
    }
    const total = files.reduce((sum, file) => sum + ("seconds" in file ? file.seconds : 0), 0);
    if (total > 0)
      print(
        `${total.toFixed(1)} s of audio in ${formatSeconds(elapsed)}, ${formatSeconds(elapsed / total)} per second of audio, on ${engine.adapter}`,
      );
    printJson({
      model: model.path,
      adapter: engine.adapter,
      dtype: values.dtype,
      files,
      audioSeconds: total,
      seconds: elapsed,
    });
    if (broken) throw broken;
    return files.some((file) => "error" in file) ? 1 : 0;
  },
});

interface Failure {
  readonly file: string;
  readonly error: string;
}

/** The recogniser, opened when the first recording has been read: bad input needs no GPU. */
class OpenOnce implements Engine {
  adapter: string | undefined;
  readonly #host: Host;
  readonly #values: Values<typeof options>;
  readonly #model: HearingModel;
  #device: Device | undefined;
  #recognizer: Recognizer | undefined;

  constructor(host: Host, values: Values<typeof options>, model: HearingModel) {
    this.#host = host;
    this.#values = values;
    this.#model = model;
  }

  get first(): boolean {
    return this.adapter === undefined;
  }

  async open(): Promise<Recognizer> {
    if (this.#recognizer) return this.#recognizer;
    this.#device = await openChosenDevice(this.#host, this.#values);
    // openRecognizer() closes the weights, so that another one opens them again.
    const model = this.first ? this.#model : this.#model.path;
    this.adapter = this.#device.info.name;
    this.#recognizer = await openRecognizer(this.#host, this.#device, model, { dtype: this.#values.dtype });
    return this.#recognizer;
  }

  close(): void {
    this.#recognizer?.dispose();
    this.#device?.dispose();
    this.#recognizer = this.#device = undefined;
  }
}

/** The model in the box: trained where there is one, else the demo's. */
function boxedModel(): string {
  const found = boxed("default") ?? boxed("demo");
  if (!found) throw new UsageError("Cannot run without --model DIR: no model is in the box");
  return found;
}

function record(file: string, { seconds, transcript, ...rest }: Recognition) {
  if (!transcript) return { file, seconds, ...rest };
  const round = (time: number) => Math.round(time * 1000) / 1000;
  const words = transcript.words.map(({ text, start, end, confidence }) => ({
    text,
    start: round(start),
    end: round(end),
    confidence,
  }));
  return { file, seconds, transcript: transcript.text, words, ...rest };
}

function lines(
  file: string,
  { seconds, silent, transcript, emotion, probabilities, gates }: Recognition,
): string[] {
  const shown = [`${onOneLine(file)}  (${seconds.toFixed(2)} s)`];
  if (silent)
    shown.push("  silent   no words and no emotion: not 100 ms of it are louder than -72 dB of full scale");
  if (transcript) shown.push(`  words    ${transcript.text || "(none)"}`);
  if (emotion && probabilities) {
    const all = Object.entries(probabilities).map(([label, p]) => `${label} ${p.toFixed(3)}`);
    shown.push(`  emotion  ${emotion}  (${all.join(", ")})`);
  }
  if (gates) shown.push(`  gates    acoustic ${gates.acoustic.toFixed(3)}, text ${gates.text.toFixed(3)}`);
  return shown;
}

if (isMain(import.meta)) await runVerb(verb);

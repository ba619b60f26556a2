/** wavegate predict: words and emotion of recordings. */
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { receptiveField } from "../src/models/hubert.ts";
import { bundled } from "../src/host/bundled_model.ts";
import { type SpeechModel, openModelFolder, requireSpeechEncoder } from "../src/speech/system/folder.ts";
import { openRecognizer, type Recognition, type Recognizer } from "../src/speech/system/recognizer.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError, type Values } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatSeconds } from "./format.ts";
import { firstLine, onOneLine } from "./output.ts";
import { type Engine, type Outcome, recogniseWindow } from "./predict/recognise.ts";
import { type Found, findRecordings, readWindows } from "./predict/recordings.ts";

const UNTRAINED =
  "predict: the model in weights/demo is untrained, so its words and emotions mean nothing; --model DIR names another";

const options = {
  model: { type: "string", value: "DIR", help: "model folder; by default the bundled one" },
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
  async main(context) {
    const { values, operands, note } = context;
    const host = await currentHost();
    const model = await openModelFolder(host, values.model ?? modelInTheBox());
    try {
      requireSpeechEncoder(model);
      for (const line of model.notes) note(`predict: ${line}`);
      const found = await findRecordings(host, operands);
      return conclude(context, model, await recogniseAll(host, model, found, context));
    } finally {
      await model.weights.close();
    }
  },
});

interface Failure {
  readonly file: string;
  readonly error: string;
}

interface Results {
  readonly files: readonly (ReturnType<typeof record> | Failure)[];
  /** That the recognition took. */
  readonly seconds: number;
  /** Absent where no recording could be read. */
  readonly adapter?: string;
  /** What ended the work before all was done. */
  readonly broken?: Error;
}

/** Recognises all that can be read; shows each recording when it is done, or what is wrong with it. */
async function recogniseAll(
  host: Host,
  model: SpeechModel,
  found: readonly Found[],
  { values, json, print, note, progress }: Context<typeof options>,
): Promise<Results> {
  const files: (ReturnType<typeof record> | Failure)[] = [];
  const fail = (index: number, error: Error) => {
    const message = firstLine(error.message, [found[index].path]);
    files[index] = { file: found[index].path, error: message };
    note(`wavegate predict: ${message}`);
  };
  const engine = new OpenOnce(host, values, model);
  const bar = progress("recognising", found.length, { unit: "files" });
  let seconds = 0;
  try {
    for await (const window of readWindows(host, found, receptiveField(model.hubert), fail)) {
      for (const { path, audio } of window)
        for (const line of audio.notes) note(`predict: ${onOneLine(path)}: ${line}`);
      const { first } = engine;
      await engine.open();
      if (first && model.path === bundled("demo")) note(UNTRAINED);
      const before = files.filter((file) => file !== undefined).length;
      const start = performance.now();
      const outcome: Outcome = {
        onResult: ({ index, path }, recognition) => {
          files[index] = record(path, recognition);
          bar.stop();
          if (!json) for (const line of lines(path, recognition)) print(line);
        },
        onError: ({ index }, error) => fail(index, error),
      };
      await recogniseWindow(engine, window, outcome, {
        ...{ beam: values.beam, batch: values.batch },
        onProgress: (done) => bar.update(before + done),
      });
      seconds += (performance.now() - start) / 1000;
    }
    return { files, seconds, adapter: engine.adapter };
  } catch (error) {
    // What was done is told all the same.
    const broken = error as Error;
    if (files.every((file) => file === undefined)) throw broken;
    const message = `not recognised: ${broken.message.split("\n")[0]}`;
    for (const [index, { path }] of found.entries()) files[index] ??= { file: path, error: message };
    return { files, seconds, adapter: engine.adapter, broken };
  } finally {
    bar.stop();
    engine.close();
  }
}

/** The last line or the JSON, and the exit status. */
function conclude(
  { values, print, printJson }: Context<typeof options>,
  model: SpeechModel,
  { files, seconds, adapter, broken }: Results,
): number {
  const total = files.reduce((sum, file) => sum + ("seconds" in file ? file.seconds : 0), 0);
  if (total > 0)
    print(
      `${total.toFixed(1)} s of audio in ${formatSeconds(seconds)}, ${formatSeconds(seconds / total)} per second of audio, on ${adapter}`,
    );
  printJson({ model: model.path, adapter, dtype: values.dtype, files, audioSeconds: total, seconds });
  if (broken) throw broken;
  return files.some((file) => "error" in file) ? 1 : 0;
}

/** The recogniser, opened when the first recording has been read: bad input needs no GPU. */
class OpenOnce implements Engine {
  adapter: string | undefined;
  readonly #host: Host;
  readonly #values: Values<typeof options>;
  readonly #model: SpeechModel;
  #device: Device | undefined;
  #recognizer: Recognizer | undefined;

  constructor(host: Host, values: Values<typeof options>, model: SpeechModel) {
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

/** The trained one, else the demo's. */
function modelInTheBox(): string {
  const found = bundled("default") ?? bundled("demo");
  if (!found) throw new UsageError("Cannot run without --model DIR: no model is bundled");
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

/** wavegate predict: words and emotion of recordings. */
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { bundled } from "../src/host/bundled_model.ts";
import { type Prediction, predict } from "../src/speech/predict/predict.ts";
import { type FoundRecording, findRecordings } from "../src/speech/predict/recordings.ts";
import {
  openModelFolder,
  requireOwnWords,
  requireSpeechEncoder,
  type SpeechModel,
} from "../src/speech/system/folder.ts";
import type { Recognition } from "../src/speech/system/recognizer.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openTunedDevice, tuningOptions } from "./device.ts";
import { formatSeconds } from "./format.ts";
import { firstLine, onOneLine } from "./output.ts";
import { SUMMARIES } from "./summaries.ts";

const UNTRAINED =
  "predict: the model in weights/demo is untrained, so its words and emotions mean nothing; --model DIR names another";

const options = {
  model: { type: "string", value: "DIR", help: "model folder; by default the bundled one" },
  ...deviceOptions,
  ...tuningOptions,
  dtype: { type: "string", choices: ["f32", "f16"], default: "f32", help: "storage of the weights" },
  activations: {
    type: "string",
    choices: ["f32", "f16"],
    default: "f32",
    help: "what layers hand on to each other",
  },
  beam: { type: "count", value: "N", help: "beam search of this width; greedy without" },
  batch: { type: "count", value: "N", default: 8, help: "most recordings at once" },
} as const;

export const verb = defineVerb({
  name: "predict",
  summary: SUMMARIES.predict,
  usage: "FILE… [options]   (a folder stands for every *.wav below it, - for standard input)",
  example: "wavegate predict a.wav recordings/ --model my-model --json",
  options,
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main(context) {
    const { values, operands, note } = context;
    const host = await currentHost();
    const model = await openModelFolder(host, values.model ?? defaultModel());
    try {
      requireSpeechEncoder(model);
      requireOwnWords(model);
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

type Results = Prediction & { readonly files: readonly (ReturnType<typeof record> | Failure)[] };

/** Recognises all recordings that can be read, and prints each result or error. */
async function recogniseAll(
  host: Host,
  model: SpeechModel,
  found: readonly FoundRecording[],
  { values, json, print, note, progress }: Context<typeof options>,
): Promise<Results> {
  const files: (ReturnType<typeof record> | Failure)[] = [];
  const bar = progress("recognising", found.length, { unit: "files" });
  try {
    const { dtype, activations, beam, batch } = values;
    const done = await predict(host, model, found, {
      ...{ dtype, activations, beam, batch },
      openDevice: () => openTunedDevice(host, values, (line) => note(`predict: ${line}`)),
      onOpen: () => {
        if (model.path === bundled("demo")) note(UNTRAINED);
      },
      onResult(index, recognition) {
        const { path } = found[index];
        files[index] = record(path, recognition);
        bar.stop();
        if (!json) for (const line of lines(path, recognition)) print(line);
      },
      onError(index, error) {
        const { path } = found[index];
        const message = firstLine(error.message, [path]);
        files[index] = { file: path, error: message };
        note(`wavegate predict: ${message}`);
      },
      onNote: (path, line) => note(`predict: ${onOneLine(path)}: ${line}`),
      onProgress: (done) => bar.update(done),
    });
    if (done.broken) {
      const message = `not recognised: ${done.broken.message.split("\n")[0]}`;
      for (const [index, { path }] of found.entries()) files[index] ??= { file: path, error: message };
    }
    return { files, ...done };
  } finally {
    bar.stop();
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
  const { dtype, activations } = values;
  printJson({ model: model.path, adapter, dtype, activations, files, audioSeconds: total, seconds });
  if (broken) throw broken;
  return files.some((file) => "error" in file) ? 1 : 0;
}

/** The bundled model that is trained, else the one of the demo. */
function defaultModel(): string {
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

/** wavegate predict: words and emotion of recordings. */
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { bundled } from "../src/host/bundled_model.ts";
import { RAW_ENCODINGS, type RawFormat } from "../src/io/audio_stream.ts";
import { segmentOptions, type SegmentOptions } from "../src/io/segmenter.ts";
import { checkWritable } from "../src/io/write_whole.ts";
import { FORMATS, type RecognizedFile, segmentsOf } from "../src/speech/predict/formats.ts";
import type { LongRecognition, RecognizedSegment } from "../src/speech/predict/long.ts";
import { type Prediction, predict } from "../src/speech/predict/predict.ts";
import { type FoundRecording, findRecordings } from "../src/speech/predict/recordings.ts";
import {
  type ModelFolder,
  openModelFolder,
  requireOwnWords,
  requireSpeechEncoder,
  type SpeechModel,
  withLanguageModel,
} from "../src/speech/system/folder.ts";
import { joinedWords, type Recognition } from "../src/speech/system/recognizer.ts";
import { type Context, defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openTunedDevice, tuningOptions } from "./device.ts";
import { formatSeconds } from "./format.ts";
import { modelOf, OR_HUB } from "./hub.ts";
import { firstLine, onOneLine } from "./output.ts";
import { Outputs, planOutputs, writeEmbeddings } from "./predict/outputs.ts";
import { languageModelOption, languageModelPath } from "./language_model.ts";
import { SUMMARIES } from "./summaries.ts";

const UNTRAINED =
  "predict: the model in weights/demo is untrained, so its words and emotions mean nothing; --model DIR names another";

const options = {
  model: { type: "string", value: "DIR", help: `model folder, ${OR_HUB}; by default the bundled one` },
  words: {
    type: "string",
    value: "DIR",
    help: "a second folder, whose CTC head writes the words for a model that writes none",
  },
  ...deviceOptions,
  ...tuningOptions,
  dtype: { type: "string", choices: ["f32", "f16"], default: "f32", help: "storage of the weights" },
  activations: {
    type: "string",
    choices: ["f32", "f16"],
    default: "f32",
    help: "what layers hand on to each other",
  },
  beam: {
    type: "count",
    value: "N",
    help: "beam search of this width; greedy without, and 32 with a language model",
  },
  ...languageModelOption,
  batch: { type: "count", value: "N", default: 8, help: "most recordings at once" },
  segments: {
    type: "string",
    choices: ["auto", "always", "never"],
    default: "auto",
    help: "divide recordings into segments of speech; auto: those longer than a window",
  },
  window: {
    type: "number",
    value: "S",
    default: 30,
    help: "longest segment in seconds; longer speech is divided",
  },
  "min-silence": { type: "number", value: "S", default: 0.5, help: "seconds of silence that end a segment" },
  format: { type: "string", choices: FORMATS, help: "write results so, to stdout or --out" },
  out: {
    type: "string",
    value: "PATH",
    help: "write results into this file, or into a folder, a file of each recording",
  },
  embeddings: {
    type: "string",
    value: "FILE",
    help: "write what the speech encoder makes of them, as safetensors",
  },
  level: {
    type: "string",
    choices: ["utterance", "frame"],
    default: "utterance",
    help: "of --embeddings: the mean of each segment, or each frame",
  },
  raw: { type: "string", choices: RAW_ENCODINGS, help: "recordings are samples without a header" },
  rate: { type: "count", value: "HZ", help: "of --raw; 16000 without" },
  channels: { type: "count", value: "N", help: "of --raw; 1 without" },
} as const;

export const verb = defineVerb({
  name: "predict",
  summary: SUMMARIES.predict,
  usage: "FILE… [options]   (WAV, MP3, FLAC, Ogg; a folder stands for all below it, - for standard input)",
  example: "wavegate predict a.wav recordings/ --model my-model --json",
  options,
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main(context) {
    const { values, operands, note } = context;
    const host = await currentHost();
    const segmentation = segmentationOf(values);
    const raw = rawOf(values);
    if (values.embeddings !== undefined) await checkWritable(host, values.embeddings);
    const opened = async (name: string) =>
      await openModelFolder(host, await modelOf(host, name, "predict", context));
    const opening: ModelFolder =
      values.model === undefined ? await openModelFolder(host, defaultModel()) : await opened(values.model);
    let words: ModelFolder | undefined;
    try {
      requireSpeechEncoder(opening);
      if (values.words === undefined) requireOwnWords(opening);
      else {
        words = await opened(values.words);
        joinedWords(opening, words);
      }
      const weighed = async <M extends ModelFolder>(each: M) =>
        values.lm === undefined ? each : await withLanguageModel(host, each, languageModelPath(values.lm));
      if (words) words = await weighed(words);
      const model = words ? opening : await weighed(opening);
      const languageModel = (words ?? model).languageModel?.path;
      for (const line of [...model.notes, ...(words?.notes ?? []), ...limitsOf(model, words)])
        note(`predict: ${line}`);
      const found = await findRecordings(host, operands);
      const asked = values.format === undefined && values.out === undefined ? undefined : values;
      if (context.json && asked?.format !== undefined && asked.format !== "json" && asked.out === undefined)
        throw new UsageError(
          `Cannot write both --json and --format ${asked.format} to stdout: --out takes one`,
        );
      const plan =
        asked &&
        (await planOutputs(
          host,
          asked,
          found.map(({ path }) => path),
        ));
      const toStdout = plan !== undefined && plan.file === undefined && plan.each === undefined;
      const quiet = toStdout ? { ...context, print: () => {} } : context;
      const outputs =
        plan &&
        new Outputs(host, plan, model.path, (files) => ({
          ...{ model: model.path, words: values.words, languageModel },
          ...{ dtype: values.dtype, activations: values.activations },
          files: files.map(({ file, recognition }) => record(file, recognition)),
        }));
      const settings = { segmentation, raw, outputs };
      const results = await recogniseAll(host, model, words, found, quiet, settings);
      const text = await outputs?.finish();
      // --json prints a document of its own.
      if (text !== undefined && !context.json) context.print(text.replace(/\n$/, ""));
      if (values.embeddings !== undefined) {
        const silent = results.recognised.filter(({ recognition }) => segmentsOf(recognition).length === 0);
        for (const { file } of silent)
          note(`predict: ${onOneLine(file)}: it is silent, and has no embedding`);
        await writeEmbeddings(host, values.embeddings, results.recognised, {
          ...{ level: values.level, model: model.path },
        });
      }
      return conclude(quiet, { path: model.path, languageModel }, results);
    } finally {
      await opening.weights.close();
      await words?.weights.close();
    }
  },
});

interface Failure {
  readonly file: string;
  readonly error: string;
}

type Results = Prediction & {
  readonly files: readonly (ReturnType<typeof record> | Failure)[];
  readonly recognised: readonly RecognizedFile[];
};

/** What recogniseAll() takes beside the options. */
interface Settings {
  readonly segmentation: SegmentOptions;
  readonly raw?: RawFormat;
  readonly outputs?: Outputs;
}

type Values = Context<typeof options>["values"];

function segmentationOf(values: Values): SegmentOptions {
  const { window: maxSpeech, "min-silence": minSilence } = values;
  try {
    const overlap = Math.min(segmentOptions().overlap, maxSpeech / 2);
    return segmentOptions({ maxSpeech, minSilence, overlap });
  } catch (error) {
    const names = { maxSpeech: "--window", minSilence: "--min-silence" };
    const { message } = error as Error;
    throw new UsageError(Object.entries(names).reduce((text, [from, to]) => text.replace(from, to), message));
  }
}

function rawOf({ raw, rate, channels }: Values): RawFormat | undefined {
  if (raw !== undefined) return { encoding: raw as RawFormat["encoding"], rate, channels };
  const option = rate !== undefined ? "rate" : channels !== undefined ? "channels" : undefined;
  if (option)
    throw new UsageError(`Cannot use --${option} without --raw: other recordings say it themselves`);
  return undefined;
}

/** Recognises all recordings that can be read, and prints each result or error. */
async function recogniseAll(
  host: Host,
  model: SpeechModel,
  words: ModelFolder | undefined,
  found: readonly FoundRecording[],
  { values, json, print, note, progress }: Context<typeof options>,
  { segmentation, raw, outputs }: Settings,
): Promise<Results> {
  const files: (ReturnType<typeof record> | Failure)[] = [];
  const recognised: RecognizedFile[] = [];
  const embeddings = values.embeddings === undefined ? undefined : (values.level as "utterance" | "frame");
  const segments = values.segments as "auto" | "always" | "never";
  const bar = progress("recognising", found.length, { unit: "files" });
  try {
    const { dtype, activations, beam, batch } = values;
    const done = await predict(host, model, found, {
      ...{ dtype, activations, words, beam, batch, segments, segmentation, raw, embeddings },
      openDevice: () => openTunedDevice(host, values, (line) => note(`predict: ${line}`)),
      onOpen: () => {
        if (model.path === bundled("demo")) note(UNTRAINED);
      },
      onResult(index, recognition) {
        const { path } = found[index];
        files[index] = record(path, recognition);
        outputs?.add(index, { file: path, recognition });
        if (embeddings) recognised.push({ file: path, recognition });
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
      ...(outputs ? { onSamples: (index, piece) => outputs.samples(index, piece) } : {}),
      onProgress: (done, seconds) =>
        bar.update(done, seconds === undefined ? undefined : `${formatSeconds(seconds)} heard`),
    });
    if (done.broken) {
      const message = `not recognised: ${done.broken.message.split("\n")[0]}`;
      for (const [index, { path }] of found.entries()) files[index] ??= { file: path, error: message };
    }
    return { files, recognised, ...done };
  } finally {
    bar.stop();
  }
}

/** What published models will not tell. */
function limitsOf(
  { path, architecture, emotion, classifier, vocabulary }: ModelFolder,
  words?: ModelFolder,
): string[] {
  const lines: string[] = [];
  const what = `${path} is ${architecture ? `a ${architecture}` : "a published model"}`;
  if (classifier && !words)
    lines.push(`${what}, which writes no words; --words DIR adds a model with a CTC head`);
  if (vocabulary && !emotion) lines.push(`${what}, which writes words and names no emotion`);
  if (words?.emotion || words?.classifier) lines.push(`of ${words.path} the words alone are used`);
  return lines;
}

/** The last line or the JSON, and the exit status. */
function conclude(
  { values, print, printJson }: Context<typeof options>,
  { path, languageModel }: { readonly path: string; readonly languageModel?: string },
  { files, seconds, adapter, broken }: Results,
): number {
  const total = files.reduce((sum, file) => sum + ("seconds" in file ? file.seconds : 0), 0);
  if (total > 0)
    print(
      `${total.toFixed(1)} s of audio in ${formatSeconds(seconds)}, ${formatSeconds(seconds / total)} per second of audio, on ${adapter}`,
    );
  const { dtype, activations } = values;
  printJson({
    model: path,
    words: values.words,
    languageModel,
    adapter,
    dtype,
    activations,
    files,
    audioSeconds: total,
    seconds,
  });
  if (broken) throw broken;
  return files.some((file) => "error" in file) ? 1 : 0;
}

/** The bundled model that is trained, else the one of the demo. */
function defaultModel(): string {
  const found = bundled("default") ?? bundled("demo");
  if (!found) throw new UsageError("Cannot run without --model DIR: no model is bundled");
  return found;
}

function record(file: string, recognition: Recognition | LongRecognition) {
  const { seconds } = recognition;
  if (!("segments" in recognition)) return { file, seconds, ...told(recognition) };
  const segments = recognition.segments.map((segment) => ({
    ...{ start: round(segment.start), end: round(segment.end) },
    ...told(segment),
  }));
  return { file, seconds, ...told(recognition), segments };
}

/** As JSON has it: the text and the words beside the rest, times in milliseconds. */
function told({ silent, transcript, emotion, probabilities, gates }: Omit<Recognition, "seconds">) {
  const words = transcript?.words.map(({ text, start, end, confidence }) => ({
    ...{ text, start: round(start), end: round(end), confidence },
  }));
  return {
    ...(silent ? { silent } : {}),
    ...(transcript ? { transcript: transcript.text, words } : {}),
    ...(emotion === undefined ? {} : { emotion, probabilities }),
    ...(gates ? { gates } : {}),
  };
}

const round = (time: number) => Math.round(time * 1000) / 1000;

/** Most labels that are shown with their probabilities. */
const MANY = 12;

function lines(file: string, recognition: Recognition | LongRecognition): string[] {
  const { seconds, silent, transcript, emotion, probabilities, gates } = recognition;
  const segments = "segments" in recognition ? recognition.segments : undefined;
  const count = segments ? `, ${segments.length} segment${segments.length === 1 ? "" : "s"} of speech` : "";
  const shown = [`${onOneLine(file)}  (${seconds.toFixed(2)} s${count})`];
  if (silent)
    shown.push(
      segments
        ? "  silent   no words and no emotion: no speech was found"
        : "  silent   no words and no emotion: not 100 ms of it are louder than -72 dB of full scale",
    );
  if (segments) for (const segment of segments) shown.push(segmentLine(segment));
  else if (transcript) shown.push(`  words    ${transcript.text || "(none)"}`);
  if (emotion && probabilities) {
    const all = Object.entries(probabilities).map(([label, p]) => [label, p] as const);
    // A classifier of speakers or of keywords may have a thousand labels.
    const listed = all.length > MANY ? all.sort(([, a], [, b]) => b - a).slice(0, MANY) : all;
    const rest = all.length > MANY ? `, and ${all.length - MANY} more` : "";
    const each = listed.map(([label, p]) => `${onOneLine(label)} ${p.toFixed(3)}`);
    shown.push(`  emotion  ${onOneLine(emotion)}  (${each.join(", ")}${rest})`);
  }
  if (gates) shown.push(`  gates    acoustic ${gates.acoustic.toFixed(3)}, text ${gates.text.toFixed(3)}`);
  return shown;
}

function segmentLine({ start, end, emotion, probabilities, transcript }: RecognizedSegment): string {
  const times = [start, end].map(
    (time) => `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`,
  );
  const named = emotion && `${onOneLine(emotion)} ${(probabilities?.[emotion] ?? 0).toFixed(3)}`;
  const words = transcript && (transcript.text || "(no words)");
  return `  ${[`${times[0]} to ${times[1]}`.padEnd(16), named, words].filter(Boolean).join("  ")}`;
}

if (isMain(import.meta)) await runVerb(verb);

/** wavegate predict: words and emotion of recordings. */
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { openModelFolder, requireEars } from "../src/models/folder.ts";
import { openRecognizer, type Recognition, type Recognizer } from "../src/models/recognizer.ts";
import { boxed } from "./box.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatSeconds } from "./format.ts";
import { type Complain, findRecordings, readWindows, type Recording } from "./predict/recordings.ts";

const UNTRAINED =
  "predict: the model in weights/demo is untrained, so its words and emotions mean nothing; --model DIR names another";

export const verb = defineVerb({
  name: "predict",
  summary: "words and emotion of recordings",
  usage: "FILE… [options]   (a folder stands for every *.wav below it)",
  example: "wavegate predict a.wav recordings/ --model my-model --json",
  options: {
    model: { type: "string", value: "DIR", help: "model folder; by default the one in the box" },
    ...deviceOptions,
    dtype: { type: "string", choices: ["f32", "f16"], default: "f32", help: "storage of the weights" },
    beam: { type: "count", value: "N", help: "beam search of this width; greedy without" },
    batch: { type: "count", value: "N", default: 8, help: "most recordings at once" },
  },
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main({ values, operands, json, print, printJson, note, progress }) {
    const host = await currentHost();
    const failed: { file: string; error: string }[] = [];
    const complain: Complain = (file, problem) => {
      const error = (problem as Error).message.split("\n")[0];
      failed.push({ file, error });
      note(`wavegate predict: ${error}`);
    };
    const paths = await findRecordings(host, operands, complain);
    const model = await openModelFolder(host, values.model ?? boxedModel());
    requireEars(model);
    const heard: ReturnType<typeof record>[] = [];
    const bar = progress("recognising", paths.length, { unit: "files" });
    const run: Run = { elapsed: 0 };
    for await (const window of readWindows(host, paths, complain)) {
      for (const { path, audio } of window) for (const odd of audio.notes) note(`predict: ${path}: ${odd}`);
      if (!run.recognizer) {
        run.device = await openChosenDevice(host, values);
        run.recognizer = await openRecognizer(host, run.device, model, { dtype: values.dtype });
        if (model.path === boxed("demo")) note(UNTRAINED);
      }
      const fitting = window.filter((recording) => fits(run.recognizer!, recording, complain));
      const start = performance.now();
      const found = await run.recognizer.recognize(
        fitting.map(({ audio }) => audio.samples),
        {
          beam: values.beam,
          batch: values.batch,
          onProgress: (done) => bar.update(heard.length + failed.length + done),
        },
      );
      run.elapsed += (performance.now() - start) / 1000;
      bar.stop();
      fitting.forEach(({ path }, i) => {
        heard.push(record(path, found[i]));
        if (!json) for (const line of lines(path, found[i])) print(line);
      });
    }
    await model.weights.close();
    const total = heard.reduce((sum, { seconds }) => sum + seconds, 0);
    const adapter = run.device?.info.name;
    if (total > 0)
      print(
        `${total.toFixed(1)} s of audio in ${formatSeconds(run.elapsed)}, ${formatSeconds(run.elapsed / total)} per second of audio, on ${adapter}`,
      );
    const files = [...heard, ...failed];
    printJson({
      model: model.path,
      adapter,
      dtype: values.dtype,
      files,
      audioSeconds: total,
      seconds: run.elapsed,
    });
    run.recognizer?.dispose();
    run.device?.dispose();
    return failed.length > 0 ? 1 : 0;
  },
});

/** Opened when the first recording has been read: bad input needs no GPU. */
interface Run {
  device?: Device;
  recognizer?: Recognizer;
  /** Seconds of recognising alone. */
  elapsed: number;
}

function fits(recognizer: Recognizer, { path, audio }: Recording, complain: Complain): boolean {
  try {
    recognizer.check(audio.samples.length);
    return true;
  } catch (error) {
    complain(path, new Error(`${path}: ${(error as Error).message}`));
    return false;
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

function lines(file: string, { seconds, transcript, emotion, probabilities, gates }: Recognition): string[] {
  const shown = [`${file}  (${seconds.toFixed(2)} s)`];
  if (transcript) shown.push(`  words    ${transcript.text || "(none)"}`);
  if (emotion && probabilities) {
    const all = Object.entries(probabilities).map(([label, p]) => `${label} ${p.toFixed(3)}`);
    shown.push(`  emotion  ${emotion}  (${all.join(", ")})`);
  }
  if (gates) shown.push(`  gates    acoustic ${gates.acoustic.toFixed(3)}, text ${gates.text.toFixed(3)}`);
  return shown;
}

if (isMain(import.meta)) await runVerb(verb);

/** wavegate predict: words and emotion of recordings. */
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { type Audio, readWav } from "../src/io/audio.ts";
import { openModelFolder } from "../src/models/folder.ts";
import { openRecognizer, type Recognition, type Recognizer } from "../src/models/recognizer.ts";
import { boxed } from "./box.ts";
import { defineVerb, isMain, runVerb, UsageError } from "./cli.ts";
import { deviceOptions, openChosenDevice } from "./device.ts";
import { formatSeconds } from "./format.ts";

/** Recordings are read and recognised in windows of so many files or seconds, so that a corpus need not fit in memory. */
const WINDOW = { files: 64, seconds: 600 };

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
    beam: { type: "number", value: "N", help: "beam search of this width; greedy without" },
    batch: { type: "number", value: "N", default: 8, help: "most recordings at once" },
  },
  operands: { min: 1, max: Number.POSITIVE_INFINITY },
  async main({ values, operands, json, print, printJson, note, progress }) {
    for (const name of ["beam", "batch"] as const) {
      const value = values[name];
      if (value !== undefined && !(Number.isInteger(value) && value >= 1))
        throw new UsageError(`Cannot read --${name} ${value}: it is a whole number of at least 1`);
    }
    const host = await currentHost();
    const complaints = new Map<string, string>();
    const complain = (path: string, error: unknown) => {
      const message = (error as Error).message.split("\n")[0];
      complaints.set(path, message);
      note(`wavegate predict: ${message}`);
    };
    const paths = await expand(host, operands, complain);
    const model = await openModelFolder(host, values.model ?? boxedModel());
    const files: unknown[] = [];
    const bar = progress("recognising", paths.length, "files");
    let device: Device | undefined;
    let recognizer: Recognizer | undefined;
    let [audioSeconds, elapsed] = [0, 0];
    try {
      for await (const window of windows(host, paths, complain)) {
        if (!device && model.path === boxed("demo")) note(UNTRAINED);
        device ??= await openChosenDevice(host, values);
        recognizer ??= await openRecognizer(host, device, model, { dtype: values.dtype });
        const heard = window.filter(({ path, audio }) => accepts(recognizer!, path, audio, complain));
        const start = performance.now();
        const found = await recognizer.recognize(
          heard.map(({ audio }) => audio.samples),
          {
            beam: values.beam,
            batch: values.batch,
            onProgress: (done) => bar.update(files.length + done),
          },
        );
        elapsed += (performance.now() - start) / 1000;
        bar.stop();
        heard.forEach(({ path }, i) => {
          audioSeconds += found[i].seconds;
          files.push(record(path, found[i]));
          if (!json) for (const line of lines(path, found[i])) print(line);
        });
      }
    } finally {
      bar.stop();
      await model.weights.close();
    }
    for (const [file, error] of complaints) files.push({ file, error });
    if (device && audioSeconds > 0) {
      const pace = elapsed / audioSeconds;
      print(
        `${audioSeconds.toFixed(1)} s of audio in ${formatSeconds(elapsed)}, ${formatSeconds(pace)} per second of audio, on ${device.info.name}`,
      );
    }
    printJson({
      model: model.path,
      adapter: device?.info.name,
      dtype: values.dtype,
      files,
      audioSeconds,
      seconds: elapsed,
    });
    recognizer?.dispose();
    device?.dispose();
    return complaints.size > 0 ? 1 : 0;
  },
});

type Complain = (path: string, error: unknown) => void;

/** Files as they are, folders as the WAV files below them. */
async function expand(host: Host, operands: readonly string[], complain: Complain): Promise<string[]> {
  const walk = async (folder: string): Promise<string[]> => {
    const found: string[] = [];
    for (const name of await host.list(folder)) {
      const path = `${folder.replace(/\/+$/, "")}/${name}`;
      if ((await host.kind(path)) === "directory") found.push(...(await walk(path)));
      else if (/\.wav$/i.test(name)) found.push(path);
    }
    return found;
  };
  const paths: string[] = [];
  for (const operand of operands) {
    if ((await host.kind(operand)) !== "directory") {
      paths.push(operand);
      continue;
    }
    const below = await walk(operand);
    if (below.length === 0)
      complain(operand, new Error(`Cannot find a recording in ${operand}: no *.wav is below it`));
    paths.push(...below);
  }
  return paths;
}

interface Read {
  readonly path: string;
  readonly audio: Audio;
}

/** Reads recordings a window at a time; those that cannot be read are complained of and left out. */
async function* windows(host: Host, paths: readonly string[], complain: Complain): AsyncGenerator<Read[]> {
  let window: Read[] = [];
  let seconds = 0;
  for (const path of paths) {
    try {
      const audio = await readWav(host, path);
      window.push({ path, audio });
      seconds += audio.seconds;
    } catch (error) {
      complain(path, error);
    }
    if (window.length >= WINDOW.files || seconds >= WINDOW.seconds) {
      yield window;
      [window, seconds] = [[], 0];
    }
  }
  if (window.length > 0) yield window;
}

function accepts(recognizer: Recognizer, path: string, audio: Audio, complain: Complain): boolean {
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

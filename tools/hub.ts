/** What verbs that take a model say of one that comes from the hub. */
import process from "node:process";
import type { Host } from "../src/host/host.ts";
import { resolveModel, type PullOptions, type PullProgress } from "../src/hub/mod.ts";
import { readJson } from "../src/io/config.ts";
import { familyOf, has } from "../src/models/family.ts";
import type { Context } from "./cli.ts";
import { formatBytes, formatSeconds } from "./format.ts";
import type { Progress } from "./progress.ts";

/** What --help says of an option that modelOf() reads. */
export const OR_HUB = "or ORG/NAME[@REVISION] of the Hugging Face Hub";

/** Milliseconds between lines where stderr is no terminal. */
const LINE_EVERY = 10_000;

type Output = Pick<Context, "note" | "progress" | "signal">;

/** The folder of --model, --hubert and their like: one that is there, or a model of the hub, which is pulled. */
export async function modelOf(host: Host, name: string, verb: string, output: Output): Promise<string> {
  const pulling = pullOptions(host, verb, output);
  try {
    return await resolveModel(host, name, pulling.options);
  } finally {
    pulling.stop();
  }
}

/** Options of pullModel() that show on stderr what comes: a bar on a terminal, else a line for each file, and now and then. */
export function pullOptions(host: Host, verb: string, { note, progress, signal }: Output) {
  let bar: { path: string; shown: Progress } | undefined;
  let began = 0;
  let spoke = 0;
  const stop = () => {
    bar?.shown.stop();
    bar = undefined;
  };
  const say = (line: string) => {
    stop();
    note(`${verb}: ${line}`);
  };
  const onProgress = ({ path, bytes, of, from }: PullProgress) => {
    const now = performance.now();
    if (bar?.path !== path) {
      stop();
      began = spoke = now;
      bar = { path, shown: progress(path, of / 2 ** 20, { unit: "MiB", from: from / 2 ** 20 }) };
    }
    bar.shown.update(bytes / 2 ** 20);
    const seconds = (now - began) / 1000;
    if (bytes === of) say(`${path}: ${formatBytes(of - from)} in ${formatSeconds(seconds)}`);
    else if (!process.stderr.isTTY && now - spoke > LINE_EVERY) {
      spoke = now;
      const left = formatSeconds(((of - bytes) * seconds) / Math.max(1, bytes - from));
      note(`${verb}: ${path}: ${formatBytes(bytes)} of ${formatBytes(of)}, ${left} left`);
    }
  };
  const options: PullOptions = {
    onNote: say,
    onProgress,
    check: (folder) => checkFamily(host, folder),
    signal,
  };
  return { options, stop };
}

/** Throws where a model is of no family that is known here, before its weights are downloaded. */
async function checkFamily(host: Host, folder: string): Promise<void> {
  const path = `${folder}/config.json`;
  const json = await readJson(host, path);
  if (!has(json, "hubert") && !has(json, "bert")) familyOf(json, path, ["hubert", "wav2vec2", "bert"]);
}

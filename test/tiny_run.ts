/** Runs of a system of four weights on a disk in memory: for tests of what a run does around its training. Opens a device. */
import assert from "node:assert/strict";
import { currentHost } from "../src/host/current.ts";
import type { Host } from "../src/host/host.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { Linear } from "../src/nn/linear.ts";
import { Weights } from "../src/nn/weights.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import type { Utterance } from "../src/speech/corpora/corpus.ts";
import { applySettings, checkConfig, type TrainConfig } from "../src/speech/recipes/config.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import type { build } from "../src/speech/training/build.ts";
import { type RunOptions, trainRun } from "../src/speech/training/run.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { saveWeights } from "../src/train/checkpoint.ts";
import { RunFolder } from "../src/train/run_folder.ts";
import type { DevResult, Task } from "../src/train/task.ts";
import { testDevice } from "./device.ts";
import { type Disk, diskHost } from "./memory_disk.ts";

const device = await testDevice();
export const host = await currentHost();

const utterance: Utterance = {
  ...{ id: "u", wav: "u.wav", text: "so", words: "SO", label: "sad", speaker: "01F", session: "Session1" },
  ...{ dialogue: "d", improvised: true, start: 0, end: 1, seconds: 1 },
};
const data: RunOptions["data"] = {
  examined: {
    ...{ utterances: [utterance], problems: [] },
    ...{ notForTraining: new Set<string>(), notForCtc: new Set<string>() },
  },
  fold: { name: "Session1", train: [utterance], dev: [], test: [] },
};

export const recipe = (...settings: string[]): TrainConfig =>
  checkConfig(
    applySettings(trainConfig({ preset: "nano", system: "both-cmgi", data: "corpus", fold: 1 }), [
      ...["stages=[1,2]", "stage1.epochs=2", "stage2.epochs=1", "stage1.select=loss", "stage2.select=last"],
      ...["checkpoints.every=1", ...settings],
    ]),
    "the test",
  );

/** What a fake task's files are like: which items of an epoch can be read, and how many of the dev set. */
export interface Corpus {
  readonly items: number;
  reads(index: number, epoch: number): boolean;
  /** Figures after the epoch (from 0) of which a batch was read last. */
  dev?(epoch: number): { loss: number; utterances?: number; of?: number };
}

export const whole: Corpus = { items: 2, reads: () => true };

/** A system of one linear map, four weights in all: what a run does around it is what is tested. */
function tiny(on: Host, corpus: Corpus): typeof build {
  return async (_device, config, stage, chosen, checkpoint) => {
    const folder = checkpoint ?? chosen[1];
    const file = folder === undefined ? undefined : await openSafetensors(on, `${folder}/model.safetensors`);
    const weights = new Weights(device, { file, path: folder, seed: config.seed });
    const head = new Linear(weights.root.at("head"), 1, 2);
    await weights.initialize();
    await file?.close();
    let at = 0;
    const task: Task<readonly number[]> = {
      items: "utterances",
      parameters: weights.parameters,
      plan: (epoch) => Array.from({ length: corpus.items }, (_, i) => [(i + epoch) % corpus.items]),
      load: async (indices, epoch) => {
        at = epoch;
        const read = indices.filter((i) => corpus.reads(i, epoch));
        return read.length > 0 ? read : undefined;
      },
      size: (batch) => batch.length,
      amount: (batch) => batch.length,
      losses: ([i]) => {
        const x = Tensor.from(device, Float32Array.of(1 + i), [1, 1]);
        return { loss: crossEntropy(head.forward(x), [(i + stage) % 2]), parts: {} };
      },
      evaluate: async () => {
        const [w] = await head.weight.value.read();
        const { loss = 1 + Math.abs(w), ...counts } = corpus.dev?.(at) ?? {};
        return { loss, ...counts } as DevResult;
      },
      save: (path) => saveWeights(on, `${path}/model.safetensors`, weights.parameters),
    };
    return { weights, task: task as Task<unknown> };
  };
}

/** What its owner types until the run is done: the same command, or --resume once the run has its config. */
export async function go(
  on: Host,
  config: TrainConfig,
  {
    corpus = whole,
    signal,
    onStep,
  }: Partial<Pick<RunOptions, "signal" | "onStep">> & { corpus?: Corpus } = {},
): Promise<string[]> {
  const resume = (await on.kind("run/config.json")) === "file";
  const run = resume ? await RunFolder.open(on, "run") : await RunFolder.create(on, "run", config);
  const notices: string[] = [];
  await trainRun({
    ...{ device, run, config, data, resume },
    signal: signal ?? new AbortController().signal,
    buildStage: tiny(on, corpus),
    onStep,
    onNote: (line) => notices.push(line),
  });
  return notices;
}

/** A file of the run, a character for each byte. */
export const text = (disk: Disk, path: string): string => {
  const found = disk.get(`run/${path}`);
  assert.ok(found instanceof Uint8Array, `${path} is not there`);
  return new TextDecoder("latin1").decode(found);
};
/** The lines of the metrics, without what differs between equal runs. */
export const lines = (disk: Disk) =>
  text(disk, "metrics.jsonl")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { seconds: _s, bytes: _b, buffers: _n, bind_groups: _g, ...rest } = JSON.parse(line);
      return rest;
    });
/** All that a run leaves, without what the clock says. */
export const outcome = (disk: Disk) => ({
  names: [...disk.keys()].filter((name) => name !== "run/log.txt").sort(),
  model: text(disk, "model/model.safetensors"),
  metrics: lines(disk),
  events: text(disk, "events.out.tfevents.wavegate").length,
});

/** The state of the newest checkpoint. */
export async function newestState(disk: Disk) {
  const on = diskHost(host, disk);
  const [folder] = await (await RunFolder.open(on, "run")).finished();
  return JSON.parse(await on.readText(`${folder}/state.json`));
}

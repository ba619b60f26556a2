/**
 * One model in one dtype, in a process of its own: its first result, its forward pass and its training step, random weights.
 *
 *   tsx bench/gpu_report/models.ts hubert f16
 *
 * f16: forward passes read f16 weights; a training step keeps f32 weights of which products read f16 copies. A training step is
 * forward, backward, clipping and AdamW, without dropout, as gpu_report.py's.
 */
import process from "node:process";
import type { Device } from "../../src/gpu/device.ts";
import { BertForSequenceClassification } from "../../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../../src/models/config.ts";
import { frameCount, HubertForCTC } from "../../src/models/hubert.ts";
import { uniform } from "../../src/nn/random.ts";
import { type WeightScope, Weights } from "../../src/nn/weights.ts";
import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import { ctcLoss } from "../../src/ops/ctc.ts";
import { quantile } from "../../src/profile/statistics.ts";
import { BERT_BASE, HUBERT_LARGE, PRESETS } from "../../src/speech/recipes/presets.ts";
import { valueAndGrad } from "../../src/tensor/autograd.ts";
import { capture } from "../../src/tensor/capture.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { AdamW } from "../../src/train/optimizer.ts";
import { openBenchDevice } from "../device.ts";
import { gpuTimes } from "../measure.ts";
import { noiseFile } from "./noise.ts";
import { attempt, deliver, hasTime, leaveOut, quick } from "./section.ts";

const [model, dtype] = process.argv.slice(2) as ["hubert" | "bert", "f32" | "f16"];
const RUNS = quick ? 4 : 12;
const FEWEST = 4;
/** How long many in a row may take, where two do not take longer. */
const MOST_MS = 5000;
const BATCH = 2;
const SECONDS = quick ? 0.5 : 5;
/** Marks the sizes of --quick. */
const tiny = quick ? " (tiny)" : "";

const { nano } = PRESETS;
const noDropout = { hidden_dropout: 0, attention_dropout: 0, feat_proj_dropout: 0, layerdrop: 0 };
const hubertSettings = hubertConfig(
  { ...HUBERT_LARGE, ...(quick ? nano.model.hubert : {}), ...noDropout },
  "HuBERT-large",
);
const bertSettings = bertConfig(
  {
    ...{ ...BERT_BASE, vocab_size: 30522, num_labels: 4, ...(quick ? nano.model.bert : {}) },
    ...{ max_position_embeddings: 512, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 },
  },
  "BERT-base",
);

/** A model on its device, for one shape of input. */
interface Built {
  readonly forward: () => Tensor;
  readonly loss: () => Tensor;
}
/** An input, and the model that takes it. */
interface Shape {
  readonly what: string;
  /** Declares the parameters. */
  readonly layers: (root: WeightScope) => unknown;
  /** The same, and what is done with them. */
  readonly build: (weights: Weights) => Built;
}

const next = uniform(2);
const samples = Math.round(16_000 * SECONDS);
const noise = Float32Array.from({ length: BATCH * samples }, () => 2 * next() - 1);

const hubertLayers = (root: WeightScope) => new HubertForCTC(root, hubertSettings);
const bertLayers = (root: WeightScope) => new BertForSequenceClassification(root, bertSettings);

function hubert(weights: Weights): Built {
  const layers = hubertLayers(weights.root);
  const audio = Tensor.from(weights.device, noise, [BATCH, samples]).keep();
  const frames = frameCount(hubertSettings, samples);
  // Ten characters a second, and no more than the frames can spell.
  const length = Math.min(Math.round(10 * SECONDS), frames >> 1);
  const targets = Array.from({ length: BATCH }, () => Array.from({ length }, (_, i) => 1 + (i % 31)));
  const lengths = new Array<number>(BATCH).fill(frames);
  return {
    forward: () => layers.forward({ audio }).logits,
    loss: () => ctcLoss(layers.forward({ audio }).logits, targets, lengths),
  };
}

const bert =
  (tokens: number) =>
  (weights: Weights): Built => {
    const layers = bertLayers(weights.root);
    const ids = [Array.from({ length: tokens }, (_, i) => (1000 + 7 * i) % bertSettings.vocabSize)];
    return {
      forward: () => layers.forward({ ids }).logits,
      loss: () => crossEntropy(layers.forward({ ids }).logits, [1]),
    };
  };

const shapes: readonly Shape[] =
  model === "hubert"
    ? [{ what: `HuBERT-large${tiny}, ${BATCH} × ${SECONDS} s`, layers: hubertLayers, build: hubert }]
    : [64, 128].map((tokens) => ({
        what: `BERT-base${tiny}, ${tokens} tokens`,
        layers: bertLayers,
        build: bert(tokens),
      }));

const device = await openBenchDevice();
if (dtype === "f16" && !device.info.f16) {
  deliver({ note: `${model} in f16: ${device.info.name} has no f16` });
  process.exit(0);
}

/** Seconds spent on random weights, which a checkpoint would not need. */
let making = 0;
async function weightsOf(options: { dtype?: "f16"; matmulDType?: "f16" }, shape: Shape) {
  const begin = performance.now();
  const weights = new Weights(device, { file: noiseFile(shape.layers), path: "noise", ...options });
  const built = shape.build(weights);
  await weights.initialize();
  making += performance.now() - begin;
  return { weights, ...built };
}

/** Times `record` in three ways: one run that is waited for, many in a row, and the sum of its dispatches on the GPU. */
async function timed(on: Device, record: () => void) {
  const wall: number[] = [];
  while (wall.length < FEWEST || (wall.length < RUNS && hasTime(10))) {
    const begin = performance.now();
    record();
    await on.idle();
    wall.push(performance.now() - begin);
  }
  const once = quantile(wall, 0.5);
  const many = Math.max(2, Math.min(RUNS, Math.floor(MOST_MS / once)));
  const begin = performance.now();
  for (let i = 0; i < many; i++) record();
  await on.idle();
  const inARow = (performance.now() - begin) / many;
  const gpu = await gpuTimes(on, record, Math.min(FEWEST, many));
  return { once, inARow, gpu: gpu && quantile(gpu, 0.5), samples: wall };
}

/** Records a replay of `body`, and does the same as that: the same bits. */
async function replayed(body: () => Tensor, expected: Float32Array) {
  const captured = capture(device, body, { constants: true });
  captured.replay();
  const values = await captured.value.read();
  if (values.some((v, i) => !Object.is(v, expected[i]))) throw new Error("a replay gives other results");
  const times = await timed(device, () => captured.replay());
  captured.dispose();
  return times;
}

async function forwards(shape: Shape, first: boolean): Promise<void> {
  const { weights, forward } = await weightsOf(dtype === "f16" ? { dtype } : {}, shape);
  const run = () => {
    scope(device, forward).release();
  };
  const begin = performance.now();
  const y = scope(device, forward);
  const values = await y.read();
  y.release();
  // performance.now() counts from the start of the process.
  const cold = performance.now();
  if (values.some((v) => !Number.isFinite(v))) throw new Error("a result is not finite");
  const before = device.recorder.dispatches;
  run();
  const dispatches = device.recorder.dispatches - before;
  const times = await timed(device, run);
  const row = { model, what: shape.what, dtype, dispatches };
  deliver({
    ...{ ...row, mode: "forward", ...times },
    ...(first && { firstResult: cold - making, firstForward: cold - begin, weightsMade: making }),
  });
  deliver({ ...row, mode: "forward, replayed", ...(await replayed(forward, values)) });
  weights.dispose();
}

async function steps(shape: Shape): Promise<void> {
  const { weights, loss } = await weightsOf(dtype === "f16" ? { matmulDType: dtype } : {}, shape);
  // "matmulDType" checks the values; what products read is each parameter's.
  if (dtype === "f16") for (const parameter of weights.parameters) parameter.matmulDType = dtype;
  const optimizer = new AdamW(device, weights.parameters, {
    ...{ learningRate: 1e-5, weightDecay: 0.01, maxGradNorm: 1 },
  });
  const step = () => {
    const { value, gradients } = valueAndGrad(device, weights.parameters, loss);
    optimizer.step(gradients);
    return value;
  };
  const run = () => {
    scope(device, step).release();
  };
  const value = scope(device, step);
  const [from] = await value.read();
  value.release();
  const before = device.recorder.dispatches;
  run();
  const dispatches = device.recorder.dispatches - before;
  const times = await timed(device, run);
  const last = scope(device, step);
  const [to] = await last.read();
  last.release();
  const { peak } = device.pool.statistics;
  const row = { model, what: shape.what, dtype, mode: "training step", dispatches, peak };
  deliver({ ...row, loss: [from, to], ...times });
  weights.dispose();
  if (!(to < from)) throw new Error(`the loss went from ${from} to ${to}: the step does not learn`);
}

for (const [i, shape] of shapes.entries())
  await attempt(`${shape.what}, forward`, () => forwards(shape, i === 0));
for (const shape of shapes)
  if (hasTime(5)) await attempt(`${shape.what}, training step`, () => steps(shape));
  else leaveOut(`${shape.what}, training step`);
process.exit(0);

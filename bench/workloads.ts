/**
 * The peers' workloads on Wavegate: same data, same answers, same JSON line (see peers/README.md).
 *
 *   tsx bench/workloads.ts enc12 [--runs 5]
 */
import process from "node:process";
import type { Device } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { bertLayer } from "../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../src/models/config.ts";
import { FeatureExtractor, hubertLayer } from "../src/models/hubert.ts";
import { Weights } from "../src/nn/weights.ts";
import { full } from "../src/ops/elementwise.ts";
import { matmul } from "../src/ops/matmul.ts";
import { mse } from "../src/ops/mse.ts";
import { adamStep } from "../src/ops/optimizer.ts";
import { BERT_BASE, HUBERT_LARGE } from "../src/speech/recipes/presets.ts";
import { scope } from "../src/tensor/scope.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { distance } from "../src/validate/compare.ts";
import { openBenchDevice } from "./device.ts";

/** By the working directory: where these lines run as JavaScript, the data is not beside them. */
const DATA = `${process.cwd()}/bench/peers/data/`;
const host = await currentHost();

const bertBase = bertConfig({ ...BERT_BASE, vocab_size: 30522 }, "BERT-base");
const hubertLarge = hubertConfig(HUBERT_LARGE, "HuBERT-large");

/** The data's names for what BERT and HuBERT call by Hugging Face's keys. */
const shortNames: readonly (readonly [RegExp, string])[] = [
  [/^layer\.(\d+)\.attention\.self\.(q|k|v)\w+\./, "layers.$1.$2."],
  [/^layer\.(\d+)\.attention\.output\.dense\./, "layers.$1.o."],
  [/^layer\.(\d+)\.attention\.output\.LayerNorm\./, "layers.$1.ln1."],
  [/^layer\.(\d+)\.intermediate\.dense\./, "layers.$1.f1."],
  [/^layer\.(\d+)\.output\.dense\./, "layers.$1.f2."],
  [/^layer\.(\d+)\.output\.LayerNorm\./, "layers.$1.ln2."],
  [/^layers\.(\d+)\.attention\.(q|k|v)_proj\./, "layers.$1.$2."],
  [/^layers\.(\d+)\.attention\.out_proj\./, "layers.$1.o."],
  [/^layers\.(\d+)\.layer_norm\./, "layers.$1.ln1."],
  [/^layers\.(\d+)\.feed_forward\.intermediate_dense\./, "layers.$1.f1."],
  [/^layers\.(\d+)\.feed_forward\.output_dense\./, "layers.$1.f2."],
  [/^layers\.(\d+)\.final_layer_norm\./, "layers.$1.ln2."],
  [/^conv_layers\.(\d+)\.conv\./, "c.$1."],
  [/^conv_layers\.(\d+)\.layer_norm\./, "n.$1."],
];
const spellings = (key: string) =>
  shortNames.filter(([from]) => from.test(key)).map(([from, to]) => key.replace(from, to));
/** Slices of a model leave the rest of its file alone. */
const mayIgnore = () => true;

/** A prepared workload: `run` computes the result on the GPU, `expected` is PyTorch's. */
export interface Workload {
  readonly run: () => Tensor;
  readonly expected: Float32Array;
  readonly gflop: number;
}

async function io(device: Device, name: string, shape?: readonly number[]): Promise<Tensor> {
  const file = await openSafetensors(host, `${DATA}io.safetensors`);
  const entry = file.tensors.get(name);
  const tensor = Tensor.from(device, await readF32(file, name), shape ?? entry?.shape ?? []);
  await file.close();
  return tensor;
}

async function expected(name: string): Promise<Float32Array> {
  const file = await openSafetensors(host, `${DATA}io.safetensors`);
  const values = await readF32(file, name);
  await file.close();
  return values;
}

async function encoder(device: Device, layers: number): Promise<Workload> {
  const path = `${DATA}enc.safetensors`;
  const file = await openSafetensors(host, path);
  const weights = new Weights(device, { file, path, spellings, mayIgnore });
  const stack = Array.from({ length: layers }, (_, i) => bertLayer(weights.root.at(`layer.${i}`), bertBase));
  await weights.initialize();
  await file.close();
  const x = await io(device, "x", [1, 128, 768]);
  const run = () =>
    stack.reduce(
      (h, layer, i) =>
        scope(device, () => device.labelled(`layer.${i}`, () => layer.forward(h, undefined, {}, ""))),
      x,
    );
  return { run: () => scope(device, run), expected: await expected(`y${layers}`), gflop: layers * 1.8625 };
}

/** One training step a run: mean squared error to a fixed target, AdamW. The result is the loss before the step. */
async function train(device: Device, slice: "bert" | "hubert"): Promise<Workload> {
  const hubert = slice === "hubert";
  const path = `${DATA}${hubert ? "hub" : "enc"}.safetensors`;
  const file = await openSafetensors(host, path);
  const weights = new Weights(device, { file, path, spellings, mayIgnore });
  const stack = [0, 1].map((i) =>
    hubert
      ? hubertLayer(weights.root.at(`layers.${i}`), hubertLarge)
      : bertLayer(weights.root.at(`layer.${i}`), bertBase),
  );
  await weights.initialize();
  await file.close();
  const h = hubert ? "h" : "";
  const shape = hubert ? [1, 149, 1024] : [1, 128, 768];
  const [x, target] = [await io(device, `x${h}`, shape), await io(device, `target${h}`, shape)];
  const parameters = weights.parameters.map((p) => p.value);
  const zeros = () => parameters.map((p) => full(device, p.shape, 0));
  const [m, v] = [zeros(), zeros()];
  let step = 0;
  const forward = () => {
    const y = stack.reduce((h, layer) => layer.forward(h, undefined, {}, ""), x);
    return mse(y, target);
  };
  const run = () =>
    scope(device, () => {
      const { value: loss, gradients } = valueAndGrad(device, parameters, forward);
      const clip = Tensor.from(device, Float32Array.of(1, 0, 1), [3]);
      step++;
      const rule = { rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01, step, decoupled: true };
      for (const [i, p] of parameters.entries()) adamStep(p, gradients.get(p)!, m[i], v[i], clip, rule);
      return loss;
    });
  return {
    run,
    expected: (await expected(hubert ? "losses.h.adamw" : "losses.adamw")).slice(0, 1),
    gflop: 3 * 2 * (hubert ? 3.84 : 1.8625),
  };
}

async function conv(device: Device): Promise<Workload> {
  const path = `${DATA}conv.safetensors`;
  const file = await openSafetensors(host, path);
  const weights = new Weights(device, { file, path, spellings, mayIgnore });
  const extractor = new FeatureExtractor(weights.root, hubertLarge);
  await weights.initialize();
  await file.close();
  const wav = await io(device, "wav", [1, 16000]);
  const y = await expected("yconv");
  // The reference is (1, C, T).
  const [T, C] = [y.length / 512, 512];
  const turned = y.map((_, i) => y[(i % C) * T + Math.floor(i / C)]);
  return { run: () => scope(device, () => extractor.forward(wav, {})), expected: turned, gflop: 4.9 };
}

export async function prepare(device: Device, name: string): Promise<Workload> {
  if (name === "enc2" || name === "enc12") return encoder(device, Number(name.slice(3)));
  if (name === "conv") return conv(device);
  if (name === "train2") return train(device, "bert");
  if (name === "trainh2") return train(device, "hubert");
  if (name === "mm1024") {
    const [a, b] = [await io(device, "a"), await io(device, "b")];
    return {
      run: () => scope(device, () => matmul(a, b)),
      expected: await expected("ab"),
      gflop: 2 * 1.024 ** 3,
    };
  }
  throw new Error(`Cannot run ${name}: the workloads are mm1024, enc2, enc12, conv, train2, trainh2`);
}

async function main(): Promise<void> {
  const [name, , runs = "5"] = process.argv.slice(2);
  const device = await openBenchDevice();
  const work = await prepare(device, name);
  const once = async () => {
    const t = performance.now();
    const y = work.run();
    const values = await y.read();
    y.release();
    return { values, ms: performance.now() - t };
  };
  const first = await once();
  // performance.now() counts from the start of the process.
  const coldMs = performance.now();
  const { maxAbs, relL2 } = distance(first.values, work.expected);
  if (relL2 > 1e-3)
    throw new Error(`Cannot time ${name}: its result is ${relL2.toExponential(2)} from PyTorch's`);
  const times: number[] = [];
  const cpu = process.cpuUsage();
  const from = performance.now();
  for (let i = 0; i < Number(runs); i++) times.push((await once()).ms);
  const { user, system } = process.cpuUsage(cpu);
  const wall = performance.now() - from;
  const medianMs = times.toSorted((a, b) => a - b)[times.length >> 1];
  // Not loaded at the begin: it would count as cold start.
  const { gpuTimes } = await import("./measure.ts");
  const gpu = await gpuTimes(device, () => work.run().release(), Number(runs));
  const line = {
    peer: "wavegate",
    workload: name,
    firstMs: Math.round(first.ms),
    medianMs: +medianMs.toFixed(1),
    maxAbs,
    relL2,
    coldMs: Math.round(coldMs),
    runs: Number(runs),
    times,
    ...(gpu && { gpuTimes: gpu }),
    adapter: device.info.name,
    gflops: +((work.gflop / medianMs) * 1e3).toFixed(1),
    cores: +((user + system) / 1e3 / wall).toFixed(2),
  };
  console.log(JSON.stringify(line));
  process.exit(0);
}

if (process.argv[1]?.includes("workloads.")) await main();

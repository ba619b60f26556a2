/** Runs the model of a case folder, and compares every tensor that the folder stores. */
import * as v from "valibot";
import type { Device } from "../../gpu/device.ts";
import type { Host } from "../../host/host.ts";
import { readJson } from "../../io/config.ts";
import { openSafetensors } from "../../io/safetensors.ts";
import { finite, integer, object, parse } from "../../io/schema.ts";
import { BertForSequenceClassification, type BertInput, BertModel } from "../../models/bert.ts";
import { CmGI, type CmgiConfig, cmgiConfig } from "../system/cmgi.ts";
import { type BertConfig, bertConfig, type HubertConfig, hubertConfig } from "../../models/config.ts";
import { EmotionRecognizer } from "../system/emotion.ts";
import { emotionConfig } from "../system/emotion_system.ts";
import { familyOf, has } from "../../models/family.ts";
import { frameCount, HubertForCTC, type HubertInput, HubertModel } from "../../models/hubert.ts";
import { mayIgnore, spellings } from "../../models/keys.ts";
import {
  HubertForSequenceClassification,
  type SequenceClassificationConfig,
  sequenceClassificationConfig,
} from "../../models/sequence_classification.ts";
import { activationsOf, type Mode } from "../../nn/mode.ts";
import { Weights, type WeightsOptions } from "../../nn/weights.ts";
import { cast } from "../../ops/convert.ts";
import { crossEntropy } from "../../ops/cross_entropy.ts";
import { ctcLoss } from "../../ops/ctc.ts";
import { add, full } from "../../ops/elementwise.ts";
import { dot } from "../../ops/reduce.ts";
import { scope } from "../../tensor/scope.ts";
import { vjp } from "../../tensor/autograd.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { type CaseInfo, CaseTensors, filesOf, maskPassed, readCase } from "../../validate/case.ts";
import { type Evidence, compareStages, type Stage } from "../../validate/compare.ts";
import { type Cost, resetPeak, watchMemory } from "../../validate/cost.ts";

/** Largest relative L2 error with which a stage passes, by what layers hand on to each other. */
const LIMIT = { f32: 1e-4, f16: 1e-2 } as const;

/** How the models of a case run. */
export interface ValidateOptions extends Pick<WeightsOptions, "dtype">, Pick<Mode, "activations"> {}

type Json = Readonly<Record<string, unknown>>;

/** A model with the inputs of a case: its forward pass, and what is differentiated. */
interface Run {
  /** Tensors whose gradients the case may ask for, by the name after `grad_input.`. */
  readonly leaves: Readonly<Record<string, Tensor>>;
  /** The forward pass; stages go to `mode.observe`. Returns the tensors to differentiate, with a cotangent for each. */
  readonly forward: (mode: Mode) => { outputs: Tensor[]; cotangents: Tensor[] };
  /** Integer stages, which are computed without a GPU. */
  readonly counts?: Readonly<Record<string, readonly number[]>>;
}

/** Reads the inputs of a case; `outputs` is the name of its file of expected tensors. */
type RunBuilder = (inputs: CaseTensors, outputs: string, masked: boolean) => Promise<Run>;

/** Compares every model file and every file of expected tensors of a case; `cost` is of the first. */
export async function validateModel(
  host: Host,
  device: Device,
  folder: string,
  options: ValidateOptions = {},
): Promise<{ stages: Stage[]; cost?: Cost }> {
  activationsOf(device, options);
  const json = await readJson(host, `${folder}/config.json`);
  const caseInfo = await readCase(host, folder);
  await using inputs = await CaseTensors.open(host, `${folder}/inputs.safetensors`);
  const sharded = (await host.list(folder)).includes("model.safetensors.index.json");
  const models = sharded
    ? ["model.safetensors.index.json"]
    : (await filesOf(host, folder, "model")).filter((n) => !/-\d+-of-\d+/.test(n));
  const outputs = (await filesOf(host, folder, "outputs")).map((n) => n.slice(0, -".safetensors".length));
  const plain = outputs.filter((n) => !n.endsWith("_f64") || !outputs.includes(n.slice(0, -4)));
  if (models.length === 0 || plain.length === 0)
    throw new Error(`Cannot validate ${folder}: it should hold model.safetensors and outputs.safetensors`);
  const stages: Stage[] = [];
  let cost: Cost | undefined;
  for (const model of models) {
    const variant = sharded ? "" : model.slice("model".length, -".safetensors".length).replace(/^\./, "");
    for (const output of variant ? plain.slice(0, 1) : plain) {
      await using truth = outputs.includes(`${output}_f64`)
        ? await CaseTensors.open(host, `${folder}/${output}_f64.safetensors`)
        : undefined;
      await using torch = await CaseTensors.open(host, `${folder}/${output}.safetensors`);
      const label = [variant, output === "outputs" ? "" : output].filter(Boolean).join("/");
      const found = await compareRun(host, device, {
        folder,
        model,
        output,
        json,
        caseInfo,
        inputs,
        truth,
        torch,
        options,
      });
      cost ??= found.cost;
      stages.push(...found.stages.map((s) => (label ? { ...s, name: `${label}: ${s.name}` } : s)));
    }
  }
  return { stages, cost };
}

/** A model file and a file of expected tensors. */
interface Comparison {
  readonly folder: string;
  readonly model: string;
  readonly output: string;
  readonly json: Json;
  readonly caseInfo: CaseInfo;
  readonly inputs: CaseTensors;
  readonly truth?: CaseTensors;
  readonly torch: CaseTensors;
  readonly options: ValidateOptions;
}

async function compareRun(
  host: Host,
  device: Device,
  comparison: Comparison,
): Promise<{ stages: Stage[]; cost: Cost }> {
  const { folder, model, output, json, caseInfo, inputs, truth, torch, options } = comparison;
  const { dtype, activations = "f32" } = options;
  const path = `${folder}/${model}`;
  const file = await openSafetensors(host, path);
  const weights = new Weights(device, { file, path, spellings, mayIgnore, dtype });
  const seen = new Map<string, Tensor>();
  const names = [...new Set([...torch.names, ...(truth?.names ?? [])])];
  const observe = (name: string, t: Tensor) => {
    if (names.includes(name) && !seen.has(name)) seen.set(name, t.keep());
  };
  const gradients = new Map<string, Float32Array>();
  let counts: Run["counts"];
  try {
    const build = builder(weights, json, folder, file.tensors);
    resetPeak(device);
    const memory = await watchMemory(host, (sample) => weights.initialize(sample));
    const run = await build(inputs, output, maskPassed(caseInfo, folder, output));
    counts = run.counts;
    const probabilities = names.some((n) => n.startsWith("attentions."));
    const backward = names.some((n) => n.startsWith("grad"));
    const start = performance.now();
    let seconds: number | undefined;
    if (backward) {
      const leaves = [...weights.parameters.map((p) => p.value), ...Object.values(run.leaves)];
      const result = vjp(device, leaves, () => run.forward({ observe, activations }));
      await device.idle();
      seconds = (performance.now() - start) / 1000;
      for (const parameter of weights.parameters) {
        const g = await result.gradients.get(parameter.value)?.read();
        if (!g) continue;
        for (const { key, offset, shape } of parameter.parts) {
          const name = [key, ...spellings(key)].find((k) => names.includes(`grad.${k}`));
          if (name)
            gradients.set(`grad.${name}`, g.subarray(offset, offset + shape.reduce((a, b) => a * b, 1)));
        }
      }
      for (const [name, leaf] of Object.entries(run.leaves)) {
        const g = await result.gradients.get(leaf)?.read();
        if (g) gradients.set(`grad_input.${name}`, g);
      }
      for (const g of result.gradients.values()) g.release();
    }
    // Attention probabilities come only from a run without gradients; so does everything where no gradient is compared.
    if (probabilities || gradients.size === 0) {
      scope(device, () => {
        run.forward({ observe, probabilities, activations });
      });
      await device.idle();
    }
    seconds ??= (performance.now() - start) / 1000;
    const cost: Cost = { seconds, backward, gpuPeak: device.pool.statistics.peak, ...memory };
    const evidence: Evidence[] = [];
    const order = [...seen.keys(), ...names.filter((n) => !seen.has(n))].filter((n) => names.includes(n));
    for (const name of order) {
      const best = truth?.has(name) ? truth : torch;
      const wanted = await best.read(name);
      const kind = name.startsWith("grad") ? "gradient" : "forward";
      const got =
        counts?.[name] ?? gradients.get(name) ?? (await readStage(seen.get(name), best.shape(name)));
      evidence.push({
        name,
        kind,
        got,
        truth: wanted,
        torch: best === truth && torch.has(name) ? await torch.read(name) : undefined,
      });
    }
    return { stages: compareStages(evidence, LIMIT[activations]), cost };
  } finally {
    for (const t of seen.values()) t.release();
    weights.dispose();
    await file.close();
  }
}

async function readFloats(stage: Tensor): Promise<Float32Array> {
  if (stage.dtype !== "f16") return await stage.read();
  using full = scope(stage.device, () => cast(stage, "f32"));
  return await full.read();
}

/** A stage in the layout of `shape`: frames are channels-last here, but cases store the outputs of convolutions (B, C, T). */
export async function readStage(
  stage: Tensor | undefined,
  shape: readonly number[],
): Promise<Float32Array | undefined> {
  if (!stage) return undefined;
  const values = await readFloats(stage);
  const [B, T, C] = stage.shape;
  if (stage.shape.length !== 3 || shape[1] !== C || shape[2] !== T || T === C) return values;
  const turned = new Float32Array(values.length);
  for (let b = 0; b < B; b++)
    for (let t = 0; t < T; t++)
      for (let c = 0; c < C; c++) turned[(b * C + c) * T + t] = values[(b * T + t) * C + c];
  return turned;
}

function builder(
  weights: Weights,
  json: Json,
  folder: string,
  keys: ReadonlyMap<string, unknown>,
): RunBuilder {
  const path = `${folder}/config.json`;
  if (has(json, "hubert") && has(json, "cmgi")) return wholeSystem(weights, json, path);
  if (has(json, "d_s") && has(json, "d_t")) return fusionHead(weights, cmgiConfig(json, path));
  const kind = familyOf(json, path, ["hubert", "wav2vec2", "bert"]);
  return kind === "bert"
    ? bert(weights, bertConfig(json, path), keys)
    : keys.has("projector.weight")
      ? speechClassifier(weights, hubertConfig(json, path), sequenceClassificationConfig(json, path))
      : acoustic(weights, hubertConfig(json, path), keys.has("lm_head.weight"));
}

const ones = (like: Tensor) => full(like.device, like.shape, 1);

async function cotangents(inputs: CaseTensors, name: string, device: Device): Promise<Tensor | undefined> {
  const key = `cotangent.${name}`;
  return inputs.has(key) ? Tensor.from(device, await inputs.read(key), inputs.shape(key)) : undefined;
}

function acoustic(weights: Weights, config: HubertConfig, ctc: boolean): RunBuilder {
  const withHead = ctc ? new HubertForCTC(weights.root, config) : undefined;
  const base = withHead?.hubert ?? new HubertModel(weights.root.at(config.prefix), config);
  return async (inputs, output, masked) => {
    const { device } = weights;
    const [B, samples] = inputs.shape("input_values");
    const audio = Tensor.from(device, await inputs.read("input_values"), [B, samples]);
    const attention = await inputs.rows("attention_mask");
    const spec = output.endsWith("_spec");
    const all = attention.map(() => samples);
    const lengths = attention.map((row) => row.reduce((a, b) => a + b, 0));
    const T = frameCount(config, samples);
    const counted = masked ? lengths : all;
    const frames = counted.map((n) => frameCount(config, n));
    const kept = spec ? (await inputs.rows("mask_time_indices")).flat().map((v) => 1 - v) : undefined;
    const input: HubertInput = {
      audio,
      lengths: masked ? lengths : undefined,
      keepFrames: kept && Tensor.from(device, Uint32Array.from(kept), [B, T]),
    };
    const labels = inputs.has("labels")
      ? (await inputs.rows("labels")).map((row) => row.filter((id) => id >= 0))
      : undefined;
    const cotangent = await cotangents(inputs, "last_hidden_state", device);
    return {
      leaves: { input_values: audio },
      counts: frameCounts(frames, T),
      forward: (mode) => {
        if (withHead && labels && !spec) {
          const { logits } = withHead.forward(input, mode);
          const options = { blank: config.blank, zeroInfinity: config.ctcZeroInfinity };
          const loss = ctcLoss(logits, labels, frames, { ...options, reduction: config.ctcReduction });
          mode.observe?.("loss", loss);
          mode.observe?.(
            "loss_per_sample",
            ctcLoss(logits, labels, frames, { ...options, reduction: "none" }),
          );
          return { outputs: [loss], cotangents: [ones(loss)] };
        }
        const { hidden } = base.forward(input, mode);
        return cotangent ? weighted(mode, [hidden], [cotangent]) : { outputs: [], cotangents: [] };
      },
    };
  };
}

/** Numbers of real frames, and the mask (B, T) of them. */
const frameCounts = (frames: readonly number[], T: number) => ({
  output_lengths: frames,
  feature_attention_mask: frames.flatMap((n) => Array.from({ length: T }, (_, t) => (t < n ? 1 : 0))),
});

function speechClassifier(
  weights: Weights,
  hubert: HubertConfig,
  config: SequenceClassificationConfig,
): RunBuilder {
  const model = new HubertForSequenceClassification(weights.root, hubert, config);
  return async (inputs, _output, masked) => {
    const { device } = weights;
    const [B, samples] = inputs.shape("input_values");
    const audio = Tensor.from(device, await inputs.read("input_values"), [B, samples]);
    const lengths = (await inputs.rows("attention_mask")).map((row) => row.reduce((a, b) => a + b, 0));
    const labels = await inputs.integers("labels");
    const frames = lengths.map((n) => frameCount(hubert, masked ? n : samples));
    return {
      leaves: { input_values: audio },
      counts: frameCounts(frames, frameCount(hubert, samples)),
      forward: (mode) => {
        const { logits } = model.forward({ audio, lengths: masked ? lengths : undefined }, mode);
        const loss = crossEntropy(logits, labels);
        mode.observe?.("loss", loss);
        return { outputs: [loss], cotangents: [ones(loss)] };
      },
    };
  };
}

/** The loss Σ dot(output, cotangent), whose gradients are those of the cotangents. */
function weighted(mode: Mode, given: Tensor[], cotangents: Tensor[]): ReturnType<Run["forward"]> {
  const outputs = given.map((y) => cast(y, "f32"));
  const loss = outputs.map((y, i) => dot(y, cotangents[i])).reduce((a, b) => add(a, b));
  mode.observe?.("loss", loss);
  return { outputs, cotangents };
}

function bert(weights: Weights, config: BertConfig, keys: ReadonlyMap<string, unknown>): RunBuilder {
  const classifies = keys.has("classifier.weight");
  const head = classifies ? new BertForSequenceClassification(weights.root, config) : undefined;
  const pooler = [...keys.keys()].some((k) => k.endsWith("pooler.dense.weight"));
  const base = head?.bert ?? new BertModel(weights.root.at("bert"), config, { pooler });
  return async (inputs) => {
    const { device } = weights;
    const input = await bertInput(inputs, "attention_mask");
    const labels = inputs.has("labels") ? await inputs.integers("labels") : undefined;
    const hiddenCotangent = await cotangents(inputs, "last_hidden_state", device);
    const pooledCotangent = await cotangents(inputs, "pooler_output", device);
    return {
      leaves: {},
      forward: (mode) => {
        if (head && labels) {
          const loss = crossEntropy(head.forward(input, mode).logits, labels);
          mode.observe?.("loss", loss);
          return { outputs: [loss], cotangents: [ones(loss)] };
        }
        const { hidden } = base.forward(input, mode);
        const pooled = pooler ? base.pool(hidden, mode) : undefined;
        const wanted = [
          [hidden, hiddenCotangent],
          [pooled, pooledCotangent],
        ] as const;
        const pairs = wanted.flatMap(([y, cotangent]) => (y && cotangent ? [[y, cotangent] as const] : []));
        const [outputs, given] = [pairs.map(([y]) => y), pairs.map(([, cotangent]) => cotangent)];
        return pairs.length > 0 ? weighted(mode, outputs, given) : { outputs, cotangents: given };
      },
    };
  };
}

async function bertInput(inputs: CaseTensors, mask: string): Promise<BertInput> {
  return {
    ids: await inputs.rows("input_ids"),
    mask: inputs.has(mask) ? await inputs.rows(mask) : undefined,
    types: inputs.has("token_type_ids") ? await inputs.rows("token_type_ids") : undefined,
  };
}

function fusionHead(weights: Weights, config: CmgiConfig): RunBuilder {
  const head = new CmGI(weights.root.at("cmgi"), config);
  return async (inputs) => {
    const { device } = weights;
    const tensor = async (name: string) => Tensor.from(device, await inputs.read(name), inputs.shape(name));
    const mask = async (name: string) =>
      Tensor.from(device, Uint32Array.from(await inputs.integers(name)), inputs.shape(name));
    const [xS, xT, maskS, maskT] = [
      await tensor("x_s"),
      await tensor("x_t"),
      await mask("mask_s"),
      await mask("mask_t"),
    ];
    const labels = await inputs.integers("labels");
    const encoded = (mode: Mode) => {
      const dtype = activationsOf(device, mode);
      return { xS: cast(xS, dtype), xT: cast(xT, dtype) };
    };
    return {
      leaves: { x_s: xS, x_t: xT },
      forward: (mode) => {
        const loss = crossEntropy(head.forward({ ...encoded(mode), maskS, maskT }, mode).logits, labels);
        mode.observe?.("loss", loss);
        return { outputs: [loss], cotangents: [ones(loss)] };
      },
    };
  };
}

/** Keys of the loss of a case, which may differ from that of training. */
const lossSchema = object({ ctc_lambda: v.optional(finite), blank: v.optional(integer(0)) });

/** HuBERT, CTC head, BERT and CmGI of a case of a whole system; `json` is its config, from the file `path`. */
export function wholeSystem(weights: Weights, json: Json, path: string): RunBuilder {
  const system = new EmotionRecognizer(weights.root, emotionConfig(json, path));
  const hubert = system.config.hubert;
  if (!hubert) throw new Error("Cannot validate: the case has no HuBERT");
  const { ctc_lambda, blank = hubert.blank } = parse(lossSchema, json, path);
  const lambda = ctc_lambda ?? parse(object({ alpha: finite }), json, path).alpha;
  return async (inputs) => {
    const { device } = weights;
    const audio = Tensor.from(device, await inputs.read("input_values"), inputs.shape("input_values"));
    const lengths = (await inputs.rows("attention_mask")).map((row) => row.reduce((a, b) => a + b, 0));
    const words = await bertInput(inputs, "text_mask");
    const labels = (await inputs.rows("labels")).map((row) => row.filter((id) => id >= 0));
    const emotion = await inputs.integers("emotion");
    return {
      leaves: { input_values: audio },
      forward: (mode) => {
        const speech = system.encodeSpeech({ audio, lengths }, mode);
        const { logits } = system.classify(speech, words, mode);
        if (!speech.ctcLogits) throw new Error("Cannot validate: the case has no CTC head");
        const ce = crossEntropy(logits, emotion);
        const ctc = ctcLoss(speech.ctcLogits, labels, speech.frames, {
          blank,
          reduction: "mean",
          zeroInfinity: hubert.ctcZeroInfinity,
        });
        const loss = add(ce, ctc, 1, lambda);
        for (const [name, t] of Object.entries({ ce, ctc, loss })) mode.observe?.(name, t);
        return { outputs: [loss], cotangents: [ones(loss)] };
      },
    };
  };
}

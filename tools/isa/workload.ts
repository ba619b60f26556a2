/**
 * What the models run: every pipeline of a forward pass and a training step at full width and small depth, and of the
 * operators' records. Nothing is dispatched, so a new kernel is found here by being used, and no list names it.
 */
import type { Device } from "../../src/gpu/device.ts";
import type { Variant } from "../../src/gpu/kernel.ts";
import type { Request } from "../../src/gpu/library.ts";
import { bertConfig } from "../../src/models/config.ts";
import { BertForMaskedLM } from "../../src/models/bert.ts";
import { draw } from "../../src/nn/init.ts";
import type { Mode } from "../../src/nn/mode.ts";
import { Weights, type WeightsOptions } from "../../src/nn/weights.ts";
import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import { ctcLoss } from "../../src/ops/ctc.ts";
import { add, full, reshape } from "../../src/ops/elementwise.ts";
import type { Sample } from "../../src/records/op_info.ts";
import { loadRecords } from "../../src/records/mod.ts";
import { cannotRun, leavesOf, upload } from "../../src/records/run.ts";
import { BERT_BASE, HUBERT_LARGE } from "../../src/speech/recipes/presets.ts";
import { systemConfig, systemOf } from "../../src/speech/recipes/systems.ts";
import { EmotionRecognizer } from "../../src/speech/system/emotion.ts";
import { emotionConfig } from "../../src/speech/system/emotion_system.ts";
import { valueAndGrad, vjp } from "../../src/tensor/autograd.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tensor, type WeightDType } from "../../src/tensor/tensor.ts";
import { AdamW, SGD } from "../../src/train/optimizer.ts";
import { trainingStream } from "../../src/train/seeds.ts";

/** Where a pipeline was met first: in a model, in a record's bench, in a record's samples; or nowhere in the package. */
export type Use = "model" | "bench" | "sample" | "own";

/** A pipeline, and where it is used. */
export interface Used extends Request {
  readonly use: Use;
}

/** A pipeline in one line, as messages of the engine show it: `matmul.forward {"vec":true} {"WG":64}`. */
export function showPipeline({ name, entry, variant }: Request): string {
  const values = [variant.flags, variant.overrides].filter((of) => of && Object.keys(of).length > 0);
  return [`${name}.${entry}`, ...values.map((of) => JSON.stringify(of))].join(" ");
}

/** Collects every pipeline that work on a device asks for; from then on the device dispatches nothing. */
export class Collector {
  readonly #found = new Map<string, Used>();
  /** Where what is asked for is used. */
  use: Use = "model";

  /** Sees what runs, and records none of it. */
  constructor(device: Device) {
    device.recorder.observer = {
      observe: ({ twin, entry, variant }) => {
        const request = { name: twin.name, entry, variant: sorted(variant) };
        const key = showPipeline(request);
        if (!this.#found.has(key)) this.#found.set(key, { ...request, use: this.use });
      },
    };
  }

  /** All of them, by name. */
  get found(): Used[] {
    return [...this.#found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each);
  }
}

/** With its names in order, so that one pipeline has one line. */
function sorted({ flags, overrides }: Variant): Variant {
  const inOrder = <T>(of: Readonly<Record<string, T>> = {}) =>
    Object.fromEntries(Object.entries(of).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { flags: inOrder(flags), overrides: inOrder(overrides) };
}

/** Every pipeline of the package, for this device. From then on it dispatches nothing. */
export async function packagePipelines(device: Device): Promise<Used[]> {
  const collector = new Collector(device);
  await models(device, {});
  if (device.info.f16)
    for (const activations of ["f32", "f16"] as const) {
      await models(device, { dtype: "f16" }, activations);
      await models(device, { matmulDType: "f16" }, activations);
    }
  const records = await loadRecords();
  for (const use of ["bench", "sample"] as const) {
    collector.use = use;
    for (const record of records)
      for (const sample of use === "bench" ? record.bench : record.samples)
        if (!cannotRun(device, sample)) runSample(device, sample);
  }
  return collector.found;
}

/** Vocabulary of BERT here: its embedding is drawn, and its length changes no kernel but that of the last product. */
const WORDS = 1024;
const CLASSES = 4;
const SAMPLE_RATE = 16000;

/** HuBERT-large, BERT-base and CmGI of one layer each: predicting one clip, training on two, and pretraining BERT. */
async function models(
  device: Device,
  options: Pick<WeightsOptions, "dtype" | "matmulDType">,
  activations: Mode["activations"] = "f32",
): Promise<void> {
  const hubert = { ...HUBERT_LARGE, num_hidden_layers: 1, layerdrop: 0, mask_feature_prob: 0.1 };
  const bert = { ...BERT_BASE, num_hidden_layers: 1, vocab_size: WORDS };
  const cmgi = { d: 768, heads: 1, bounded: true };
  const json = systemConfig(systemOf("both-cmgi"), 2, { hubert, bert, cmgi, alpha: 0.1 });
  const weights = new Weights(device, options);
  const system = new EmotionRecognizer(weights.root, emotionConfig(json, "isa"));
  const pretrained = new Weights(device, options);
  const reader = new BertForMaskedLM(pretrained.root, bertConfig(bert, "isa"));
  for (const each of [weights, pretrained]) {
    // No value matters here, and drawing them would take most of the time.
    for (const parameter of each.parameters) Object.assign(parameter, { init: { kind: "zeros" } });
    await each.initialize();
  }
  const words = (B: number, tokens: number) => ({
    ids: Array.from({ length: B }, () => Array.from({ length: tokens }, (_, t) => (t * 37 + 1) % WORDS)),
    ...(B > 1 && {
      mask: Array.from({ length: B }, (_, b) =>
        Array.from({ length: tokens }, (_, t) => (t < tokens - b ? 1 : 0)),
      ),
    }),
  });
  const speech = (B: number, seconds: number) => {
    const samples = seconds * SAMPLE_RATE;
    const lengths = Array.from({ length: B }, (_, b) => samples - b * 1600);
    return {
      audio: Tensor.from(device, draw({ kind: "zeros" }, B * samples, 1, "noise"), [B, samples]),
      lengths,
    };
  };
  for (const tokens of [16, 64, 128])
    scope(device, () => {
      const heard = system.encodeSpeech({ audio: speech(1, 5).audio }, { activations });
      system.classify(heard, words(1, tokens), { activations });
    });
  if (options.dtype === "f16") return; // what is stored as f16 is not trained
  const mode = (): Mode => ({ training: trainingStream(1, 1, 1, 0), activations });
  const classify = (mode: Mode) => {
    const heard = system.encodeSpeech(speech(2, 5), mode);
    const { logits } = system.classify(heard, words(2, 64), mode);
    const labels = [1, 2].map((first) => Array.from({ length: 40 }, (_, i) => ((first + i) % 28) + 4));
    const ctc = heard.ctcLogits && ctcLoss(heard.ctcLogits, labels, heard.frames, { zeroInfinity: true });
    const emotion = crossEntropy(logits, [0, CLASSES - 1]);
    return ctc ? add(emotion, ctc) : emotion;
  };
  const fillIn = (mode: Mode) => {
    const input = words(32, 64);
    const targets = input.ids.flatMap((row) => row.map((id, t) => (t % 7 === 0 ? id : -100)));
    const logits = reshape(reader.forward(input, mode), [targets.length, WORDS]);
    return crossEntropy(logits, targets);
  };
  for (const [{ parameters }, loss] of [
    [weights, classify],
    [pretrained, fillIn],
  ] as const) {
    const rules = [
      new AdamW(device, parameters, { learningRate: 1e-4, weightDecay: 0.01, maxGradNorm: 1 }),
      new SGD(device, parameters, { learningRate: 1e-4, momentum: 0.9 }),
    ];
    scope(device, () => {
      for (let micro = 0; micro < 2; micro++)
        rules[0].accumulate(
          valueAndGrad(device, rules[0].parameters, () => loss(mode()), { lossScale: 0.5 }).gradients,
        );
      rules[0].step();
    });
    scope(
      device,
      () => void rules[1].step(valueAndGrad(device, rules[1].parameters, () => loss(mode())).gradients),
    );
    for (const rule of rules) rule.dispose();
  }
  for (const each of [weights, pretrained]) each.dispose();
}

/** A record's sample without a tape, and with one. */
function runSample(device: Device, sample: Sample): void {
  const inputs = sample.blank();
  const leaves = leavesOf(inputs);
  scope(device, () => {
    sample.run(upload(device, inputs), device);
    if (leaves.length === 0) return;
    const tensors = upload(device, inputs);
    vjp(
      device,
      leaves.map((name) => tensors[name]),
      () => {
        const y = sample.run(tensors, device);
        return { outputs: [y], cotangents: [full(device, y.shape, 1, y.dtype as WeightDType)] };
      },
    );
  });
}

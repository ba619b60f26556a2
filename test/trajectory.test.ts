/** AdamW on three small models: losses and gradient norms step by step as PyTorch's in float64. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readJson } from "../src/io/config.ts";
import { openSafetensors, readF32 } from "../src/io/safetensors.ts";
import { BertForSequenceClassification } from "../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../src/models/config.ts";
import { EmotionRecognizer } from "../src/speech/system/emotion.ts";
import { emotionConfig } from "../src/speech/system/emotion_system.ts";
import { HubertForCTC } from "../src/models/hubert.ts";
import { mayIgnore, spellings } from "../src/models/keys.ts";
import { Weights } from "../src/nn/weights.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import { ctcLoss } from "../src/ops/ctc.ts";
import { add } from "../src/ops/elementwise.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { AdamW } from "../src/train/optimizer.ts";
import type { Losses, Task } from "../src/train/task.ts";
import { update } from "../src/train/update.ts";
import { readCase } from "../src/validate/case.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const host = await currentHost();
const LIMIT = 1e-4;

interface Case {
  readonly config: Record<string, unknown>;
  readonly rows: (name: string) => Promise<number[][]>;
  readonly values: (name: string) => Promise<Float32Array>;
  readonly shape: (name: string) => readonly number[];
}

/** Trains the case's model on its one batch and compares every step. */
async function follow(
  name: string,
  build: (weights: Weights, given: Case) => Promise<() => Losses>,
): Promise<void> {
  const folder = fileURLToPath(new URL(`reference/${name}`, import.meta.url));
  const { train_trajectory: trajectory } = await readCase(host, folder);
  assert.ok(trajectory);
  const inputs = await openSafetensors(host, `${folder}/inputs.safetensors`);
  const file = await openSafetensors(host, `${folder}/model.safetensors`);
  const weights = new Weights(device, { file, path: name, spellings, mayIgnore });
  const values = (key: string) => readF32(inputs, key);
  const shape = (key: string) => inputs.tensors.get(key)!.shape;
  const losses = await build(weights, {
    config: await readJson(host, `${folder}/config.json`),
    values,
    shape,
    rows: async (key) => {
      const [B, T] = shape(key);
      const flat = Array.from(await values(key));
      return Array.from({ length: B }, (_, b) => flat.slice(b * T, (b + 1) * T));
    },
  });
  await weights.initialize();
  await file.close();
  await inputs.close();
  const { lr, weight_decay, loss_f64, grad_norm_f64 } = trajectory;
  const optimizer = new AdamW(device, weights.parameters, { learningRate: lr, weightDecay: weight_decay });
  const task = { parameters: weights.parameters, losses } as unknown as Task<null>;
  for (const [i, loss] of loss_f64.entries()) {
    const got = await update(device, task, optimizer, [null], { factor: 1, mode: () => ({}) });
    near(got.loss, loss, `loss of step ${i}`);
    near(got.gradientNorm, grad_norm_f64[i], `gradient norm of step ${i}`);
  }
  optimizer.dispose();
  weights.dispose();
}

function near(got: number, want: number, what: string): void {
  const far = Math.abs(got - want) / Math.abs(want);
  assert.ok(far <= LIMIT, `${what} is ${got}, PyTorch's is ${want}: ${far} apart, at most ${LIMIT}`);
}

const lengthsOf = (mask: readonly (readonly number[])[]) => mask.map((row) => row.reduce((a, b) => a + b, 0));
const real = (rows: readonly (readonly number[])[]) => rows.map((row) => row.filter((id) => id >= 0));

test("AdamW follows PyTorch on HuBERT with CTC", async () => {
  await follow("hubert-tiny-stable", async (weights, { config, rows, values, shape }) => {
    const hubert = hubertConfig(config, "config.json");
    const model = new HubertForCTC(weights.root, hubert);
    const lengths = lengthsOf(await rows("attention_mask"));
    const labels = real(await rows("labels"));
    const audio = await values("input_values");
    return () => {
      const input = { audio: Tensor.from(device, audio, shape("input_values")), lengths };
      const { logits, frames } = model.forward(input);
      const loss = ctcLoss(logits, labels, frames, { blank: hubert.blank, reduction: hubert.ctcReduction });
      return { loss, parts: {} };
    };
  });
});

test("AdamW follows PyTorch on BERT with a classifier", async () => {
  await follow("bert-tiny-seqcls", async (weights, { config, rows, values }) => {
    const model = new BertForSequenceClassification(weights.root, bertConfig(config, "config.json"));
    const input = {
      ids: await rows("input_ids"),
      mask: await rows("attention_mask"),
      types: await rows("token_type_ids"),
    };
    const labels = Array.from(await values("labels"));
    return () => ({ loss: crossEntropy(model.forward(input).logits, labels), parts: {} });
  });
});

test("AdamW follows PyTorch on the whole system, end to end", async () => {
  await follow("e2e-tiny", async (weights, { config, rows, values, shape }) => {
    const system = new EmotionRecognizer(weights.root, emotionConfig(config, "config.json"));
    const lengths = lengthsOf(await rows("attention_mask"));
    const words = {
      ids: await rows("input_ids"),
      mask: await rows("text_mask"),
      types: await rows("token_type_ids"),
    };
    const labels = real(await rows("labels"));
    const emotions = Array.from(await values("emotion"));
    const audio = await values("input_values");
    return () => {
      const speech = system.encodeSpeech({
        audio: Tensor.from(device, audio, shape("input_values")),
        lengths,
      });
      const emotion = crossEntropy(system.classify(speech, words).logits, emotions);
      const ctc = ctcLoss(speech.ctcLogits!, labels, speech.frames);
      return { loss: add(emotion, ctc, 1, config.ctc_lambda as number), parts: { emotion, ctc } };
    };
  });
});

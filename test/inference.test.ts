/** The one path from speech to an answer, as predict, evaluate and the dev figures of training take it. */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { mayIgnore, spellings } from "../src/models/keys.ts";
import { Weights } from "../src/nn/weights.ts";
import { LABELS, type Utterance } from "../src/speech/corpora/corpus.ts";
import { evaluateModel, openEmotionModel } from "../src/speech/evaluate/evaluate.ts";
import { EmotionRecognizer } from "../src/speech/system/emotion.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { EmotionTask } from "../src/speech/training/emotion_task.ts";
import { editCheckpoint, floats } from "./checkpoint.ts";
import { totalEdits, wer, wordEdits } from "../src/speech/metrics/wer.ts";
import { testDevice } from "./device.ts";

const demo = fileURLToPath(new URL("../weights/demo", import.meta.url));
const host = await currentHost();
const device = await testDevice();
const folder = mkdtempSync(join(tmpdir(), "wavegate-inference-"));
after(() => rmSync(folder, { recursive: true }));

const utterances: readonly Utterance[] = ["furious", "weary"].map((id, i) => ({
  ...{ id, wav: `${demo}/clips/${id}.wav`, text: "So tired.", words: "SO TIRED", label: LABELS[i] },
  ...{ speaker: "01F", session: "Session1", dialogue: "d", improvised: true, seconds: 1 + i },
}));

async function predicted(model: string) {
  const recognizer = await openRecognizer(host, device, model);
  try {
    const clips = await Promise.all(utterances.map(async ({ wav }) => (await readWav(host, wav)).samples));
    return await recognizer.recognize(clips);
  } finally {
    recognizer.dispose();
  }
}

const evaluated = async (model: string) =>
  await evaluateModel(host, device, await openEmotionModel(host, model), utterances);

/** The dev figures of a training of this model. */
async function devOf(path: string) {
  const model = await openEmotionModel(host, path);
  const weights = new Weights(device, { file: model.weights, path, spellings, mayIgnore });
  try {
    const system = new EmotionRecognizer(weights.root, model.emotion);
    await weights.initialize();
    const { vocabulary, tokenizer, normalize } = model;
    const task = new EmotionTask({
      ...{ system, parameters: weights.parameters, train: [], dev: utterances, seed: 1, alpha: 0.1 },
      ...{ batch: { items: 4 }, ctcReduction: "sum", labelSmoothing: 0.1 },
      augment: { speed: 0, pitchFormantShift: 0, tilt: 0, noise: 0 },
      reader: { host, vocabulary, tokenizer, normalize, maxTokens: system.config.bert?.maxPositions ?? 0 },
      save: async () => {},
    });
    return await task.evaluate();
  } finally {
    weights.dispose();
    await model.weights.close();
  }
}

test("openRecognizer() compiles all that a recording needs while it reads the weights", async () => {
  const own = await testDevice();
  const recognizer = await openRecognizer(host, own, demo);
  const { pipelines } = own.counters;
  assert.ok(pipelines > 10, `${pipelines} pipelines`);
  for (const seconds of [0.5, 6])
    await recognizer.recognize([Float32Array.from({ length: 16000 * seconds }, (_, i) => Math.sin(i * i))]);
  assert.equal(own.counters.pipelines, pipelines);
  recognizer.dispose();
  assert.equal(own.pool.statistics.live, 0);
});

test("predict, evaluate and the dev figures answer alike, and leave no bytes alive", async () => {
  const { live } = device.pool.statistics;
  const truth = await predicted(demo);
  const figures = await devOf(demo);
  for (const [i, { utterance, hypothesis, probabilities }] of (await evaluated(demo)).entries()) {
    assert.equal(utterance.id, utterances[i].id);
    assert.ok(hypothesis && hypothesis === truth[i].transcript?.text);
    for (const [k, label] of LABELS.entries())
      assert.ok(Math.abs(probabilities[k] - (truth[i].probabilities?.[label] ?? Number.NaN)) < 1e-5);
  }
  assert.ok(figures && figures.ctc > 0, `${figures?.ctc}`);
  assert.equal(figures.utterances, 2);
  const edits = utterances.map(({ words }, i) =>
    wordEdits({ reference: words, hypothesis: (truth[i].transcript?.text ?? "").toUpperCase() }),
  );
  assert.equal(figures.wer, wer(totalEdits(edits)));
  // The cross-entropy is that of the answers, whatever smoothing the training has.
  const emotion =
    truth.reduce((sum, { probabilities }, i) => sum - Math.log(probabilities?.[LABELS[i]] ?? 0), 0) /
    truth.length;
  assert.ok(Math.abs((figures?.emotion ?? Number.NaN) - emotion) < 1e-5);
  assert.ok(Math.abs(figures.loss - (0.1 * figures.ctc + 0.9 * emotion)) < 1e-4);
  assert.equal(device.pool.statistics.live, live);
});

for (const [key, message] of [
  ["lm_head.weight", /^Error: Cannot decode: the model's logits are not finite$/],
  ["cmgi.classifier.weight", /^Error: Cannot classify: the model's probabilities are not finite$/],
] as const)
  test(`predict, evaluate and the dev figures refuse a model that overflows in ${key}, and free what they made`, async () => {
    const path = join(folder, key);
    cpSync(demo, path, { recursive: true });
    await editCheckpoint(`${demo}/model.safetensors`, `${path}/model.safetensors`, (tensors) => {
      floats(tensors, key).fill(3e38); // a product goes beyond f32
    });
    const { live } = device.pool.statistics;
    for (const answer of [predicted, evaluated, devOf]) {
      await assert.rejects(answer(path), message);
      assert.equal(device.pool.statistics.live, live, `${answer.name} leaves bytes alive`);
    }
  });

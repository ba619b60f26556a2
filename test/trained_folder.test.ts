/** Folders of models before and after training: the same audio, words and tokens. */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { bertTokenizerFolder, openBertTokenizer } from "../src/io/tokenizer.ts";
import { openFeatureExtractor } from "../src/models/feature_extractor.ts";
import type { TrainConfig } from "../src/speech/recipes/config.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { openModelFolder } from "../src/speech/system/folder.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { build } from "../src/speech/training/build.ts";
import type { Batch } from "../src/speech/training/examples.ts";
import { checkStages } from "../src/speech/training/stage_inputs.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { editCheckpoint, floats } from "./checkpoint.ts";
import { testDevice } from "./device.ts";
import {
  clip,
  configOf,
  ctcModel,
  data,
  extractor,
  folder,
  LETTERS,
  notebook,
  reference,
  scratch,
  utterance,
} from "./model_folders.ts";

const host = await currentHost();
const device = await testDevice();
const plain = { ...extractor, do_normalize: false };
const options = { train: [utterance], dev: [] };

/** What Wav2Vec2CTCTokenizer.decode() says with skip_special_tokens, but for blanks, which it drops too early. */
function decoded(ids: readonly number[]): string {
  const tokens = [...LETTERS, "<s>", "</s>"];
  const text = ids
    .map((id) => tokens[id] ?? "[UNK]")
    .filter((token) => !["[UNK]", "<s>", "</s>"].includes(token))
    .filter((token, i, all) => token !== all[i - 1])
    .filter((token) => token !== "[PAD]");
  return text.join("").replace(/\|+/g, " ").trim();
}

/** The transcript of a folder, and the likeliest output of every frame. */
async function recognise(path: string): Promise<{ text: string; ids: number[]; input: Float32Array }> {
  const recognizer = await openRecognizer(host, device, path);
  const seen = new Map<string, Tensor>();
  const { samples } = await readWav(host, clip);
  const [{ transcript }] = await recognizer.recognize([samples], {
    observe: (stage, tensor) => {
      if (["input_values", "logits", "ctc_logits"].includes(stage))
        seen.set(stage.replace("ctc_", ""), tensor.keep());
    },
  });
  const logits = seen.get("logits");
  const inputTensor = seen.get("input_values");
  assert.ok(logits && inputTensor && transcript);
  const V = logits.shape[2];
  const values = await logits.read();
  const input = await inputTensor.read();
  const ids = Array.from({ length: logits.shape[1] }, (_, t) => {
    const row = values.subarray(t * V, (t + 1) * V);
    return row.indexOf(Math.max(...row));
  });
  for (const tensor of seen.values()) tensor.release();
  recognizer.dispose();
  return { text: transcript.text, ids, input };
}

/** Saves a task's model in a folder of its own. */
async function save(task: { save(folder: string): Promise<void> }, name: string): Promise<string> {
  const path = folder(name, { README: "" });
  await task.save(path);
  return path;
}

/** A run of one stage on the utterance of the clip, from a folder of HuBERT. */
function runFrom(hubert: string, more: Partial<TrainConfig> = {}): TrainConfig {
  const config = trainConfig({
    preset: "nano",
    system: "acoustic-asr",
    data: scratch,
    fold: 1,
    stage: 1,
    hubert,
  });
  return { ...config, ...more };
}

test("Recognizer.recognize() and a run from the same folder leave audio alone where do_normalize is false", async () => {
  const nested = { "processor_config.json": { feature_extractor: plain } };
  const path = await ctcModel("as-it-is", 32, { ...notebook, ...nested });
  const { samples } = await readWav(host, clip);
  assert.deepEqual((await recognise(path)).input, samples);
  const config = runFrom(path);
  config.stage1 = { ...config.stage1, augment: { speed: 0, pitchFormantShift: 0, tilt: 0, noise: 0 } };
  const { weights, task } = await build(device, config, 1, {}, undefined, options);
  const batch = (await task.load([0], 0)) as Batch;
  assert.deepEqual(batch.audio.subarray(0, samples.length), samples);
  const saved = await save(task, "saved-as-it-is");
  weights.dispose();
  assert.equal((await openFeatureExtractor(host, saved)).normalize, false);
});

test("Recognizer.recognize() decodes heads with more and fewer outputs than tokens, before and after train", async () => {
  for (const outputs of [30, 32, 40]) {
    const path = await ctcModel(`head${outputs}`, outputs, notebook);
    const before = await recognise(path);
    assert.equal(before.text, decoded(before.ids));
    const special = before.ids.filter((id) => id === 28 || id > 29);
    assert.ok(before.text.length > 2 && special.length > 0, `${before.text}: no special token to drop`);
    const config = runFrom(path);
    await checkStages(host, config, data);
    const { weights, task } = await build(device, config, 1, {}, undefined, options);
    const batch = (await task.load([0], 0)) as Batch;
    assert.deepEqual(batch.targets, [[18, 14, 27, 19, 8, 17, 4, 3]]);
    const saved = await save(task, `saved${outputs}`);
    weights.dispose();
    assert.deepEqual(
      JSON.parse(readFileSync(`${saved}/tokenizer_config.json`, "utf8")),
      notebook["tokenizer_config.json"],
    );
    assert.deepEqual(
      JSON.parse(readFileSync(`${saved}/added_tokens.json`, "utf8")),
      notebook["added_tokens.json"],
    );
    const again = await recognise(saved);
    assert.equal(again.text, before.text);
    // What 0.1 wrote: the letters without their names.
    writeFileSync(
      `${saved}/tokenizer_config.json`,
      JSON.stringify({ do_lower_case: true, model_max_length: 64 }),
    );
    rmSync(`${saved}/added_tokens.json`);
    if (outputs === 30) assert.equal((await recognise(saved)).text, before.text);
  }
});

test("openBertTokenizer() reads what train wrote beside the letters, and a cased one stays so", async () => {
  const pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "So", "so", "tired", "é", "e", ""].join("\n");
  const cased = { do_lower_case: false, tokenizer_class: "BertTokenizer", pad_token: "[PAD]" };
  const bert = folder("cased", {
    ...{ "vocab.txt": pieces, "tokenizer_config.json": cased },
    "config.json": { ...configOf("bert-tiny"), vocab_size: 10 },
  });
  copyFileSync(`${reference}/bert-tiny/model.safetensors`, `${bert}/model.safetensors`);
  const hubert = await ctcModel("hubert", 32, notebook);
  await editCheckpoint(`${bert}/model.safetensors`, `${bert}/model.safetensors`, (tensors) => {
    const words = floats(tensors, "embeddings.word_embeddings.weight").slice(0, 640);
    tensors.set("embeddings.word_embeddings.weight", {
      dtype: "F32",
      shape: [10, 64],
      data: new Uint8Array(words.buffer),
    });
  });
  const config = trainConfig({
    ...{ preset: "nano", system: "both-cmgi", data: scratch, fold: 1 },
    hubert,
    bert,
  });
  await checkStages(host, config, data);
  const { weights, task } = await build(device, config, 2, {}, undefined, options);
  const saved = await save(task, "whole");
  weights.dispose();
  const [before, after] = await Promise.all([openBertTokenizer(host, bert), openBertTokenizer(host, saved)]);
  const text = "So tired é";
  assert.deepEqual((await before.encode(text)).tokens, ["[CLS]", "So", "tired", "é", "[SEP]"]);
  assert.deepEqual(await after.encode(text), await before.encode(text));
  assert.equal(await bertTokenizerFolder(host, saved), `${saved}/bert`);
  const model = await openModelFolder(host, saved);
  await model.weights.close();
  assert.equal(model.vocabulary?.blank, 29);
  const { text: words } = await recognise(saved);
  assert.equal(words, (await recognise(hubert)).text);
});

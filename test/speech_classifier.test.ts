/** Published classifiers of recordings: what transformers says of the same clip, labels from the config, and two folders as one. */
import assert from "node:assert/strict";
import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { sequenceClassificationConfig } from "../src/models/sequence_classification.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { openEmotionModel } from "../src/speech/evaluate/evaluate.ts";
import { openModelFolder } from "../src/speech/system/folder.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import { checkStages } from "../src/speech/training/stage_inputs.ts";
import { verb } from "../tools/predict.ts";
import { editCheckpoint } from "./checkpoint.ts";
import { testDevice } from "./device.ts";
import {
  clip,
  configOf,
  ctcModel,
  data,
  folder,
  type Json,
  notebook,
  reference,
  scratch,
} from "./model_folders.ts";
import { normal } from "./reference.ts";
import { archive, bytesOf, global, int, str, tensor } from "./torch_fixture.ts";
import { runHere } from "./verb.ts";

const host = await currentHost();
const device = await testDevice();
const { samples } = await readWav(host, clip);
const LABELS = ["neu", "hap", "ang", "sad", "fea"];
/** What transformers 5.18 says of the clip and of its samples 3000 to 15000, with the weights of the reference cases. */
const SAID = {
  "hubert-tiny-seqcls": [
    [0.087887, 0.749025, 0.064999, 0.079145, 0.018944],
    [0.08075, 0.680372, 0.097258, 0.121414, 0.020205],
  ],
  "wav2vec2-tiny-seqcls": [
    [0.078406, 0.166047, 0.489701, 0.152634, 0.113212],
    [0.067596, 0.139411, 0.550414, 0.154315, 0.088264],
  ],
} as const;
/** The first, where the last of the weighted layers is taken behind the final norm (tie_last_hidden_states). */
const TIED = [0.097379, 0.650138, 0.104689, 0.114133, 0.033661];

/** A copy of a case as a model folder, with other keys in its config. */
function variant(name: keyof typeof SAID, as: string, keys: Json = {}): string {
  const path = folder(as, { "config.json": { ...configOf(name), ...keys } });
  for (const file of ["model.safetensors", "preprocessor_config.json"])
    copyFileSync(`${reference}/${name}/${file}`, `${path}/${file}`);
  return path;
}

function near(
  got: Readonly<Record<string, number>> | undefined,
  want: readonly number[],
  limit = 2e-6,
): void {
  assert.deepEqual(Object.keys(got ?? {}), LABELS);
  for (const [i, p] of Object.values(got ?? {}).entries())
    assert.ok(Math.abs(p - want[i]) < limit, `${p} is not ${want[i]}`);
}

test("Recognizer.recognize() gives transformers' probabilities, alone and in a batch, under the config's labels", async () => {
  for (const name of ["hubert-tiny-seqcls", "wav2vec2-tiny-seqcls"] as const) {
    using recognizer = await openRecognizer(host, device, variant(name, name));
    const found = await recognizer.recognize([samples, samples.slice(3000, 15000)]);
    for (const [i, { probabilities, emotion, transcript, gates }] of found.entries()) {
      near(probabilities, SAID[name][i]);
      assert.equal(emotion, name.startsWith("hubert") ? "hap" : "ang");
      assert.deepEqual([transcript, gates], [undefined, undefined]);
    }
    const { live } = device.pool.statistics;
    await recognizer.recognize([samples]);
    assert.equal(device.pool.statistics.live, live, "recognize() leaves bytes alive");
    if (device.info.f16) {
      using half = await openRecognizer(host, device, variant(name, name), {
        dtype: "f16",
        activations: "f16",
      });
      near((await half.recognize([samples]))[0].probabilities, SAID[name][0], 5e-3);
    }
  }
});

test("openModelFolder() takes the last weighted layer as the version that saved the model does, and says so", async () => {
  const cases: [Json, readonly number[], boolean][] = [
    [{}, SAID["hubert-tiny-seqcls"][0], false],
    [{ transformers_version: "4.12.0.dev0" }, TIED, true],
    [{ transformers_version: undefined }, TIED, true],
    [{ tie_last_hidden_states: true }, TIED, false],
    [{ transformers_version: "4.12.0", tie_last_hidden_states: false }, SAID["hubert-tiny-seqcls"][0], false],
  ];
  for (const [i, [keys, want, noted]] of cases.entries()) {
    const model = await openModelFolder(host, variant("hubert-tiny-seqcls", `version${i}`, keys));
    assert.equal(
      model.notes.some((line) => /^an older transformers saved .* behind the final norm/.test(line)),
      noted,
    );
    using recognizer = await openRecognizer(host, device, model);
    near((await recognizer.recognize([samples]))[0].probabilities, want);
  }
});

test("openRecognizer() reads a classifier from pytorch_model.bin as from safetensors", async () => {
  const path = variant("hubert-tiny-seqcls", "bin");
  const file = await openSafetensors(host, path);
  const items: Uint8Array[] = [];
  const storages: Record<string, Uint8Array> = {};
  for (const [key, { shape, bytes }] of file.tensors) {
    const storage = `${items.length / 2}`;
    storages[storage] = new Uint8Array(bytes);
    await file.read(key, storages[storage]);
    const strides = shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
    items.push(str(key), tensor(shape, strides, { key: storage, count: bytes / 4 }));
  }
  await file.close();
  const pickle = bytesOf(
    "\x80\x02",
    global("collections", "OrderedDict"),
    ")R(",
    ...items,
    str("epoch"),
    int(3),
    "u.",
  );
  writeFileSync(`${path}/pytorch_model.bin`, archive(pickle, storages));
  rmSync(`${path}/model.safetensors`);
  const model = await openModelFolder(host, path);
  assert.deepEqual(model.notes, [`${path} holds besides its tensors, unused: epoch, 3`]);
  using recognizer = await openRecognizer(host, device, model);
  near((await recognizer.recognize([samples]))[0].probabilities, SAID["hubert-tiny-seqcls"][0]);
});

test("sequenceClassificationConfig() reads labels and refuses what is no choice of one of them", () => {
  const read = (json: Json) => sequenceClassificationConfig(json, "config.json");
  assert.deepEqual(read({}).labels, ["LABEL_0", "LABEL_1"]);
  assert.deepEqual(read({ num_labels: 3, id2label: null }).labels, ["LABEL_0", "LABEL_1", "LABEL_2"]);
  assert.deepEqual(read({ id2label: { 1: "b", 0: "a" } }), {
    labels: ["a", "b"],
    projSize: 256,
    weightedLayerSum: false,
    lastIsNormed: true,
  });
  for (const [json, message] of [
    [
      { id2label: { 1: "a" } },
      /id2label is .* but should be an object with a name for every number from 0 on$/,
    ],
    [{ id2label: { 0: "a", x: "b" } }, /id2label is .* a name for every number from 0 on$/],
    [{ id2label: { 0: "" } }, /a name for every number from 0 on$/],
    [{ id2label: {} }, /a name for every number from 0 on$/],
    [{ id2label: ["a", "b"] }, /id2label is \["a","b"\] but should be an object of names by number$/],
    [{ id2label: { 0: "a", 1: "a" } }, /but should be without "a" twice$/],
    [
      { problem_type: "multi_label_classification" },
      /problem_type is "multi_label_classification" but should be single_label/,
    ],
    [
      { problem_type: "regression" },
      /problem_type is "regression" but should be single_label_classification/,
    ],
    [{ classifier_proj_size: 0 }, /classifier_proj_size is 0 but should be a whole number from 1/],
  ] as const)
    assert.throws(() => read(json), message);
});

test("openModelFolder() refuses labels that are not those of the head, and evaluate a head that is not its own", async () => {
  const few = variant("hubert-tiny-seqcls", "few", { id2label: { 0: "a", 1: "b" } });
  await assert.rejects(
    openModelFolder(host, few),
    /id2label is .* but should be 5 names, as the classifier has outputs$/,
  );
  const own = variant("hubert-tiny-seqcls", "own");
  await assert.rejects(
    openEmotionModel(host, own),
    /own: it is a published classifier with labels of its own, neu, hap, ang, sad, fea; predict runs it$/,
  );
});

test("checkStages() starts training from the encoder of a classifier, with heads of its own", async () => {
  const path = variant("wav2vec2-tiny-seqcls", "start", { vocab_size: 32, pad_token_id: 0 });
  const config = trainConfig({
    ...{ preset: "nano", system: "acoustic", data: scratch, fold: 1, hubert: path },
  });
  await checkStages(host, config, data);
});

test("predict says what a classifier does not tell, and takes the words of a second folder", async () => {
  const emotion = variant("wav2vec2-tiny-seqcls", "emotion");
  const words = await ctcModel("words", 32, { ...notebook, "preprocessor_config.json": {} });
  const alone = await runHere(verb, clip, "--model", emotion, "--no-tune");
  assert.equal(alone.status, 0);
  assert.ok(
    alone.notes.includes(
      `predict: ${emotion} is a Wav2Vec2ForSequenceClassification, which writes no words; --words DIR adds a model with a CTC head`,
    ),
  );
  assert.match(
    alone.printed.join("\n"),
    /\n {2}emotion {2}ang {2}\(neu 0\.078, hap 0\.166, ang 0\.490, sad 0\.153, fea 0\.113\)/,
  );
  assert.equal(alone.json.files[0].transcript, undefined);

  const heard = await runHere(verb, clip, "--model", words, "--no-tune");
  assert.ok(
    heard.notes.some((line) =>
      line.endsWith("words is a HubertForCTC, which writes words and names no emotion"),
    ),
  );
  const both = await runHere(verb, clip, "--model", emotion, "--words", words, "--no-tune");
  assert.equal(both.status, 0);
  const [{ transcript, words: timed, ...rest }] = both.json.files;
  assert.ok(transcript.length > 0);
  assert.deepEqual([transcript, timed], [heard.json.files[0].transcript, heard.json.files[0].words]);
  assert.deepEqual(rest, alone.json.files[0]);
  assert.deepEqual([both.json.model, both.json.words], [emotion, words]);
  assert.ok(!both.notes.some((line) => /no words|no emotion/.test(line)));

  for (const [model, other, message] of [
    [words, words, /Cannot take the words of .*words for .*words: that writes words itself$/],
    [
      emotion,
      emotion,
      /Cannot take the words of .*emotion for .*emotion: it has no CTC head, and writes none$/,
    ],
  ] as const) {
    const { error } = await runHere(verb, clip, "--model", model, "--words", other);
    assert.match(error?.message ?? "", message);
    await assert.rejects(openRecognizer(host, device, model, { words: other }), message);
  }
});

test("a system that recognises no words reads those of a second folder", async () => {
  const demo = `${reference}/../../weights/demo`;
  const deaf = `${scratch}/deaf`;
  cpSync(demo, deaf, { recursive: true });
  const config = JSON.parse(readFileSync(`${demo}/config.json`, "utf8"));
  writeFileSync(`${deaf}/config.json`, JSON.stringify({ ...config, asr: false }));
  using whole = await openRecognizer(host, device, demo);
  using joined = await openRecognizer(host, device, deaf, { words: demo });
  assert.deepEqual(await joined.recognize([samples]), await whole.recognize([samples]));
  using alone = await openRecognizer(host, device, deaf);
  await assert.rejects(alone.recognize([samples]), /deaf: it reads the true words and recognises none/);
});

test("predict shows the likeliest of very many labels", async () => {
  const count = 20;
  const id2label = Object.fromEntries(Array.from({ length: count }, (_, i) => [i, `speaker ${i}`]));
  const path = variant("wav2vec2-tiny-seqcls", "many", { id2label });
  const from = `${reference}/wav2vec2-tiny-seqcls/model.safetensors`;
  await editCheckpoint(from, `${path}/model.safetensors`, (tensors) => {
    const width = tensors.get("classifier.weight")?.shape[1] ?? 0;
    const values = (shape: number[], seed: number) => ({
      ...{ dtype: "F32" as const, shape },
      data: new Uint8Array(
        normal(
          shape.reduce((a, b) => a * b),
          seed,
        ).buffer,
      ),
    });
    tensors.set("classifier.weight", values([count, width], 1));
    tensors.set("classifier.bias", values([count], 2));
  });
  const { printed, json } = await runHere(verb, clip, "--model", path, "--no-tune");
  const line = printed.find((text) => text.startsWith("  emotion"));
  const shown = [...(line ?? "").matchAll(/ (\d\.\d{3})/g)].map(([, p]) => Number(p));
  assert.match(
    line ?? "",
    new RegExp(`^ {2}emotion {2}${json.files[0].emotion} {2}\\(${json.files[0].emotion} .*, and 8 more\\)$`),
  );
  assert.deepEqual([shown.length, shown], [12, shown.toSorted((a, b) => b - a)]);
  assert.equal(Object.keys(json.files[0].probabilities).length, count);
});

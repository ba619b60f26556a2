/** Folders of models as people have them: what they are, what their small files say, and what train makes of them. */
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { currentHost } from "../src/host/current.ts";
import { readWav } from "../src/io/audio.ts";
import { bertTokenizerFolder, openBertTokenizer } from "../src/io/tokenizer.ts";
import { openFeatureExtractor } from "../src/models/feature_extractor.ts";
import { openModelFolder } from "../src/speech/system/folder.ts";
import { openRecognizer } from "../src/speech/system/recognizer.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { build } from "../src/speech/training/build.ts";
import { checkStages } from "../src/speech/training/stage_inputs.ts";
import type { TrainConfig } from "../src/speech/recipes/config.ts";
import type { Batch } from "../src/speech/training/examples.ts";
import { editCheckpoint, floats } from "./checkpoint.ts";
import { testDevice } from "./device.ts";
import { normal } from "./reference.ts";

type Json = Record<string, unknown>;

const root = fileURLToPath(new URL("..", import.meta.url));
const reference = `${root}test/reference`;
const host = await currentHost();
const device = await testDevice();
const scratch = mkdtempSync(join(tmpdir(), "wavegate-models-"));
after(() => rmSync(scratch, { recursive: true }));
const clip = `${root}weights/default/clips/Ses05F_impro01_M003.wav`;

/** A folder with the files given, text or JSON. */
function folder(name: string, files: Readonly<Record<string, unknown>>): string {
  const path = join(scratch, name);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(path, file, ".."), { recursive: true });
    writeFileSync(join(path, file), typeof content === "string" ? content : JSON.stringify(content));
  }
  return path;
}

const configOf = (name: string): Json => JSON.parse(readFileSync(`${reference}/${name}/config.json`, "utf8"));
const extractor = {
  feature_extractor_type: "Wav2Vec2FeatureExtractor",
  sampling_rate: 16000,
  feature_size: 1,
};
const [loud, plain] = [true, false].map((x) => ({ ...extractor, do_normalize: x }));

/** Letters as Hugging Face's fine-tuning notebook writes them: <s> and </s> are added behind [PAD]. */
const LETTERS = [..."abcdefghijklmnopqrstuvwxyz'|", "[UNK]", "[PAD]"];
const notebook = {
  "vocab.json": Object.fromEntries(LETTERS.map((token, id) => [token, id])),
  "added_tokens.json": { "<s>": 30, "</s>": 31 },
  "tokenizer_config.json": {
    ...{ tokenizer_class: "Wav2Vec2CTCTokenizer", pad_token: "[PAD]", unk_token: "[UNK]" },
    ...{ bos_token: "<s>", eos_token: "</s>", word_delimiter_token: "|", do_lower_case: false },
  },
};

/** A HubertForCTC with a random head of `outputs`. */
async function ctcModel(
  name: string,
  outputs: number,
  files: Readonly<Record<string, unknown>>,
): Promise<string> {
  const config = { ...configOf("hubert-tiny-stable"), vocab_size: outputs, pad_token_id: 29 };
  const path = folder(name, { "config.json": config, ...files });
  await editCheckpoint(
    `${reference}/hubert-tiny-stable/model.safetensors`,
    `${path}/model.safetensors`,
    (tensors) => {
      const width = tensors.get("lm_head.weight")?.shape[1] ?? 0;
      const [weight, bias] = [normal(outputs * width, 3, 1), normal(outputs, 4, 1)];
      // Outputs that are no text win where random ones for letters would.
      for (const [special, letter] of [
        [28, 23],
        [31, 19],
        [39, 1],
      ] as const) {
        if (special >= outputs) continue;
        const row = weight.subarray(letter * width, (letter + 1) * width);
        weight.set(row, special * width);
        bias[special] = bias[letter] + 1;
      }
      const tensor = (shape: number[], values: Float32Array<ArrayBuffer>) => ({
        ...{ dtype: "F32" as const, shape },
        data: new Uint8Array(values.buffer),
      });
      tensors.set("lm_head.weight", tensor([outputs, width], weight));
      tensors.set("lm_head.bias", tensor([outputs], bias));
    },
  );
  return path;
}

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
const utterance = {
  id: "a",
  wav: clip,
  words: "SO TIRED",
  label: "sad",
  seconds: 1.24,
  dialogue: "d",
} as never;
const data = {
  examined: { utterances: [utterance], problems: [], notForTraining: new Set() },
  fold: { name: "Session1", train: [utterance], dev: [], test: [] },
} as never;
const options = { train: [utterance], dev: [] };

test("openFeatureExtractor() reads what transformers 5 nests, before the file of older ones", async () => {
  const cases: [Readonly<Record<string, unknown>>, boolean][] = [
    [{}, true],
    [{ "preprocessor_config.json": plain }, false],
    [{ "processor_config.json": { feature_extractor: plain } }, false],
    [{ "processor_config.json": { audio_processor: plain } }, false],
    [
      {
        "processor_config.json": { processor_class: "Wav2Vec2Processor" },
        "preprocessor_config.json": plain,
      },
      false,
    ],
    [{ "preprocessor_config.json": { feature_extractor: plain } }, false],
    [{ "processor_config.json": { feature_extractor: loud }, "preprocessor_config.json": plain }, true],
    [{ "processor_config.json": { feature_extractor: plain }, "preprocessor_config.json": loud }, false],
    // transformers takes null for false, and reads processor_config.json no deeper and no shallower.
    [{ "preprocessor_config.json": { ...loud, do_normalize: null } }, false],
    [{ "processor_config.json": { feature_extractor: { ...loud, do_normalize: null } } }, false],
    [{ "processor_config.json": plain }, true],
    [{ "processor_config.json": { ...plain, feature_extractor: null } }, true],
  ];
  for (const [i, [files, normalize]] of cases.entries()) {
    const found = await openFeatureExtractor(host, folder(`extractor${i}`, { "config.json": {}, ...files }));
    assert.equal(found.normalize, normalize, JSON.stringify(files));
    const both = i === 6 || i === 7;
    assert.equal(/says do_normalize .*: the first counts/.test(found.note ?? ""), both);
    const odd = [
      undefined,
      /says do_normalize null: read as false/,
      /says do_normalize false outside feature_extractor: it does not count/,
    ][i < 8 ? 0 : i < 10 ? 1 : 2];
    if (odd) assert.match(found.note ?? "", odd);
    else if (!both) assert.equal(found.note, undefined);
  }
  for (const [more, message] of [
    [
      { sampling_rate: 8000 },
      /processor_config\.json \(feature_extractor\): sampling_rate is 8000 but should be 16000$/,
    ],
    [{ do_normalize: "false" }, /do_normalize is "false" but should be true or false$/],
    [{ feature_size: 80 }, /feature_size is 80 but should be 1$/],
    [{ feature_extractor_type: "WhisperFeatureExtractor" }, /should be one of Wav2Vec2FeatureExtractor$/],
  ] as const) {
    const path = folder("wrong", {
      "processor_config.json": { feature_extractor: { ...extractor, ...more } },
    });
    await assert.rejects(openFeatureExtractor(host, path), message);
  }
  const listed = folder("listed", { "processor_config.json": { feature_extractor: [extractor] } });
  await assert.rejects(
    openFeatureExtractor(host, listed),
    /feature_extractor is \[.* but should be an object$/,
  );
});

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

test("checkStages() refuses a checkpoint of another family, or with a part missing, before any stage", async () => {
  const hubert = await ctcModel("good-hubert", 32, notebook);
  const pieces = (count: number) =>
    [
      "[PAD]",
      "[UNK]",
      "[CLS]",
      "[SEP]",
      "[MASK]",
      ...Array.from({ length: count - 5 }, (_, i) => `w${i}`),
      "",
    ].join("\n");
  const reader = async (
    name: string,
    config: Json,
    edit: Parameters<typeof editCheckpoint>[2] = () => {},
  ) => {
    const path = folder(name, {
      "config.json": { ...configOf("bert-tiny"), ...config },
      "vocab.txt": pieces((config.vocab_size as number | undefined) ?? 1000),
    });
    await editCheckpoint(`${reference}/bert-tiny/model.safetensors`, `${path}/model.safetensors`, edit);
    return path;
  };
  const start = (hubert: string, bert: string) =>
    trainConfig({ ...{ preset: "nano", system: "both-cmgi", data: scratch, fold: 1 }, hubert, bert });
  const good = await reader("good-bert", {});
  await checkStages(host, start(hubert, good), data);
  const lacking = (key: RegExp) => (tensors: Map<string, unknown>) => {
    for (const name of [...tensors.keys()]) if (key.test(name)) tensors.delete(name);
  };
  const renamed: Parameters<typeof editCheckpoint>[2] = (tensors) => {
    for (const [key, tensor] of [...tensors]) {
      tensors.delete(key);
      tensors.set(`electra.${key}`, tensor);
    }
  };
  const headless = folder("headless", { "config.json": configOf("hubert-tiny-stable") });
  await editCheckpoint(
    `${reference}/hubert-tiny-stable/model.safetensors`,
    `${headless}/model.safetensors`,
    lacking(/layers\.1\.attention\.k_proj\.bias/),
  );
  const wrong: [string, string, RegExp][] = [
    [hubert, await reader("roberta", { model_type: "roberta" }), /it is a RoBERTa model .*, BERT expected$/],
    [
      hubert,
      await reader("electra", {}, renamed),
      /holds electra\..*, so it is an ELECTRA model, BERT expected$/,
    ],
    [
      hubert,
      await reader("short", {}, lacking(/layer\.1\.output/)),
      /holds no bert\.encoder\.layer\.1\.output/,
    ],
    [hubert, await reader("deep", { num_hidden_layers: 1 }), /has no place for .*layer\.1\./],
    [
      hubert,
      await reader("wide", { vocab_size: 999 }),
      /word_embeddings\.weight is \(\d+, 64\) but .* \(999, 64\)$/,
    ],
    [headless, good, /holds no hubert\.encoder\.layers\.1\.attention\.k_proj\.bias/],
    [good, good, /it is a BERT model .*, HuBERT or wav2vec 2\.0 expected$/],
  ];
  for (const [hubert, bert, message] of wrong)
    await assert.rejects(checkStages(host, start(hubert, bert), data), (error: Error) => {
      assert.match(error.message, message);
      return true;
    });
});

test("openModelFolder() says what a folder holds that writes no words, and what it is good for", async () => {
  const hubert = configOf("hubert-tiny-stable");
  const without = async (name: string, config: Json, extra: readonly string[] = []) => {
    const path = folder(name, { "config.json": config });
    await editCheckpoint(
      `${reference}/hubert-tiny-stable/model.safetensors`,
      `${path}/model.safetensors`,
      (tensors) => {
        for (const key of [...tensors.keys()]) if (key.startsWith("lm_head")) tensors.delete(key);
        for (const key of extra) tensors.set(key, { dtype: "F32", shape: [1], data: new Uint8Array(4) });
      },
    );
    return path;
  };
  const start = "train --hubert \\S+ can start from its encoder$";
  const cases: [string, string][] = [
    [
      await without("classifier", { ...hubert, architectures: ["HubertForSequenceClassification"] }),
      `it is a HubertForSequenceClassification, which this version does not run; ${start}`,
    ],
    [
      await without("unnamed", { ...hubert, architectures: null }, ["classifier.weight"]),
      `it is a classifier, .*; ${start}`,
    ],
    [
      await without("encoder", { ...hubert, architectures: ["HubertModel"] }),
      `it is a HubertModel without a CTC head, .*; ${start}`,
    ],
    [
      await without("bare", { ...hubert, architectures: undefined }),
      `it is a plain encoder without a CTC head, .*; ${start}`,
    ],
    // Though its weights are not even there.
    [
      folder("fetch", {
        "config.json": { ...hubert, architectures: ["Wav2Vec2ForSequenceClassification"] },
        "pytorch_model.bin": "x",
      }),
      `it is a Wav2Vec2ForSequenceClassification, which this version does not run; ${start}`,
    ],
    [
      folder("reads", { "config.json": { ...configOf("bert-tiny"), architectures: ["BertModel"] } }),
      "it is a BertModel, which takes text, not speech; train --bert \\S+ can start from it$",
    ],
    [
      folder("whisper", { "config.json": { model_type: "whisper" } }),
      "it is a Whisper model .*, HuBERT or wav2vec 2\\.0 expected$",
    ],
    [folder("wavlm", { "config.json": { ...hubert, model_type: "wavlm" } }), "it is a WavLM model "],
  ];
  for (const [path, message] of cases) await assert.rejects(openModelFolder(host, path), new RegExp(message));
});

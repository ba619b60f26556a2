/** Folders of models as people have them: what they are, what their small files say, and what a run refuses of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { openFeatureExtractor } from "../src/models/feature_extractor.ts";
import { trainConfig } from "../src/speech/recipes/presets.ts";
import { openModelFolder } from "../src/speech/system/folder.ts";
import { checkStages } from "../src/speech/training/stage_inputs.ts";
import { editCheckpoint } from "./checkpoint.ts";
import {
  configOf,
  ctcModel,
  data,
  extractor,
  folder,
  type Json,
  notebook,
  reference,
  scratch,
} from "./model_folders.ts";

const host = await currentHost();
const [loud, plain] = [true, false].map((x) => ({ ...extractor, do_normalize: x }));

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
      `it is a HubertForSequenceClassification without projector.weight, so its classifier is not that of transformers; ${start}`,
    ],
    [
      await without("speakers", { ...hubert, architectures: ["Wav2Vec2ForXVector"] }, [
        "projector.weight",
        "classifier.weight",
      ]),
      `it is a Wav2Vec2ForXVector without a CTC head or a classifier, .*; ${start}`,
    ],
    [
      await without("encoder", { ...hubert, architectures: ["HubertModel"] }),
      `it is a HubertModel without a CTC head or a classifier, .*; ${start}`,
    ],
    [
      await without("bare", { ...hubert, architectures: undefined }),
      `it is a plain encoder without a CTC head or a classifier, .*; ${start}`,
    ],
    // Though its weights are not even there.
    [
      folder("fetch", {
        "config.json": { ...hubert, architectures: ["Wav2Vec2ForXVector"] },
        "tf_model.h5": "x",
      }),
      `it is a Wav2Vec2ForXVector without a CTC head or a classifier, .*; ${start}`,
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

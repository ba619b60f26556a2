import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { CtcVocabulary } from "../src/io/vocabulary.ts";
import { bertConfig, checkSubwords, hubertConfig, vocabularyOfHead } from "../src/models/config.ts";
import { emotionConfig } from "../src/speech/system/emotion_system.ts";

type Json = Record<string, unknown>;
type Parse = (json: unknown, source: string) => unknown;

const reference = fileURLToPath(new URL("reference", import.meta.url));
const configOf = (name: string): Json => JSON.parse(readFileSync(`${reference}/${name}/config.json`, "utf8"));
const [hubert, wav2vec2, bert] = ["hubert-tiny-stable", "wav2vec2-tiny-stable", "bert-tiny"].map(configOf);

/** Every wrong value is refused by one line with the file, the key, what is and what should be. */
function refuses(good: Json, parse: Parse, wrong: [string, unknown, string][]): void {
  for (const [key, value, wanted] of wrong)
    assert.throws(() => parse({ ...good, [key]: value }, "DIR/config.json"), {
      name: "SyntaxError",
      message: `Cannot use DIR/config.json: ${key} is ${Number.isNaN(value) ? "NaN" : JSON.stringify(value)} but should be ${wanted}`,
    });
}

const count = "a whole number from 1 to 2147483647";
const list = "a list of whole numbers from 1 to 2147483647";
const rate = "a rate of 0 or more, less than 1";
const eps = "a number above 0, at most 1";

test("hubertConfig() refuses values out of range", () => {
  refuses(hubert, hubertConfig, [
    ["layer_norm_eps", -1e-5, eps],
    ["layer_norm_eps", 0, eps],
    ["layer_norm_eps", 1e-60, eps],
    ["layer_norm_eps", 5, eps],
    ["layer_norm_eps", "1e-5", eps],
    ["layer_norm_eps", Number.NaN, eps],
    ["num_attention_heads", 5, "a divisor of hidden_size, 64"],
    ["num_attention_heads", 0, count],
    ["num_conv_pos_embedding_groups", 3, "a divisor of hidden_size, 64"],
    ["num_conv_pos_embeddings", 0, count],
    ["num_hidden_layers", 1.5, count],
    ["num_hidden_layers", -2, count],
    ["num_hidden_layers", 0, count],
    ["num_hidden_layers", 1e300, count],
    ["num_hidden_layers", "2", count],
    ["num_hidden_layers", null, count],
    ["hidden_size", -64, count],
    ["intermediate_size", 0.5, count],
    ["vocab_size", 0, count],
    ["pad_token_id", 32, "below vocab_size, 32"],
    ["pad_token_id", -1, "a whole number from 0 to 2147483647"],
    ["hidden_dropout", 1.5, rate],
    ["hidden_dropout", -0.1, rate],
    ["attention_dropout", 1, rate],
    ["activation_dropout", 2, rate],
    ["feat_proj_dropout", -1, rate],
    ["final_dropout", true, rate],
    ["layerdrop", 1, rate],
    ["conv_dim", [], list],
    ["conv_kernel", [], list],
    ["conv_dim", 32, list],
    ["conv_kernel", [10, 3], "a list of 7 numbers, as conv_dim"],
    ["conv_stride", [5, 2, 2, 2, 2, 2, 2, 2], "a list of 7 numbers, as conv_dim"],
    ["hidden_act", "toString", "one of gelu, gelu_new, gelu_pytorch_tanh, relu"],
    ["feat_extract_norm", "batch", "one of layer, group"],
    ["do_stable_layer_norm", 1, "true or false"],
  ]);
  const read = (more: Json) => () => hubertConfig({ ...hubert, ...more }, "a.json");
  for (const [more, message] of [
    [{ conv_stride: [5, 2, 2, 2, 2, 2, 0] }, `conv_stride.6 is 0 but should be ${count}`],
    [{ conv_dim: [32, 32, 32, 32.5, 32, 32, 32] }, `conv_dim.3 is 32.5 but should be ${count}`],
    // One that is not given is shown with its default.
    [
      { hidden_size: 20, num_attention_heads: 2, num_conv_pos_embedding_groups: null },
      "num_conv_pos_embedding_groups is 16 but should be a divisor of hidden_size, 20",
    ],
    [
      { conv_pos_batch_norm: true },
      "conv_pos_batch_norm is true but should be false: batch norm is not built",
    ],
    [{ adapter_attn_dim: 8 }, "adapter_attn_dim is 8 but should be absent: attention adapters are not built"],
  ] as const)
    assert.throws(read(more), { message: `Cannot use a.json: ${message}` });
  const { num_hidden_layers: _, ...without } = hubert;
  assert.throws(() => hubertConfig(without, "a.json"), {
    message: `Cannot use a.json: it lacks the key num_hidden_layers, ${count}`,
  });
  assert.throws(
    () => hubertConfig([hubert], "a.json"),
    /^SyntaxError: Cannot use a\.json: it is \[.* but should be an object$/,
  );
  // Nothing reads the masks then.
  hubertConfig({ ...hubert, apply_spec_augment: false, mask_time_length: 0 }, "a.json");
  refuses({ ...hubert, apply_spec_augment: true }, hubertConfig, [
    ["mask_time_prob", 1.2, rate],
    ["mask_time_length", 0, count],
    ["mask_feature_min_masks", -1, "a whole number from 0 to 2147483647"],
  ]);
});

test("bertConfig() refuses values out of range", () => {
  refuses(bert, bertConfig, [
    ["layer_norm_eps", -1, eps],
    ["num_attention_heads", 7, "a divisor of hidden_size, 64"],
    ["num_hidden_layers", 2.5, count],
    ["hidden_dropout_prob", 1.5, rate],
    ["attention_probs_dropout_prob", -1, rate],
    ["classifier_dropout", 1, rate],
    ["max_position_embeddings", 1, "a whole number from 2 to 2147483647"],
    ["type_vocab_size", 0, count],
    ["vocab_size", -1, count],
    ["pad_token_id", 1000, "below vocab_size, 1000"],
    ["id2label", {}, "an object with a name for every class"],
    ["id2label", ["a"], "an object with a name for every class"],
    ["num_labels", 0, count],
  ]);
});

test("hubertConfig() and bertConfig() leave alone what they do not know", () => {
  const more = { torch_dtype: "float16", task_specific_params: null, "my own": [1, { deep: true }] };
  assert.deepEqual(hubertConfig({ ...hubert, ...more }, "a.json"), hubertConfig(hubert, "a.json"));
  assert.deepEqual(bertConfig({ ...bert, ...more }, "a.json"), bertConfig(bert, "a.json"));
  assert.equal(hubertConfig(wav2vec2, "a.json").prefix, "wav2vec2");
});

test("emotionConfig() names the part of the file in which a value is wrong", () => {
  const { cmgi, ...whole } = configOf("e2e-tiny");
  const read = (json: Json) => () => emotionConfig(json, "config.json");
  const hurt = { ...(whole.hubert as Json), layer_norm_eps: -1 };
  assert.throws(read({ ...whole, cmgi, hubert: hurt }), {
    message: `Cannot use config.json (hubert): layer_norm_eps is -1 but should be ${eps}`,
  });
  assert.throws(read({ ...whole, cmgi, labels: ["sad", "sad", "angry", "happy"] }), /none of them twice$/);
  assert.throws(read({ ...whole, cmgi, hubert: "x".repeat(500) }), (error: Error) => {
    assert.match(error.message, /^Cannot use config\.json: hubert is "x+\.\.\. but should be an object$/);
    return error.message.length < 160;
  });
});

test("hubertConfig() and bertConfig() name the family of a model that they do not build", () => {
  const roberta = { ...bert, model_type: "roberta" };
  const { model_type: _, ...anonymous } = bert;
  const wrong: [Json, Parse, RegExp][] = [
    [
      roberta,
      bertConfig,
      /^Cannot use a\.json: it is a RoBERTa model \(model_type is "roberta"\), BERT expected$/,
    ],
    [{ ...bert, model_type: "xlm-roberta" }, bertConfig, /it is an XLM-R model .*, BERT expected$/],
    [{ ...bert, model_type: "something-new" }, bertConfig, /it is a "something-new" model/],
    [hubert, bertConfig, /it is a HuBERT model .*, BERT expected$/],
    [roberta, hubertConfig, /it is a RoBERTa model .*, HuBERT or wav2vec 2\.0 expected$/],
    [{ ...hubert, model_type: "wavlm" }, hubertConfig, /it is a WavLM model/],
    // Without model_type the classes tell, and without these RoBERTa's positions.
    [
      { ...anonymous, architectures: ["XLMRobertaForMaskedLM"] },
      bertConfig,
      /it is an XLM-R model \(architectures is \["XLMRobertaForMaskedLM"\]\)/,
    ],
    [
      { ...anonymous, architectures: undefined, max_position_embeddings: 514, type_vocab_size: 1 },
      bertConfig,
      /514 positions with .* are those of a RoBERTa model, BERT expected$/,
    ],
    // Both are given and do not agree.
    [
      { ...bert, architectures: ["RobertaForMaskedLM"] },
      bertConfig,
      /^Cannot use a\.json: model_type is "bert", but architectures is \["RobertaForMaskedLM"\], of a RoBERTa model; one of them is wrong$/,
    ],
    [{ ...bert, architectures: ["FlaxElectraForPreTraining"] }, bertConfig, /of an ELECTRA model; one of/],
    [{ ...hubert, architectures: ["WavLMForCTC"] }, hubertConfig, /of a WavLM model; one of/],
    [{ ...bert, model_type: ["bert"] }, bertConfig, /model_type is \["bert"\] but should be a name$/],
    [{ ...hubert, model_type: 0 }, hubertConfig, /model_type is 0 but should be a name$/],
    [{ ...bert, is_decoder: true }, bertConfig, /is_decoder is true but should be false: a decoder/],
  ];
  for (const [json, parse, message] of wrong)
    assert.throws(
      () => parse(json, "a.json"),
      (error: Error) => message.test(error.message),
    );
  const nothing = { ...anonymous, architectures: null, model_type: null };
  assert.deepEqual(bertConfig(nothing, "a.json"), bertConfig(bert, "a.json"));
  for (const own of ["MyBertForNer", "TFBertModel", "bert"])
    bertConfig({ ...bert, architectures: [own] }, "a.json");
  const named: Json = { ...wav2vec2, architectures: ["Wav2Vec2ForCTC"] };
  delete named.model_type;
  assert.equal(hubertConfig(named, "a.json").prefix, "wav2vec2");
});

test("hubertConfig() takes null for absent, as older libraries write it", () => {
  const nulls = { hidden_act: null, mask_feature_length: null, pad_token_id: null, torch_dtype: null };
  const plain = { ...hubert };
  for (const key of Object.keys(nulls)) delete plain[key];
  const read = (json: Json) => hubertConfig(json, "config.json");
  assert.deepEqual(read({ ...hubert, ...nulls }), read(plain));
});

test("vocabularyOfHead() and checkSubwords() hold a model to its vocabularies", () => {
  const fit = (more: Json) => vocabularyOfHead({ ...hubert, ...more }, "a.json", vocabulary);
  const fifty = { ...bert, vocab_size: 50 };
  const letters = [..."abcdefghijklmnopqrstuvwxyz'|"];
  const own = Object.fromEntries([...letters, "[UNK]", "[PAD]"].map((token, id) => [token, id]));
  const added = { "<s>": 30, "</s>": 31 };
  const vocabulary = new CtcVocabulary(own, { pad: "[PAD]", unknown: "[UNK]" }, { added });
  const pad = { pad_token_id: 29 };
  for (const size of [30, 32, 40]) {
    const fitted = fit({ ...pad, vocab_size: size });
    assert.deepEqual([fitted.size, fitted.blank, fitted.delimiter], [size, 29, 27]);
    assert.equal(fitted.decode([0, 31, 39, 1, 28]), "ab");
    assert.deepEqual(fitted.encode("aé"), [0, 28]);
  }
  assert.equal(fit({ pad_token_id: null }).blank, 29);
  const wrong: [Json, string][] = [
    [{ vocab_size: 27 }, "vocab_size is 27 but should be at least 28, for the tokens of vocab.json"],
    [{ vocab_size: 29 }, "vocab_size is 29 but should be above 29, the id of the blank in vocab.json"],
    [{ pad_token_id: 0 }, 'pad_token_id is 0 but should be 29, the id of the blank "[PAD]" in vocab.json'],
  ];
  for (const [more, message] of wrong)
    assert.throws(() => fit({ pad_token_id: null, ...more }), {
      message: `Cannot use a.json: ${message}`,
    });
  checkSubwords(fifty, "b.json", 50);
  checkSubwords(fifty, "b.json", 30);
  assert.throws(() => checkSubwords(fifty, "b.json", 366), {
    message: "Cannot use b.json: vocab_size is 50 but should be at least 366, the tokens of BERT's tokenizer",
  });
});

test("checkSubwords() refuses a vocabulary that is cut off, and lets a padded vocab_size pass", () => {
  const check = (rows: number, count: number, endsAbruptly = false) => {
    const config = { ...bert, vocab_size: rows };
    return () => checkSubwords(config, "b.json", count, { path: "vocab.txt", endsAbruptly });
  };
  for (const [rows, count] of [
    [30522, 30522],
    [30528, 30522],
    [30592, 30522],
    [29056, 28996],
  ])
    check(rows, count)();
  check(50, 50, true)();
  for (const [rows, count] of [
    [30522, 30521],
    [30522, 20000],
    [200, 100],
    [29056, 28000],
  ])
    assert.throws(check(rows, count), {
      name: "RangeError",
      message: `Cannot use vocab.txt: it holds ${count} tokens but vocab_size is ${rows}; it is cut off or of another model`,
    });
  assert.throws(check(30528, 30522, true), {
    message:
      "Cannot use vocab.txt: it holds 30522 tokens but vocab_size is 30528; it ends within a line, as if cut off",
  });
});

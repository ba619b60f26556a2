/** The systems of LSTMs: gradients by finite differences, what they read, and configs that they refuse. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CtcVocabulary } from "../src/io/vocabulary.ts";
import { Weights } from "../src/nn/weights.ts";
import { examine } from "../src/speech/corpora/examine.ts";
import { applySettings, checkConfig } from "../src/speech/recipes/config.ts";
import { PRESETS, trainConfig } from "../src/speech/recipes/presets.ts";
import { spells, systemConfig, systemOf } from "../src/speech/recipes/systems.ts";
import { emotionConfig, emotionSystem } from "../src/speech/system/emotion_system.ts";
import { Inference } from "../src/speech/system/inference.ts";
import { checkWords, lstmSystemConfig, vocabularyOfLstm } from "../src/speech/system/lstm_config.ts";
import { newRun } from "../src/speech/training/prepare_run.ts";
import { gradcheck } from "../src/tensor/gradcheck.ts";
import { testDevice } from "./device.ts";
import { tinyBatch, tinySystem } from "./tiny_system.ts";

const device = await testDevice();
const NAMES = ["lstm-las", "lstm-las-hidden", "lstm-both"] as const;
const TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", ..."ETAONIHSRDLUMWCFGYPBVK'XJQZ"];
const vocabulary = new CtcVocabulary(Object.fromEntries(TOKENS.map((token, id) => [token, id])));

for (const name of NAMES)
  test(`${name}: the gradient of its loss by every parameter passes finite differences`, async () => {
    const { weights, task } = await tinySystem(device, name, 1);
    const batch = tinyBatch(2, 0.3);
    await gradcheck(device, weights.parameters, () => task.losses(batch, {}).loss, { directions: 1 });
    weights.dispose();
  });

/** A system with random weights, and its answers to a batch. */
async function answers(name: (typeof NAMES)[number], options: { beam?: number; words?: number } = {}) {
  const json = systemConfig(systemOf(name), 1, {
    lstm: { ...PRESETS.nano.model.lstm, vocab_size: 32, word_vocab_size: 20 },
    alpha: 0.3,
  });
  const weights = new Weights(device, { seed: 3 });
  const system = emotionSystem(weights.root, emotionConfig(json, name));
  await weights.initialize();
  const { audio, samples, lengths, words } = tinyBatch(2, 0.4);
  const seen = new Set<string>();
  const found = await new Inference(system, { vocabulary }).run(
    { speech: { audio, samples, lengths }, words: name === "lstm-both" ? words : undefined },
    { beam: options.beam, observe: (stage) => void seen.add(stage) },
  );
  weights.dispose();
  assert.equal(device.pool.statistics.live, 0, "bytes are left alive in the pool");
  return { ...found, seen };
}

test("an attention decoder gives transcripts with times, greedily and by beam, and the emotion follows", async () => {
  for (const name of ["lstm-las", "lstm-las-hidden"] as const)
    for (const beam of [undefined, 2]) {
      const { transcripts, probabilities, seen } = await answers(name, { beam });
      assert.equal(transcripts?.length, 2);
      for (const { text, words, ids } of transcripts) {
        assert.equal(text, words.map((word) => word.text).join(" "));
        assert.equal(vocabulary.decode(ids), text);
        for (const { start, end, confidence } of words.flatMap((word) => word.characters)) {
          assert.ok(start >= 0 && end > start && end <= 0.4, `${start} to ${end} s`);
          assert.ok(confidence > 0 && confidence <= 1);
        }
      }
      for (const p of probabilities ?? []) {
        const sum = Object.values(p).reduce((a, b) => a + b, 0);
        assert.ok(Math.abs(sum - 1) < 1e-5);
      }
      for (const stage of ["log_mel", "acoustic_hidden", "pooling", "pooled", "logits"])
        assert.ok(seen.has(stage), `${name} shows no ${stage}`);
      assert.equal(seen.has("spelling_logits"), name === "lstm-las-hidden");
    }
});

test("lstm-both recognises by CTC and reads words", async () => {
  const { transcripts, probabilities, seen } = await answers("lstm-both");
  assert.equal(transcripts?.length, 2);
  assert.equal(probabilities?.length, 2);
  for (const stage of ["ctc_logits", "pooled_words", "logits"]) assert.ok(seen.has(stage), stage);
});

const lstm = { ...PRESETS.nano.model.lstm, vocab_size: 32, word_vocab_size: 20 };
const read = (json: Record<string, unknown>) => emotionConfig(json, "config.json");

test("configs of no such system are refused in one line", () => {
  const las = { modalities: "acoustic", lstm: { ...lstm, kind: "las" } };
  assert.equal(read(las).lstm?.las?.decoder.vocabSize, 32);
  for (const [change, message] of [
    [{ modalities: "both" }, 'modalities is "both" but should be "acoustic", as lstm.kind is'],
    [{ lstm: { ...lstm, kind: "both" } }, 'modalities is "acoustic" but should be "both", as lstm.kind'],
    [{ asr: false }, "asr is false but should be true: systems of LSTMs recognise characters"],
  ] as const)
    assert.throws(() => read({ ...las, ...change }), { message: `Cannot use config.json: ${message}` });
  assert.throws(() => read({ ...las, lstm: { ...lstm, kind: "las", n_mels: 400 } }), /n_mels is 400/);
  const both = lstmSystemConfig({ ...lstm, kind: "both" }, "config.json");
  assert.equal(vocabularyOfLstm(both, "config.json", vocabulary).size, 32);
  assert.throws(() => vocabularyOfLstm({ ...both, vocabSize: 20 }, "config.json", vocabulary), {
    message:
      "Cannot use config.json: vocab_size is 20 but should be at least 32, for the tokens of vocab.json",
  });
  assert.throws(
    () => vocabularyOfLstm({ ...both, blank: 3 }, "config.json", vocabulary),
    /pad_token_id is 3/,
  );
  checkWords(both, "config.json", { vocabularySize: 20, padId: 0 });
  assert.throws(() => checkWords(both, "config.json", { vocabularySize: 21, padId: 0 }), {
    message:
      "Cannot use config.json: word_vocab_size is 20 but should be at least 21, the tokens of the tokenizer",
  });
  assert.throws(() => checkWords(both, "config.json", { vocabularySize: 20, padId: 1 }), /padding/);
});

test("recipes: what a system of LSTMs does not read is refused, and checkpoints that it cannot take", () => {
  const recipe = (system: string, ...set: string[]) =>
    checkConfig(
      applySettings(trainConfig({ preset: "small", system, data: "corpus", fold: "1" }), set),
      "it",
    );
  for (const name of NAMES) {
    assert.deepEqual(recipe(name).stages, [1]);
    assert.equal(recipe(name, "model.lstm.hidden_size=8").model.lstm?.hidden_size, 8);
    assert.equal(spells(name), name !== "lstm-both");
  }
  const refused = (system: string, setting: string, message: RegExp) =>
    assert.throws(() => recipe(system, setting), message, `${system} ${setting}`);
  refused("lstm-las", "model.lstm.max_tokens=8", /the system lstm-las reads no words/);
  refused("lstm-both", "model.lstm.attention_size=8", /the system lstm-both has no decoder/);
  refused("lstm-las", "model.lstm.kind=both", /--system NAME chooses it/);
  refused("lstm-las", "model.lstm.hiden_size=8", /did you mean model\.lstm\.hidden_size\?/);
  refused("lstm-las", "model.hubert.hidden_size=8", /the system lstm-las has no model\.hubert/);
  refused("both-cmgi", "model.lstm.hidden_size=8", /the system both-cmgi has no model\.lstm/);
  refused("lstm-las", "stage1.ctcReduction=sum", /has no CTC head/);
  refused("lstm-las", "stage1.activations=f16", /has no transformer layers/);
  refused("lstm-both", "stage1.learningRate.encoder=1", /learningRate\.heads is that of all/);
  const run = (given: { hubert?: string; bert?: string }, system: string) => () =>
    newRun({ ...{ preset: "nano", data: "corpus", set: [], system }, ...given }, () => {});
  assert.throws(run({ hubert: "h" }, "lstm-las"), {
    message: "Cannot use --hubert: the system lstm-las hears by LSTMs alone",
  });
  assert.throws(run({ bert: "b" }, "lstm-las"), /the system lstm-las reads no text/);
  assert.equal(run({ bert: "b" }, "lstm-both")().config.from.bert, "b");
});

test("an attention decoder needs no frame for each character", async () => {
  const { host } = device;
  const wav = new URL("../weights/default/clips/Ses05F_impro03_F000.wav", import.meta.url).pathname;
  const utterance = {
    ...{ id: "u", wav, text: "x", words: "X".repeat(5000), speaker: "01F", session: "Session1" },
    ...{ dialogue: "d", improvised: true, start: 0, end: 1 },
  };
  const corpus = { root: "corpus", sessions: ["Session1"], utterances: [utterance], problems: [] };
  assert.equal((await examine(host, corpus as never)).notForCtc.size, 1);
  assert.equal((await examine(host, corpus as never, { ctc: false })).notForCtc.size, 0);
});

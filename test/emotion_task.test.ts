/** What a training task makes of a batch: the words that it learns from, what its classes count, and gates over modalities. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CtcVocabulary } from "../src/io/vocabulary.ts";
import { Weights } from "../src/nn/weights.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import type { Utterance } from "../src/speech/corpora/corpus.ts";
import { CmGI, cmgiConfig } from "../src/speech/system/cmgi.ts";
import { Inference } from "../src/speech/system/inference.ts";
import {
  balancedWeights,
  EmotionTask,
  type EmotionTaskOptions,
} from "../src/speech/training/emotion_task.ts";
import { readBatch } from "../src/speech/training/examples.ts";
import { gradcheck } from "../src/tensor/gradcheck.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { AdamW } from "../src/train/optimizer.ts";
import { trainingStream } from "../src/train/seeds.ts";
import { update } from "../src/train/update.ts";
import { testDevice } from "./device.ts";
import { normal } from "./reference.ts";
import { tinyBatch, tinySystem } from "./tiny_system.ts";

const device = await testDevice();

const LETTERS = "<pad> <s> </s> <unk> | E T A O N I H S R D L U M W C F G Y P B V K ' X J Q Z".split(" ");
const vocabulary = new CtcVocabulary(Object.fromEntries(LETTERS.map((token, id) => [token, id])));

/** A tokenizer of letters, ids from 5. */
const tokenizer = {
  ...{ padId: 0, maxLength: 16, vocabularySize: 20 },
  encode: async (text: string) => ({
    ids: [2, ...[...text].map((letter) => 5 + ((letter.codePointAt(0) ?? 0) % 15)), 3],
  }),
} as unknown as EmotionTaskOptions["reader"]["tokenizer"];

/** The task of a tiny system with other options. */
async function taskOf(name: string, stage: 1 | 2, more: Partial<EmotionTaskOptions>) {
  const { weights, task, system } = await tinySystem(device, name, stage, { layerdrop: 0 });
  const options = {
    ...{ system, parameters: weights.parameters, train: [], dev: [], seed: 1, alpha: 0.3 },
    ...{ batch: { items: 4 }, ctcReduction: "mean" as const, labelSmoothing: 0 },
    augment: { speed: 0, pitchFormantShift: 0, tilt: 0, noise: 0 },
    reader: { host: device.host, maxTokens: 16, vocabulary, tokenizer },
    save: task.save,
  };
  return { weights, system, task: new EmotionTask({ ...options, ...more }) };
}

test("BERT learns from the words that the system recognises with the weights of the update", async () => {
  const { weights, system, task } = await taskOf("wav2vec2-both", 2, { words: "recognised" });
  const batch = tinyBatch(3, 0.7);
  const first = await task.prepare(batch, {});
  assert.deepEqual(await task.prepare(batch, {}), first, "the same words from the same weights");
  const inference = new Inference(system, { vocabulary, tokenizer });
  const { transcripts } = await inference.run({ speech: batch });
  const ids = await Promise.all(
    (transcripts ?? []).map(async ({ text }) => (await tokenizer?.encode(text.toLowerCase()))?.ids),
  );
  for (const [b, row] of ids.entries()) {
    const cut = row && row.length > 64 ? [...row.slice(0, 63), 3] : row;
    assert.deepEqual(first.words?.ids[b].slice(0, cut?.length), cut);
    assert.equal(
      first.words?.mask?.[b].reduce((n, x) => n + x, 0),
      cut?.length,
    );
  }
  assert.notDeepEqual(first.words, batch.words);
  // An update is one on those words, of which its loss is.
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 1e-2, maxGradNorm: 1 });
  const loss = scope(device, () => task.losses(first, { training: trainingStream("words") }).loss);
  const expected = await loss.item();
  const mode = () => ({ training: trainingStream("words") });
  const result = await update(device, task, optimizer, [batch], { factor: 1, mode });
  assert.equal(result.loss, expected);
  for (let step = 0; step < 3; step++) await update(device, task, optimizer, [batch], { factor: 1, mode });
  assert.notDeepEqual((await task.prepare(batch, {})).words, first.words, "other weights, other words");
  loss.release();
  optimizer.dispose();
  const still = await taskOf("both-none", 2, {});
  assert.equal(await still.task.prepare(batch, {}), batch, "the true words are in the batch");
  for (const one of [weights, still.weights]) one.dispose();
});

test("class weights weigh the emotion's loss, a mean over the weights of the targets", async () => {
  const lossWith = async (classWeights?: readonly number[]) => {
    const { weights, task } = await taskOf("acoustic", 1, { classWeights });
    const batch = { ...tinyBatch(2, 0.6), labels: [0, 2] };
    const value = scope(device, () => task.losses(batch, {}).loss);
    const loss = await value.item();
    value.release();
    weights.dispose();
    return loss;
  };
  const [plain, first, second] = [
    await lossWith(),
    await lossWith([1, 0, 0, 0]),
    await lossWith([0, 0, 1, 0]),
  ];
  assert.ok(Math.abs(plain - (first + second) / 2) < 1e-6);
  assert.ok(Math.abs((await lossWith([3, 9, 1, 9])) - (3 * first + second) / 4) < 1e-6);
});

const utterance = (label: Utterance["label"], words = ""): Utterance => ({
  ...{ id: `${label} ${words}`, wav: "/nowhere.wav", text: words, words, label, speaker: "01F" },
  ...{ session: "Session1", dialogue: "d", improvised: true, seconds: 2 },
});

test("balancedWeights() gives every class the same share, and 1 to one that does not occur", () => {
  const labels = ["angry", "angry", "angry", "sad", undefined] as const;
  assert.deepEqual(balancedWeights(labels.map((label) => utterance(label))), [4 / 12, 1, 1, 1]);
  const even = ["angry", "happy", "sad", "neutral"] as const;
  assert.deepEqual(balancedWeights(even.map((label) => utterance(label))), [1, 1, 1, 1]);
});

test("readBatch() opens no recording where none is read", async () => {
  const reader = { host: device.host, maxTokens: 16, tokenizer, audio: false };
  const batch = await readBatch(reader, [utterance("sad", "SO"), utterance(undefined, "OH WE")]);
  assert.deepEqual(batch?.labels, [2, -100]);
  assert.deepEqual([batch?.samples, batch?.audio.length, batch?.seconds], [0, 0, 4]);
  assert.deepEqual(
    batch?.words?.ids.map((row) => row.length),
    [7, 7],
  );
});

test("what readBatch() changes of the words BERT reads, and a recogniser does not learn", async () => {
  const reader = { host: device.host, maxTokens: 16, tokenizer, vocabulary, audio: false };
  const wanted = [utterance("sad", "SO")];
  const [plain, changed] = [
    await readBatch(reader, wanted),
    await readBatch(reader, wanted, { words: (words, id) => (id === "sad SO" ? "OO" : words) }),
  ];
  assert.deepEqual(changed?.targets, plain?.targets);
  assert.deepEqual(changed?.targets, [vocabulary.encode("SO")]);
  assert.notDeepEqual(changed?.words, plain?.words);
});

for (const interaction of ["self", "cross"] as const)
  for (const bounded of [true, false])
    test(`a gate over modalities after ${interaction}-attention, ${bounded ? "" : "un"}bounded, passes finite differences`, async () => {
      const sizes = { d: 4, d_s: 5, d_t: 3, num_classes: 4, heads: 2 };
      const weights = new Weights(device, { seed: 4 });
      const head = new CmGI(
        weights.at("cmgi"),
        cmgiConfig({ ...sizes, interaction, gate: "modal", bounded }, "x"),
      );
      await weights.initialize();
      for (const [i, p] of weights.parameters.entries()) p.write(normal(p.value.size, 30 + i, 0.5));
      const xS = Tensor.from(device, normal(2 * 6 * 5, 1), [2, 6, 5]);
      const xT = Tensor.from(device, normal(2 * 4 * 3, 2), [2, 4, 3]);
      const mask = (rows: number[][]) =>
        Tensor.from(device, Uint32Array.from(rows.flat()), [2, rows[0].length]);
      const [maskS, maskT] = [
        mask([
          [1, 1, 1, 1, 1, 1],
          [1, 1, 1, 1, 0, 0],
        ]),
        mask([
          [1, 1, 1, 0],
          [1, 1, 1, 1],
        ]),
      ];
      const loss = () => crossEntropy(head.forward({ xS, xT, maskS, maskT }).logits, [1, 3]);
      assert.ok((await gradcheck(device, [xS, xT, ...weights.parameters], loss)) < 1e-2);
      const gates = scope(device, () => head.forward({ xS, xT, maskS, maskT }).gates);
      assert.ok(gates);
      const [s, t] = [await gates.s.read(), await gates.t.read()];
      assert.deepEqual(
        [gates.s.shape, gates.t.shape],
        [
          [2, 1, 4],
          [2, 1, 4],
        ],
      );
      for (const [i, g] of s.entries())
        assert.ok(Math.abs(g + t[i] - 1) < 1e-6 && (!bounded || (g > 0 && g < 1)));
      for (const tensor of [gates.s, gates.t, xS, xT, maskS, maskT]) tensor.release();
      weights.dispose();
    });

test("cmgiConfig() refuses a gate over modalities where the interaction has its own", () => {
  for (const interaction of ["none", "cmgi"])
    assert.throws(
      () => cmgiConfig({ d: 4, d_s: 5, d_t: 3, interaction, gate: "modal" }, "c"),
      /interaction is "\w+" but should be self or cross, with the gate "modal"$/,
    );
});

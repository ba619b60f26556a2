/** Listen, attend and spell: every stage and gradient that PyTorch computed, padding, gradients, and the search. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { currentHost } from "../src/host/current.ts";
import { readJson } from "../src/io/config.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { receptiveField } from "../src/models/hubert.ts";
import { lasConfig, ListenAttendSpell } from "../src/models/las.ts";
import { lengthMask } from "../src/models/lstm_encoder.ts";
import { AttentionPooling } from "../src/nn/attention_pooling.ts";
import { Linear } from "../src/nn/linear.ts";
import { Lstm } from "../src/nn/lstm.ts";
import { Weights } from "../src/nn/weights.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import { add } from "../src/ops/elementwise.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { gradcheck } from "../src/tensor/gradcheck.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { LAS_FOLDER, stored } from "./las_reference.ts";
import { near } from "./ops_fixture.ts";
import { normal } from "./reference.ts";

const device = await testDevice();
const host = await currentHost();

const TINY = {
  ...{ n_fft: 64, win_length: 64, hop_length: 32, n_mels: 6, f_min: 500, hidden_size: 4, encoder_layers: 3 },
  ...{ embedding_size: 3, decoder_hidden_size: 5, decoder_layers: 2, attention_size: 4, vocab_size: 4 },
};

async function tiny(more: Record<string, unknown> = {}) {
  const weights = new Weights(device, { seed: 2 });
  const model = new ListenAttendSpell(weights.root, lasConfig({ ...TINY, ...more }, "tiny"));
  await weights.initialize();
  return { weights, model };
}

test("every stage, loss and gradient is what PyTorch computed", async () => {
  const [inputs, outputs] = [await stored("inputs"), await stored("outputs_f64")];
  const file = await openSafetensors(host, LAS_FOLDER);
  const weights = new Weights(device, { file });
  const config = lasConfig(await readJson(host, `${LAS_FOLDER}/config.json`), "config.json");
  const model = new ListenAttendSpell(weights.root, config);
  const H = config.encoder.hiddenSize;
  const pooling = new AttentionPooling(weights.at("pooling"), 2 * H, { kind: "additive" });
  const classifier = new Linear(weights.at("classifier"), 2 * H, 4);
  const lstm = new Lstm(weights.at("lstm"), config.decoder.hiddenSize, H, { bidirectional: true });
  const poolingHidden = new AttentionPooling(weights.at("pooling_hidden"), 2 * H, { kind: "dot" });
  const classifierHidden = new Linear(weights.at("classifier_hidden"), 2 * H, 4);
  await weights.initialize();
  const given = (name: string) => [...inputs.get(name)!.data];
  const { data, shape } = inputs.get("audio")!;
  const audio = Tensor.from(device, data, shape);
  const L = inputs.get("targets")!.shape[1];
  const { end } = model.decoder;
  const targets = given("targets");
  const texts = given("lengths").map((_, b) =>
    targets.slice(b * L, (b + 1) * L).filter((id) => id >= 0 && id !== end),
  );
  const observed = new Map<string, Tensor>();
  const see = (found: Readonly<Record<string, Tensor>>) => {
    for (const [name, t] of Object.entries(found)) observed.set(name, t.keep());
  };
  const run = () => {
    const mode = { observe: (name: string, t: Tensor) => void (name === "log_mel" && see({ log_mel: t })) };
    const heard = model.forward({ audio, lengths: given("lengths") }, texts, mode);
    const { logits, states, mask, lengths } = heard.spelling;
    const own = pooling.forward(heard.hidden, heard.mask);
    const { y } = lstm.forward(states, { lengths });
    const hidden = poolingHidden.forward(y, mask);
    const [emotion, emotionHidden] = [
      classifier.forward(own.context),
      classifierHidden.forward(hidden.context),
    ];
    const characters = model.decoder.loss({ logits }, texts, 0.1);
    const labels = given("labels");
    const [e, h] = [crossEntropy(emotion, labels), crossEntropy(emotionHidden, labels)];
    const loss = add(add(characters, e), h);
    see({
      encoder: heard.hidden,
      logits,
      states,
      pooling: own.probabilities,
      pooled: own.context,
      emotion,
      loss,
    });
    see({
      pooling_hidden: hidden.probabilities,
      pooled_hidden: hidden.context,
      emotion_hidden: emotionHidden,
    });
    see({ characters_loss: characters, emotion_loss: e, hidden_loss: h });
    return loss;
  };
  const { value, gradients } = scope(device, () => valueAndGrad(device, [audio, ...weights.parameters], run));
  for (const [name, tensor] of observed) {
    const want = outputs.get(name)!;
    // What PyTorch computed behind the end of a text is no result.
    const got = await tensor.read();
    const own = name === "logits" || name === "states";
    const width = own ? want.shape[2] : 1;
    const real = (_: number, i: number) => !own || targets[Math.floor(i / width)] >= 0;
    near(got.filter(real), want.data.filter(real), 1e-5, name);
    tensor.release();
  }
  let checked = 0;
  for (const parameter of weights.parameters) {
    const g = await gradients.get(parameter)!.read();
    for (const { key, shape: own, offset } of parameter.parts) {
      const size = own.reduce((a, b) => a * b, 1);
      // Scores that all rise by the same change no weight: what is left of this sum is rounding, for the most part.
      const limit = key === "pooling.hidden.bias" ? 1e-3 : 5e-5;
      near(g.subarray(offset, offset + size), outputs.get(`grad.${key}`)!.data, limit, key);
      checked++;
    }
  }
  assert.equal(checked, [...outputs.keys()].filter((key) => key.startsWith("grad.")).length);
  near(await gradients.get(audio)!.read(), outputs.get("grad_input.audio")!.data, 5e-4, "audio");
  for (const t of [value, audio, ...gradients.values()]) t.release();
  weights.dispose();
  await file.close();
  assert.equal(device.pool.statistics.live, 0);
});

test("gradients of all parameters pass finite differences", async () => {
  const { weights, model } = await tiny();
  const audio = Tensor.from(device, normal(2 * 700, 1), [2, 700]);
  const texts = [[0, 3, 2], [1]];
  const loss = () => {
    const { spelling } = model.forward({ audio, lengths: [700, 500] }, texts);
    return model.decoder.loss(spelling, texts, 0.1);
  };
  await gradcheck(device, weights.parameters, loss);
  audio.release();
  weights.dispose();
});

test("padding changes no bit of frames, states and texts", async () => {
  const { weights, model } = await tiny();
  const [long, short] = [normal(900, 1), normal(520, 2)];
  const padded = new Float32Array(1800);
  padded.set(long);
  padded.set(short, 900);
  const texts = [[0, 3, 2], [1]];
  const heard = scope(device, () => {
    const both = model.forward({ audio: Tensor.from(device, padded, [2, 900]), lengths: [900, 520] }, texts);
    const alone = model.forward({ audio: Tensor.from(device, short, [1, 520]) }, [texts[1]]);
    return { both, alone };
  });
  const { both, alone } = heard;
  assert.deepEqual([both.frames, alone.frames], [[(1 + (900 - 64) / 32) >> 2, 3], [3]]);
  const C = model.encoder.width;
  const frames = [await both.hidden.read(), await alone.hidden.read()];
  const T = both.hidden.shape[1];
  near(frames[0].subarray(T * C, (T + 3) * C), frames[1], 1e-6, "frames");
  const [a, b] = [await both.spelling.logits.read(), await alone.spelling.logits.read()];
  const V = both.spelling.logits.shape[2];
  near(a.subarray(4 * V, 6 * V), b, 1e-6, "logits");
  for (const { hidden, mask, spelling } of [both, alone])
    for (const t of [hidden, mask, spelling.logits, spelling.states, spelling.mask]) t.release();
  for (const beam of [undefined, 3]) {
    const options = { beam, maxLengths: [6] };
    const input = { audio: Tensor.from(device, padded, [2, 900]), lengths: [900, 520] };
    const own = Tensor.from(device, short, [1, 520]);
    const together = await model.recognize(input, { beam, maxLengths: [6, 6] });
    const [single] = await model.recognize({ audio: own }, options);
    assert.deepEqual(together[1].ids, single.ids);
    input.audio.release();
    own.release();
  }
  weights.dispose();
  assert.equal(device.pool.statistics.live, 0);
});

/** Log probability of a text and, if it ended, of its end, by teacher forcing. */
async function scored(model: ListenAttendSpell, audio: Float32Array, ids: readonly number[], ended: boolean) {
  const logits = scope(device, () => {
    const input = { audio: Tensor.from(device, audio, [1, audio.length]) };
    return model.forward(input, [ids]).spelling.logits;
  });
  const values = await logits.read();
  const V = logits.shape[2];
  logits.release();
  let sum = 0;
  for (const [i, id] of [...ids, ...(ended ? [model.decoder.end] : [])].entries()) {
    const row = values.subarray(i * V, (i + 1) * V);
    sum += row[id] - Math.log(row.reduce((total, x) => total + Math.exp(x), 0));
  }
  return sum;
}

test("a wide beam finds the likeliest of all texts, and a text's probability is that of teacher forcing", async () => {
  const { weights, model } = await tiny({ vocab_size: 1 });
  const audio = [normal(700, 3), normal(600, 4)];
  const padded = new Float32Array(1400);
  padded.set(audio[0]);
  padded.set(audio[1], 700);
  const input = { audio: Tensor.from(device, padded, [2, 700]), lengths: [700, 600] };
  // Of the characters 0 and 1, where 1 is the start, which a decoder may write too: texts of at most three tokens.
  const texts: (readonly [number[], boolean])[] = [];
  for (const ids of [[], [0], [1], [0, 0], [0, 1], [1, 0], [1, 1]]) texts.push([ids, true]);
  for (let n = 0; n < 8; n++) texts.push([[n >> 2, (n >> 1) & 1, n & 1], false]);
  const maxLengths = [3, 3];
  const wide = await model.recognize(input, { beam: 20, lengthPenalty: 0, maxLengths });
  for (const [b, found] of wide.entries()) {
    const scores = await Promise.all(texts.map(([ids, ended]) => scored(model, audio[b], ids, ended)));
    const best = scores.indexOf(Math.max(...scores));
    assert.deepEqual([found.ids, found.ended], texts[best]);
    assert.ok(Math.abs(found.logProbability - scores[best]) < 1e-5);
    assert.ok(found.positions.every((t) => t >= 0 && t < 4));
  }
  const greedy = await model.recognize(input, { maxLengths });
  for (const [b, { ids, ended, logProbability }] of greedy.entries())
    assert.ok(Math.abs(logProbability - (await scored(model, audio[b], ids, ended))) < 1e-5);
  assert.deepEqual(await model.recognize(input, { maxLengths }), greedy);
  input.audio.release();
  weights.dispose();
  assert.equal(device.pool.statistics.live, 0);
});

test("a recogniser learns to spell", async () => {
  const { weights, model } = await tiny();
  // A low tone and a high one.
  const tones = Float32Array.from({ length: 1400 }, (_, i) => Math.sin(i * (i < 700 ? 0.3 : 1.5)));
  const audio = Tensor.from(device, tones, [2, 700]);
  const texts = [
    [0, 3, 2],
    [1, 1],
  ];
  const lengths = [700, 600];
  const { AdamW } = await import("../src/train/optimizer.ts");
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 0.03, weightDecay: 0 });
  for (let step = 0; step < 60; step++)
    scope(device, () => {
      const { gradients } = valueAndGrad(device, weights.parameters, () =>
        model.decoder.loss(model.forward({ audio, lengths }, texts).spelling, texts),
      );
      optimizer.step(gradients);
    });
  for (const beam of [undefined, 2]) {
    const found = await model.recognize({ audio, lengths }, { beam, maxLengths: [8, 8] });
    assert.deepEqual(
      found.map(({ ids, ended }) => [ids, ended]),
      texts.map((ids) => [ids, true]),
    );
  }
  optimizer.dispose();
  audio.release();
  weights.dispose();
});

test("what does not fit is refused in one line", async () => {
  assert.throws(() => lasConfig({ ...TINY, vocab_size: undefined }, "config.json"), /vocab_size is absent/);
  assert.throws(() => lasConfig({ ...TINY, subsamplings: 3 }, "config.json"), {
    message:
      "Cannot use config.json: subsamplings is 3 but should be less than encoder_layers, 3: the first layer takes every frame",
  });
  const { weights, model } = await tiny();
  assert.equal(receptiveField(model.encoder.config.sizes), 64 + 3 * 32);
  scope(device, () => {
    const input = (n: number) => ({ audio: Tensor.empty(device, [1, n]) });
    assert.throws(() => model.encoder.forward(input(159)), {
      message: "Cannot use utterance 0: it has 159 samples, at least 160 needed (10.0 ms)",
    });
    assert.equal(model.encoder.forward(input(160)).hidden.shape[1], 1);
    assert.deepEqual(lengthMask(device, [1, 2], 2).shape, [2, 2]);
  });
  weights.dispose();
});

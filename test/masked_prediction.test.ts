/** What masked prediction is made of: the loss beside PyTorch's, MFCC, k-means, masks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { MFCC_SIZE, mfcc } from "../src/io/mfcc.ts";
import { cosineLogits, HubertForPretraining, maskedPrediction } from "../src/models/hubert_pretraining.ts";
import { hubertConfig } from "../src/models/config.ts";
import { frameCount } from "../src/models/hubert.ts";
import { Weights } from "../src/nn/weights.ts";
import { assign, kMeans } from "../src/speech/training/kmeans.ts";
import { spans } from "../src/speech/training/masked_task.ts";
import { mfccFeatures } from "../src/speech/training/units.ts";
import { gradcheck } from "../src/tensor/gradcheck.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { testDevice } from "./device.ts";
import { stored } from "./las_reference.ts";
import { uniform } from "./reference.ts";

const device = await testDevice();
const folder = fileURLToPath(new URL("./reference/pretraining", import.meta.url));
const inputs = await stored("inputs", folder);
const outputs = await stored("outputs_f64", folder);
const wanted = (name: string) => outputs.get(name)!.data;
const clusters = [...inputs.get("clusters")!.data];
const masked = Uint8Array.from(inputs.get("masked")!.data);
const given = (name: string) => {
  const { data, shape } = inputs.get(name)!;
  return Tensor.from(device, data, shape);
};

/** Largest difference beside the largest value. */
function off(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(found.length, expected.length);
  const size = Math.max(...Array.from(expected, Math.abs));
  return Math.max(...Array.from(expected, (x, i) => Math.abs(x - found[i]))) / size;
}

for (const [name, weight] of [
  ["", 0],
  ["weighted_", 0.3],
] as const)
  test(`maskedPrediction() with a weight of ${weight} has PyTorch's loss and gradients`, async () => {
    const [x, e] = [given("x"), given("embeddings")];
    const result = scope(device, () =>
      valueAndGrad(device, [x, e], () => {
        const logits = cosineLogits(x, e, 0.1);
        return { ...maskedPrediction(logits, clusters, masked, weight), logits };
      }),
    );
    assert.ok(off(await result.aux.logits.read(), wanted(`${name}logits`)) < 1e-5);
    assert.ok(off(await result.value.read(), wanted(`${name}loss`)) < 1e-5);
    for (const [key, tensor] of [["x", x] as const, ["embeddings", e] as const])
      assert.ok(
        off(await result.gradients.get(tensor)!.read(), wanted(`${name}grad.${key}`)) < 2e-5,
        `gradient by ${key}`,
      );
  });

test("cosineLogits() of zeros is 0, with finite gradients", async () => {
  const x = Tensor.from(device, new Float32Array(9), [1, 9]);
  const { value, gradients } = scope(device, () =>
    valueAndGrad(
      device,
      [x],
      () => maskedPrediction(cosineLogits(x, given("embeddings"), 0.1), [2], Uint8Array.of(1)).loss,
    ),
  );
  assert.ok(Math.abs((await value.item()) - Math.log(7)) < 1e-5);
  assert.ok((await gradients.get(x)!.read()).every(Number.isFinite));
});

test("the gradients of HubertForPretraining are those of finite differences", async () => {
  const config = hubertConfig(
    {
      ...{
        model_type: "hubert",
        conv_dim: [8, 8],
        conv_kernel: [10, 4],
        conv_stride: [8, 5],
        conv_bias: true,
      },
      ...{ feat_extract_norm: "layer", do_stable_layer_norm: true, hidden_size: 8, num_hidden_layers: 1 },
      ...{ num_attention_heads: 2, intermediate_size: 12, num_conv_pos_embeddings: 4 },
      ...{ num_conv_pos_embedding_groups: 2, mask_time_prob: 0.05 },
    },
    "the test",
  );
  const weights = new Weights(device, { seed: 3 });
  const model = new HubertForPretraining(weights.root, config, {
    ...{ clusters: 5, projectionSize: 6, temperature: 0.1 },
  });
  await weights.initialize();
  const next = uniform(4);
  const [samples, lengths] = [800, [800, 530]];
  const audio = Tensor.from(
    device,
    Float32Array.from({ length: 2 * samples }, () => 2 * next() - 1),
    [2, samples],
  );
  const T = frameCount(config, samples);
  const frames = lengths.map((n) => frameCount(config, n));
  const mask = spans(frames, T, { probability: 0.8, length: 3 }, next);
  const units = frames.flatMap((n) =>
    Array.from({ length: T }, (_, t) => (t < n ? Math.floor(5 * next()) : -100)),
  );
  const keepFrames = Tensor.from(
    device,
    Uint32Array.from(mask, (m) => 1 - m),
    [2, T],
  );
  const loss = () =>
    maskedPrediction(model.forward({ audio, lengths, keepFrames }).logits, units, mask, 0.2).loss;
  const keys =
    /label_embs|final_proj|masked_spec|feature_projection\.projection\.weight|layers\.0\.attention\.k/;
  const parameters = weights.parameters.filter(({ key }) => keys.test(key));
  assert.ok(parameters.length >= 5, parameters.map(({ key }) => key).join());
  await gradcheck(device, parameters, loss, { directions: 1, tolerance: 2e-2 });
  weights.dispose();
});

test("mfcc() gives what Kaldi's definitions give, and rows for an encoder's frames", async () => {
  const samples = inputs.get("audio")!.data;
  const found = mfcc(samples);
  assert.equal(found.length, (1 + Math.floor((samples.length - 400) / 160)) * MFCC_SIZE);
  assert.ok(off(found, wanted("mfcc")) < 1e-5);

  const encoder = { convKernel: [10, 3, 3, 3, 3, 2, 2], convStride: [5, 2, 2, 2, 2, 2, 2] };
  const { values, size } = await mfccFeatures(encoder).of(samples);
  assert.equal(values.length / size, frameCount(encoder, samples.length));
  assert.deepEqual(values.subarray(3 * size, 4 * size), found.subarray(6 * size, 7 * size));
  assert.equal(mfcc(new Float32Array(100)).length, MFCC_SIZE);
});

test("kMeans() finds clusters that are apart, repeats itself, and fills each", async () => {
  const next = uniform(5);
  const centres = [
    [0, 0],
    [10, 0],
    [0, 10],
  ];
  const values = Float32Array.from({ length: 600 }, (_, i) => centres[(i >> 1) % 3][i % 2] + next() - 0.5);
  const fit = (seed: number, clusters = 3) =>
    kMeans({ values, size: 2 }, { clusters, iterations: 20, next: uniform(seed) });
  const found = await fit(1);
  for (const centre of centres) {
    const distances = [0, 2, 4].map((k) => Math.hypot(found[k] - centre[0], found[k + 1] - centre[1]));
    assert.ok(Math.min(...distances) < 0.1, `${centre} of ${found}`);
  }
  assert.deepEqual(await fit(1), found);
  const units = assign({ values, size: 2 }, found);
  assert.equal(new Set(units).size, 3);
  assert.ok(units.every((unit, i) => unit === units[i % 3]));
  // Equal points: clusters that get none begin anew.
  const equal = { values: new Float32Array(20).fill(2), size: 2 };
  const all = await kMeans(equal, { clusters: 4, iterations: 3, next: uniform(1) });
  assert.ok(all.every((x) => x === 2));
  await assert.rejects(fit(1, 301), {
    message: "Cannot make 301 clusters of 300 frames: expected at least 301 frames",
  });
});

test("spans() mask part of each recording, and no padding", () => {
  const next = uniform(6);
  const [frames, T] = [[120, 15, 3, 1], 120];
  let count = 0;
  for (let draw = 0; draw < 50; draw++) {
    const mask = spans(frames, T, { probability: 0.8, length: 10 }, next);
    frames.forEach((n, b) => {
      const row = [...mask.subarray(b * T, (b + 1) * T)];
      const sum = row.slice(0, n).reduce((a, m) => a + m, 0);
      assert.ok(row.slice(n).every((m) => m === 0));
      assert.ok(n === 1 ? sum === 0 : sum > 0 && (n < 4 || sum < n), `${sum} of ${n}`);
      if (b === 0) count += sum;
    });
  }
  // 0.8 of the frames in spans that overlap: about 1 − e^−0.8.
  assert.ok(Math.abs(count / 50 / 120 - 0.55) < 0.04, `${count / 50 / 120}`);
  assert.deepEqual([...spans([1], 3, { probability: 0.8, length: 10 }, next)], [1, 0, 0]);
});

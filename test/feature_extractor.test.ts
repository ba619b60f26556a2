import assert from "node:assert/strict";
import { test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { hubertConfig } from "../src/models/config.ts";
import { FeatureExtractor, frameCount } from "../src/models/hubert.ts";
import { uniform } from "../src/nn/random.ts";
import { Weights } from "../src/nn/weights.ts";
import { Tensor } from "../src/tensor/tensor.ts";

const config = hubertConfig(
  {
    conv_dim: [16, 16, 24],
    conv_kernel: [10, 3, 2],
    conv_stride: [5, 2, 2],
    conv_bias: true,
    feat_extract_norm: "layer",
    hidden_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 64,
  },
  "test",
);

test("FeatureExtractor gives the same frames in stretches as in one piece", async () => {
  const device = await openDevice(await currentHost());
  const weights = new Weights(device, { seed: 3 });
  const extractor = new FeatureExtractor(weights.root, config);
  await weights.initialize();
  const next = uniform(1);
  const [B, samples] = [2, 4321];
  const audio = Tensor.from(
    device,
    Float32Array.from({ length: B * samples }, () => 2 * next() - 1),
    [B, samples],
  );
  const whole = extractor.forward(audio, {});
  assert.deepEqual(whole.shape, [B, frameCount(config, samples), 24]);
  const apart = extractor.forward(audio, {}, 20_000);
  assert.deepEqual(apart.shape, whole.shape);
  assert.deepEqual(await apart.read(), await whole.read());
  device.dispose();
});

/** What would make other layers than were meant is refused where they are declared. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CrossAttention,
  Embedding,
  kaimingUniform,
  LayerNorm,
  Linear,
  PackedLinear,
  SelfAttention,
  scope,
  Tensor,
  Weights,
} from "../src/mod.ts";
import { type Anything, device } from "./misuse_fixture.ts";

test("Weights refuses a key that is taken where the second layer is declared", () => {
  const weights = new Weights(device);
  new Linear(weights.at("a"), 3, 2);
  const message =
    'Cannot declare a.weight (2, 3): another layer has that key; give each its own place, as weights.at("name")';
  assert.throws(() => new Linear(weights.at("a"), 3, 2), { message });
  assert.throws(() => new Linear(weights.at("a"), 4, 2), /Cannot declare a\.weight \(2, 4\): another layer/);
  assert.throws(() => new PackedLinear(weights.at("b"), ["q", "q"], 2, 2), /Cannot declare b\.q\.weight/);
  assert.deepEqual(
    weights.parameters.map(({ key }) => key),
    ["a.weight", "a.bias"],
  );
});

test("Weights and layers refuse unknown options, formats, widths and initial values, and name them", () => {
  const at = () => new Weights(device).at("a");
  const cases: [() => unknown, RegExp][] = [
    [
      () => new Weights(device, { sed: 1 } as Anything),
      /^Cannot make Weights: options has no sed; did you mean seed\?$/,
    ],
    [
      () => new Weights(device, { dtype: "float16" as Anything }),
      /dtype is "float16" but should be one of f32, f16$/,
    ],
    [
      () => new Weights(device, { matmulDType: "fp16" as Anything }),
      /matmulDType is "fp16" but .*; did you mean f16\?$/,
    ],
    [
      () => new Linear(at(), 3, 2, { biass: false } as Anything),
      /^Cannot make Linear: options has no biass; did/,
    ],
    [
      () => new Linear(at(), 3, undefined as Anything),
      /^Cannot declare a\.weight \(, 3\): its axes should be whole/,
    ],
    [() => new Linear(at(), 3, 0), /its axes should be whole numbers from 1$/],
    [
      () => new Linear(at(), 3, 2, { init: { kind: "one" } as Anything }),
      /kind of its init is "one" but should be one of zeros, ones, .*; did you mean ones\?$/,
    ],
    [
      () => new Linear(at(), 3, 2, { init: kaimingUniform as Anything }),
      /its init is a function; call it, as kaimingUniform\(fanIn\)$/,
    ],
    [
      () => new Linear(at(), 3, 2, { init: { kind: "normal" } as Anything }),
      /init\.std is undefined but should be a finite number from 0$/,
    ],
    [
      () => new Embedding(at(), 3, 2, { padding_idx: 0 } as Anything),
      /^Cannot make Embedding: options has no padding_idx/,
    ],
    [
      () => new LayerNorm(at(), 3, undefined as Anything),
      /eps is undefined but should be a finite number from 0, as 1e-5$/,
    ],
    [
      () => new SelfAttention(at(), 10, { heads: 3 }),
      /heads is 3 but should be a whole number that divides the width, 10$/,
    ],
    [
      () => new CrossAttention(at(), 10, { head: 2 } as Anything),
      /^Cannot make CrossAttention: options has no head; did you mean heads\?$/,
    ],
    [() => new SelfAttention(at(), 10, { heads: 2, dropout: 1.5 }), /dropout is 1\.5 but/],
  ];
  for (const [make, message] of cases) assert.throws(make, { message });
  const weight = new Linear(at(), 3, 2).weight;
  assert.throws(
    () => {
      weight.matmulDType = "fp16" as Anything;
    },
    { message: /matmulDType is "fp16"/ },
  );
  assert.equal(weight.matmulDType, "f32");
});

test("a layer takes Weights themselves as a place without a prefix", async () => {
  const weights = new Weights(device);
  const { weight } = new Linear(weights, 3, 2);
  new PackedLinear(weights, ["q", "k"], 3, 2);
  assert.equal(weight.key, "weight");
  assert.deepEqual(
    weights.parameters.map(({ key }) => key),
    ["weight", "bias", "q.weight", "q.bias"],
  );
});

test("a parameter without a value names initialize(), one that was disposed that", async () => {
  const weights = new Weights(device);
  const { weight } = new Linear(weights.at("a"), 3, 2);
  assert.throws(() => weight.value, {
    message:
      "Cannot use a.weight (2, 3): it has no value yet; await Weights.initialize() once all layers are made",
  });
  await weights.initialize();
  await assert.rejects(weights.initialize(), {
    message:
      "Cannot initialize the weights: they have values; loadWeights() or Parameter.write() change them",
  });
  new Linear(weights.at("b"), 3, 2);
  await weights.initialize(); // fills those that were declared since
  assert.ok(weights.parameters.every(({ loaded }) => loaded));
  weights.dispose();
  assert.throws(() => weight.value, { message: "Cannot use a.weight (2, 3): its weights were disposed" });
});

test("attention names a stream of seeds that is none", async () => {
  const weights = new Weights(device, { seed: 1 });
  const layer = new SelfAttention(weights, 8, { heads: 2, dropout: 0.1 });
  await weights.initialize();
  const x = Tensor.from(device, new Float32Array(16), [1, 2, 8]);
  assert.throws(() => scope(device, () => layer.forward(x, { mode: { training: true as Anything } })), {
    message:
      "Cannot run attention: mode.training is true but should be a stream of seeds, as trainingStream() makes",
  });
  x.release();
  weights.dispose();
});

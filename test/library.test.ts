/** What strangers build on: layers, optimisers, checkpoints and the check of gradients, as the package exports them. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import {
  Adam,
  AdamW,
  Conv1d,
  CrossAttention,
  Embedding,
  gradcheck,
  LayerNorm,
  Linear,
  loadOptimizer,
  loadWeights,
  noGrad,
  type Optimizer,
  ops,
  record,
  saveOptimizer,
  saveWeights,
  scope,
  SelfAttention,
  SGD,
  Tensor,
  valueAndGrad,
  Weights,
  writeSafetensors,
  xavierUniform,
} from "wavegate";
import { testDevice } from "./device.ts";

const device = await testDevice();
const { host } = device;
const folder = mkdtempSync(join(tmpdir(), "wavegate-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const wave = (size: number, phase = 0) => Float32Array.from({ length: size }, (_, i) => Math.sin(i + phase));

/** Layers of every kind in one small model, and a loss of all its parameters. */
async function everyLayer(seed: number) {
  const weights = new Weights(device, { seed });
  const init = xavierUniform(8, 8);
  const embedding = new Embedding(weights.at("embedding"), 7, 8, { init });
  const self = new SelfAttention(weights.at("self"), 8, { heads: 2 });
  const cross = new CrossAttention(weights.at("cross"), 8, { heads: 2, inputWidth: 8 });
  const conv = new Conv1d(weights.at("conv"), 8, 8, 3, true, { stride: 1, padding: 1 });
  const norm = new LayerNorm(weights.at("norm"), 8, 1e-5);
  const head = new Linear(weights.at("head"), 8, 3, { init });
  await weights.initialize();
  const loss = () => {
    const words = embedding.forward([0, 1, 2, 3, 4, 5, 6, 1, 2, 3], [2, 5]);
    const x = self.forward(words, { residual: words });
    const y = norm.forward(ops.add(x, cross.forward(x, conv.forward(words))));
    return ops.crossEntropy(ops.reshape(head.forward(y), [10, 3]), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
  };
  return { weights, loss };
}

test("gradcheck() confirms the gradients of every layer, and leaves the parameters as they were", async () => {
  const { weights, loss } = await everyLayer(3);
  const before = await Promise.all(weights.parameters.map((p) => p.value.read()));
  assert.ok((await gradcheck(device, weights.parameters, loss)) < 1e-2);
  for (const [i, p] of weights.parameters.entries()) assert.deepEqual(await p.value.read(), before[i], p.key);
  weights.dispose();
});

test("gradcheck() names the parameter whose gradient is wrong, or missing", async () => {
  const weights = new Weights(device, { seed: 1 });
  const layer = new Linear(weights.at("layer"), 4, 4, { init: xavierUniform(4, 4) });
  await weights.initialize();
  const x = Tensor.from(device, wave(8), [2, 4]);
  const doubled = (t: Tensor) => {
    const y = noGrad(device, () => ops.scale(t, 2));
    return record("doubled", [t], y, [], (dy) => [ops.scale(dy, 3)]);
  };
  const wrong = () => ops.sum(ops.tanh(doubled(layer.forward(x))));
  await assert.rejects(gradcheck(device, weights.parameters, wrong), {
    message:
      /^Cannot confirm the gradient by layer\.weight: along a direction it is \S+, central differences give \S+$/,
  });
  const cut = () => ops.add(ops.sum(noGrad(device, () => layer.forward(x))), ops.sum(x));
  await assert.rejects(
    gradcheck(device, [layer.weight as { value: Tensor; write(v: Float32Array): void }, x], cut),
    {
      message: /^Cannot confirm the gradient by layer\.weight: along a direction it is 0\.000, /,
    },
  );
  weights.dispose();
  x.release();
});

const optimizers: Record<string, (weights: Weights) => Optimizer> = {
  AdamW: (w) => new AdamW(device, w.parameters, { learningRate: 0.01, weightDecay: 0.1, maxGradNorm: 1 }),
  Adam: (w) =>
    new Adam(device, w.parameters, { learningRate: (key) => (key.startsWith("head") ? 0.02 : 0.01) }),
  SGD: (w) => new SGD(device, w.parameters, { learningRate: 0.1, momentum: 0.9 }),
};

for (const [name, make] of Object.entries(optimizers)) {
  test(`${name} learns, and goes on from its checkpoint with the same bits`, async () => {
    const { weights, loss } = await everyLayer(5);
    const optimizer = make(weights);
    const train = async (steps: number): Promise<number> => {
      for (let i = 0; i < steps; i++)
        scope(device, () => void optimizer.step(valueAndGrad(device, weights.parameters, loss).gradients));
      using value = scope(device, loss);
      return await value.item();
    };
    const first = await train(0);
    assert.ok((await train(15)) < 0.8 * first);
    const paths = [`${folder}/${name}.model.safetensors`, `${folder}/${name}.optimizer.safetensors`] as const;
    await saveWeights(host, paths[0], weights.parameters);
    await saveOptimizer(host, paths[1], optimizer);
    const unbroken = await train(3);
    const other = await everyLayer(6);
    const resumed = make(other.weights);
    await loadWeights(host, paths[0], other.weights.parameters);
    await loadOptimizer(host, paths[1], resumed);
    for (let i = 0; i < 3; i++)
      scope(
        device,
        () => void resumed.step(valueAndGrad(device, other.weights.parameters, other.loss).gradients),
      );
    using value = scope(device, other.loss);
    assert.equal(await value.item(), unbroken);
    for (const owned of [optimizer, resumed, weights, other.weights]) owned.dispose();
  });
}

test("an optimiser takes another learning rate on the way", async () => {
  const weights = new Weights(device, { seed: 1 });
  const layer = new Linear(weights.at("layer"), 2, 1, { bias: false });
  await weights.initialize();
  const optimizer = new SGD(device, weights.parameters, { learningRate: 1 });
  const x = Tensor.from(device, Float32Array.of(1, 2), [1, 2]);
  const moved = async () => {
    const before = await layer.weight.value.read();
    scope(device, () => {
      const loss = () => ops.sum(layer.forward(x));
      optimizer.step(valueAndGrad(device, weights.parameters, loss).gradients);
    });
    const after = await layer.weight.value.read();
    return Array.from(before, (w, i) => Number((w - after[i]).toFixed(5)));
  };
  assert.deepEqual(await moved(), [1, 2]);
  optimizer.learningRate = 0.25;
  assert.deepEqual(await moved(), [0.25, 0.5]);
  for (const owned of [optimizer, weights, x]) owned[Symbol.dispose]();
});

test("loadWeights() refuses a file of another model, and changes nothing then", async () => {
  const { weights } = await everyLayer(7);
  const before = await Promise.all(weights.parameters.map((p) => p.value.read()));
  const all = weights.parameters.flatMap((p) => p.parts);
  const write = (name: string, parts: readonly { key: string; shape: readonly number[] }[]) => {
    const tensors = parts.map(({ key, shape }) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return { key, shape, dtype: "F32" as const, data: new Uint8Array(4 * size) };
    });
    return writeSafetensors(host, `${folder}/${name}`, tensors);
  };
  const refused = async (parts: typeof all, message: RegExp) => {
    await write("other.safetensors", parts);
    await assert.rejects(loadWeights(host, `${folder}/other.safetensors`, weights.parameters), { message });
    for (const [i, p] of weights.parameters.entries())
      assert.deepEqual(await p.value.read(), before[i], p.key);
  };
  await refused(all.slice(1), /^Cannot load .*other\.safetensors: it holds no embedding\.weight$/);
  const [first, ...rest] = all;
  await refused(
    [{ ...first, shape: [8, 7] }, ...rest],
    /embedding\.weight is \(8, 7\) but the model needs \(7, 8\)$/,
  );
  await refused([...all, { ...first, key: "more" }], /the model has no place for more$/);
  weights.dispose();
});

test("loadOptimizer() says of a file that saveOptimizer() did not write what it lacks", async () => {
  const { weights } = await everyLayer(8);
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 1 });
  await writeSafetensors(host, `${folder}/none.safetensors`, [
    { key: "a", shape: [1], dtype: "F32", data: new Uint8Array(4) },
  ]);
  await assert.rejects(loadOptimizer(host, `${folder}/none.safetensors`, optimizer), {
    message:
      /^Cannot load .*none\.safetensors: it holds no counts of updates, expected a file of saveOptimizer\(\)$/,
  });
  optimizer.dispose();
  weights.dispose();
});

test("item() takes a tensor of one element, of any shape and type that is read", async () => {
  const one = (data: Float32Array | Int32Array, shape: number[]) => Tensor.from(device, data, shape);
  const tensors = [one(Float32Array.of(2.5), []), one(Int32Array.of(-3), [1, 1]), one(wave(2), [2])];
  assert.equal(await tensors[0].item(), 2.5);
  assert.equal(await tensors[1].item(), -3);
  await assert.rejects(tensors[2].item(), {
    message: "Cannot take the item of a tensor of shape (2): use read()",
  });
  for (const tensor of tensors) tensor.release();
});

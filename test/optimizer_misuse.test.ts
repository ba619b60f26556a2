/** Gradients, options and files that are not an optimiser's own are refused in one line, and nothing changes. */
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  Adam,
  AdamW,
  loadOptimizer,
  loadWeights,
  ops,
  type Parameter,
  SGD,
  saveOptimizer,
  saveWeights,
  scope,
  type Task,
  Tensor,
  update,
  valueAndGrad,
} from "../src/mod.ts";
import { type Anything, device, folder, linear } from "./misuse_fixture.ts";

const { host } = device;

test("update() leaves no gradient behind where a loss throws, and wants a batch", async () => {
  const { weights, layer, parameters } = await linear(1, 1);
  const optimizer = new AdamW(device, parameters, { learningRate: 0.1 });
  const live = device.pool.statistics.live;
  const task: Task<number> = {
    parameters,
    plan: () => [],
    load: async () => 0,
    losses(batch) {
      if (batch === 2) throw new Error("the second fails");
      return { loss: ops.sum(layer.forward(Tensor.from(device, Float32Array.of(1), [1, 1]))) };
    },
    save: async () => {},
  };
  const options = { factor: 1, mode: () => ({}) };
  await assert.rejects(update(device, task, optimizer, [1, 2], options), { message: "the second fails" });
  assert.equal(device.pool.statistics.live, live);
  assert.throws(() => optimizer.step(), { message: /^Cannot step: there is no gradient; / });
  await assert.rejects(update(device, task, optimizer, [], options), {
    message: "Cannot update: there is no batch",
  });
  scope(device, () => {
    const gradient = Tensor.from(device, Float32Array.of(1), [1, 1]);
    optimizer.accumulate(new Map([[layer.weight, gradient]]));
  });
  optimizer.zeroGrad();
  assert.equal(device.pool.statistics.live, live);
  assert.throws(() => optimizer.step(), /there is no gradient/);
  optimizer.dispose();
  weights.dispose();
});

test("an optimiser takes gradients of its own parameters and of their shapes, all or none", async () => {
  const { weights, layer, parameters } = await linear(3, 2);
  const other = await linear(3, 2, "other");
  const optimizer = new SGD(device, parameters, { learningRate: 1 });
  const before = await layer.weight.value.read();
  const gradient = (shape: number[]) =>
    Tensor.from(device, new Float32Array(shape.reduce((a, b) => a * b)), shape);
  const bias = layer.bias as Parameter;
  const cases: [Anything, RegExp][] = [
    [new Map([[layer.weight, gradient([2])]]), /that of layer\.weight is \(2\) but should be \(2, 3\)$/],
    [
      new Map([
        [bias, gradient([2])],
        [layer.weight, Tensor.from(device, new Uint32Array(6), [2, 3])],
      ]),
      /that of layer\.weight is u32 but should be f32$/,
    ],
    [new Map([[layer.weight.value, gradient([2, 3])]]), /one is of a tensor, not of a Parameter; /],
    [
      new Map([[other.layer.weight, gradient([2, 3])]]),
      /other\.weight is none of this optimiser's parameters$/,
    ],
    [{ gradients: new Map() }, /they are no Map by parameter; valueAndGrad\(\) returns one/],
    [new Map(), /^Cannot step: there is no gradient/],
  ];
  scope(device, () => {
    for (const [gradients, message] of cases) {
      assert.throws(() => optimizer.step(gradients), { message });
      assert.throws(() => optimizer.step(), /there is no gradient/, "none was taken");
    }
    const good = new Map([[layer.weight, gradient([2, 3])]]);
    for (const [options, message] of [
      [{ factor: Number.NaN }, /factor is NaN but should be a finite number from 0$/],
      [{ unscale: Number.NaN }, /unscale is NaN but should be a finite number above 0$/],
      [{ lossScale: 2 }, /options has no lossScale; there are factor, unscale$/],
      [0.5, /options is 0\.5 but should be an object$/],
    ] as [Anything, RegExp][])
      assert.throws(() => optimizer.step(good, options), { message });
  });
  assert.deepEqual(await layer.weight.value.read(), before);
  // What it was given and does not train may have a gradient all the same.
  bias.trainable = false;
  const half = new SGD(device, parameters, { learningRate: 1 });
  const x = Tensor.from(device, new Float32Array(3).fill(1), [1, 3]);
  scope(device, () => {
    half.step(valueAndGrad(device, parameters, () => ops.sum(layer.forward(x))).gradients);
  });
  assert.deepEqual([half.steps, (await bias.value.read())[0]], [{ "layer.weight": 1 }, 0]);
  for (const owned of [x, optimizer, half, weights, other.weights]) owned[Symbol.dispose]();
});

test("an optimiser says which argument or option is wrong, and takes no memory then", async () => {
  const { weights, parameters } = await linear(3, 2);
  const live = device.pool.statistics.live;
  const frozen = (await linear(1, 1)).parameters;
  for (const parameter of frozen) parameter.trainable = false;
  const rate = { learningRate: 0.1 };
  const cases: [() => unknown, RegExp][] = [
    [
      () => new AdamW(device, parameters, { ...rate, betas: 1 } as Anything),
      /^Cannot make AdamW: options has no betas; did you mean beta1\?$/,
    ],
    [
      () => new AdamW(device, parameters, { ...rate, weight_decay: 1 } as Anything),
      /no weight_decay; did you mean weightDecay\?$/,
    ],
    [
      () => new SGD(device, parameters, { ...rate, nesterov: true } as Anything),
      /no nesterov; there are learningRate, /,
    ],
    [() => new AdamW(device, parameters, { lr: 1 } as Anything), /no lr; there are learningRate, /],
    [() => new AdamW(device, parameters, {} as Anything), /its learning rate is undefined, a finite/],
    [
      () => new AdamW(device, parameters, undefined as Anything),
      /options is undefined but should be an object$/,
    ],
    [
      () => new AdamW(parameters as Anything, rate as Anything, undefined as Anything),
      /its second argument should be a list of parameters/,
    ],
    [
      () => new AdamW(device, weights as Anything, rate),
      /its second argument should be a list of parameters, as weights\.parameters$/,
    ],
    [() => new AdamW({} as Anything, parameters, rate), /its first argument should be a device/],
    [
      () => new AdamW(device, [parameters[0].value] as Anything, rate),
      /parameter 0 is a tensor, not a Parameter of Weights$/,
    ],
    [() => new AdamW(device, [...parameters, parameters[0]], rate), /layer\.weight is there twice$/],
    [() => new AdamW(device, frozen, rate), /of its 2 parameters none is trainable$/],
    [() => new Adam(device, parameters, { ...rate, beta1: 1 }), /^Cannot make Adam: beta1 is 1 but/],
    [() => new Adam(device, parameters, { ...rate, beta2: -0.1 }), /beta2 is -0\.1 but/],
    [() => new Adam(device, parameters, { ...rate, eps: Number.NaN }), /eps is NaN but/],
    [() => new SGD(device, parameters, { ...rate, momentum: -1 }), /momentum is -1 but/],
    [() => new AdamW(device, parameters, { ...rate, maxGradNorm: Number.NaN }), /maxGradNorm is NaN but/],
    [
      () => new AdamW(device, parameters, { learningRate: -1 }),
      /its learning rate is -1, a finite number from 0/,
    ],
    [() => new AdamW(device, parameters, { ...rate, weightDecay: -1 }), /its weight decay is -1, a finite/],
  ];
  const now = device.pool.statistics.live;
  for (const [make, message] of cases) assert.throws(make, { message });
  assert.equal(device.pool.statistics.live, now);
  for (const parameter of frozen) parameter.dispose();
  assert.equal(device.pool.statistics.live, live);
  weights.dispose();
});

test("loadOptimizer() refuses the state of another model, and changes nothing then", async () => {
  const saved = async (K: number, N: number, at = "layer") => {
    const { weights, parameters } = await linear(K, N, at);
    using optimizer = new AdamW(device, parameters, { learningRate: 1 });
    const path = join(folder, `${at}${K}x${N}.safetensors`);
    await saveOptimizer(host, path, optimizer);
    weights.dispose();
    return path;
  };
  const { weights, parameters } = await linear(5, 2);
  const [weight] = parameters;
  const optimizer = new AdamW(device, [weight], { learningRate: 1 });
  scope(device, () => {
    optimizer.step(new Map([[weight, Tensor.from(device, new Float32Array(10).fill(1), [2, 5])]]));
  });
  const state = async () => [
    optimizer.steps,
    ...(await Promise.all([...optimizer.moments()].map((m) => m.tensor.read()))),
  ];
  const before = await state();
  for (const [path, message] of [
    [await saved(3, 2), /exp_avg\.layer\.weight is \(2, 3\) but the optimiser needs \(2, 5\)$/],
    [await saved(1, 1), /exp_avg\.layer\.weight is \(1, 1\) but/],
    [await saved(5, 2), /the optimiser has no place for exp_avg\.layer\.bias, exp_avg_sq\.layer\.bias$/],
    [await saved(5, 2, "other"), /it holds no exp_avg\.layer\.weight$/],
  ] as const)
    await assert.rejects(loadOptimizer(host, path, optimizer), { message });
  const own = join(folder, "own.safetensors");
  await saveOptimizer(host, own, optimizer);
  await assert.rejects(loadOptimizer(host, own, optimizer, {}), /no moments were saved for layer\.weight$/);
  await assert.rejects(
    loadOptimizer(host, own, optimizer, { "layer.weight": 1, more: 1 }),
    /moments were saved for more, which this optimiser does not train$/,
  );
  assert.deepEqual(await state(), before);
  optimizer.dispose();
  weights.dispose();
});

test("loadWeights() and loadOptimizer() refuse a file that is not as its checksum says, and change nothing", async () => {
  const { weights, layer, parameters } = await linear(3, 2);
  const optimizer = new AdamW(device, parameters, { learningRate: 1 });
  const [model, moments] = ["flipped.safetensors", "moments.safetensors"].map((name) => join(folder, name));
  await saveWeights(host, model, parameters);
  await saveOptimizer(host, moments, optimizer);
  for (const path of [model, moments]) {
    const bytes = readFileSync(path);
    bytes[bytes.length - 2] ^= 1;
    writeFileSync(path, bytes);
  }
  const before = await layer.weight.value.read();
  await assert.rejects(
    loadWeights(host, model, parameters),
    /flipped\.safetensors: it is damaged, its SHA-256/,
  );
  await assert.rejects(
    loadOptimizer(host, moments, optimizer),
    /moments\.safetensors: it is damaged, its SHA-256/,
  );
  assert.deepEqual(await layer.weight.value.read(), before);
  rmSync(`${model}.sha256`);
  await loadWeights(host, model, parameters); // a file of somebody else's, without one
  optimizer.dispose();
  weights.dispose();
});

test("saveWeights() and loadWeights() want a list of parameters", async () => {
  const { weights } = await linear(1, 1);
  for (const call of [saveWeights, loadWeights])
    await assert.rejects(call(host, join(folder, "x.safetensors"), weights as Anything), {
      message: /x\.safetensors: expected a list of parameters, as weights\.parameters$/,
    });
  weights.dispose();
});

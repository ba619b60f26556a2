/** A two-layer perceptron learns XOR, is saved together with its optimiser, and goes on from there with the same bits. */
import {
  AdamW,
  currentHost,
  gradcheck,
  kaimingUniform,
  Linear,
  loadOptimizer,
  loadWeights,
  openDevice,
  ops,
  saveOptimizer,
  saveWeights,
  scope,
  Tensor,
  valueAndGrad,
  Weights,
} from "wavegate";

const host = await currentHost();
const device = await openDevice(host);
const weights = new Weights(device, { seed: 1 });
const hidden = new Linear(weights.at("hidden"), 2, 16, { init: kaimingUniform(2) });
const output = new Linear(weights.at("output"), 16, 1, { init: kaimingUniform(16) });
await weights.initialize();
const optimizer = new AdamW(device, weights.parameters, { learningRate: 0.02, weightDecay: 0.01 });
const x = Tensor.from(device, Float32Array.of(0, 0, 0, 1, 1, 0, 1, 1), [4, 2]);
const y = Tensor.from(device, Float32Array.of(0, 1, 1, 0), [4, 1]);
const loss = () => ops.mse(output.forward(ops.tanh(hidden.forward(x))), y);

async function train(steps: number): Promise<number> {
  for (let i = 0; i < steps; i++)
    scope(device, () => void optimizer.step(valueAndGrad(device, weights.parameters, loss).gradients));
  using value = scope(device, loss);
  return await value.item();
}

console.log(
  `gradients: ${(await gradcheck(device, weights.parameters, loss)).toExponential(0)} from differences`,
);
console.log(`loss after 200 steps: ${(await train(200)).toExponential(1)}`);
await saveWeights(host, "mlp.safetensors", weights.parameters);
await saveOptimizer(host, "mlp.optimizer.safetensors", optimizer);
const unbroken = await train(10);
await loadWeights(host, "mlp.safetensors", weights.parameters);
await loadOptimizer(host, "mlp.optimizer.safetensors", optimizer);
console.log(`goes on with the same bits: ${(await train(10)) === unbroken}`);
for (const owned of [x, y, optimizer, weights]) owned[Symbol.dispose]();
console.log(`bytes left on the GPU: ${device.pool.statistics.live}`);
device.dispose();

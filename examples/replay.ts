/** A training step that is recorded once and replayed: the same bits, and no operator runs again in JavaScript. */
import {
  AdamW,
  capture,
  currentHost,
  type Device,
  Linear,
  openDevice,
  ops,
  scope,
  Tensor,
  trainingStream,
  valueAndGrad,
  Weights,
} from "wavegate";

/** Trains for `steps` steps; returns the losses and the microseconds of CPU that a step was recorded in. */
async function train(device: Device, steps: number, replayed: boolean): Promise<[number[], number]> {
  const weights = new Weights(device, { seed: 1 });
  const hidden = new Linear(weights.at("hidden"), 8, 64);
  const out = new Linear(weights.at("out"), 64, 1);
  await weights.initialize();
  const optimizer = new AdamW(device, weights.parameters, { learningRate: 0.01 });
  const x = Tensor.from(device, new Float32Array(16 * 8), [16, 8]);
  const dropout = trainingStream(7);
  let at = 0;
  const step = () => {
    const { value, gradients } = valueAndGrad(device, weights.parameters, () => {
      const h = ops.dropout(ops.tanh(hidden.forward(x)), 0.1, dropout);
      return ops.mse(ops.reshape(out.forward(h), [16]), ops.sum(x, { axis: -1 }));
    });
    optimizer.step(gradients, { factor: () => 1 - at / steps });
    return value;
  };
  const losses: number[] = [];
  let microseconds = 0;
  let captured: ReturnType<typeof capture<Tensor>> | undefined;
  for (at = 0; at < steps; at++) {
    x.write(Float32Array.from({ length: 16 * 8 }, (_, i) => Math.sin(i * (at + 1))));
    const begin = performance.now();
    captured?.replay();
    if (replayed) captured ??= capture(device, step, { constants: true });
    const loss = captured?.value ?? scope(device, step);
    if (at >= 20) microseconds += (1000 * (performance.now() - begin)) / (steps - 20); // kernels are compiled by then
    losses.push(await loss.item());
    if (!captured) loss.release();
  }
  for (const owned of [...(captured ? [captured] : []), optimizer, weights]) owned.dispose();
  x.release();
  return [losses, microseconds];
}

const device = await openDevice(await currentHost());
const [[run, slow], [replayed, fast]] = [await train(device, 200, false), await train(device, 200, true)];
console.log(`loss ${run[0].toFixed(3)} → ${run[199].toFixed(3)}`);
console.log(`replayed, the same bits: ${run.every((loss, i) => loss === replayed[i])}`);
console.log(`recorded in ${slow.toFixed(0)} µs a step, replayed in ${fast.toFixed(0)} µs`);
console.log(`bytes left on the GPU: ${device.pool.statistics.live}`);
device.dispose();

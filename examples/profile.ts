/** The time of every kernel in a forward pass of a transformer layer, and the memory that it takes. */
import {
  currentHost,
  FeedForward,
  LayerNorm,
  openDevice,
  scope,
  SelfAttention,
  Tensor,
  Weights,
} from "wavegate";

const [B, T, C, heads] = [2, 128, 256, 4];
const device = await openDevice(await currentHost());
const weights = new Weights(device, { seed: 1 });
const attention = new SelfAttention(weights.at("attention"), C, { heads });
const norms = ["norm1", "norm2"].map((name) => new LayerNorm(weights.at(name), C, 1e-5));
const feedForward = new FeedForward(weights.at("up"), weights.at("down"), C, 4 * C, "gelu");
await weights.initialize();
const x = Tensor.from(device, Float32Array.from({ length: B * T * C }, Math.random), [B, T, C]);

const layer = () =>
  device.labelled("layer", () => {
    const h = attention.forward(norms[0].forward(x), { residual: x });
    return feedForward.forward(norms[1].forward(h), {}, h);
  });
const run = async () => {
  const begin = performance.now();
  scope(device, layer).release();
  await device.idle();
  return performance.now() - begin;
};

console.log(`${device.info.name}, path ${device.info.path}`);
console.log(`first pass ${(await run()).toFixed(1)} ms: kernels are compiled`);
const { pipelines, bindGroups } = device.counters;
console.log(`second pass ${(await run()).toFixed(1)} ms`);
const created = device.counters.pipelines - pipelines + device.counters.bindGroups - bindGroups;
console.log(`the second pass made ${created} pipelines and bind groups`);
if (device.info.timestamps) {
  device.startProfile();
  await run();
  for (const { label, count, milliseconds } of await device.endProfile())
    console.log(`${milliseconds.toFixed(3).padStart(9)} ms  ${String(count).padStart(2)} ×  ${label}`);
} else console.log("this adapter has no timestamps: no times of single kernels");
const { live, peak } = device.pool.statistics;
console.log(
  `GPU buffers: ${(live / 2 ** 20).toFixed(1)} MiB now, ${(peak / 2 ** 20).toFixed(1)} MiB at most`,
);
x.release();
weights.dispose();
device.dispose();

/**
 * One training step at full size: HuBERT-large, BERT-base and CmGI together, its gradient norm beside PyTorch's.
 *
 *   python tools/reference.py --random e2e-full --grad-norm-only --out CASE
 *   CASE=CASE npm run bench -- full_step
 */
import process from "node:process";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { readJson } from "../src/io/config.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { ConfigReader } from "../src/models/config.ts";
import { mayIgnore, spellings } from "../src/models/keys.ts";
import { Weights } from "../src/nn/weights.ts";
import { scope } from "../src/tensor/scope.ts";
import { grad } from "../src/tensor/tape.ts";
import { AdamW } from "../src/train/adamw.ts";
import { formatBytes } from "../tools/format.ts";
import { CaseTensors } from "../src/validate/case.ts";
import { wholeSystem } from "../src/speech/validate/models.ts";

const folder = process.env.CASE;
if (!folder) {
  console.log("  left out: CASE names no case folder; the head of this file says how to make one");
  process.exit(0);
}
const host = await currentHost();
const [config, info] = [
  await readJson(host, `${folder}/config.json`),
  await readJson(host, `${folder}/case.json`),
];
const device = await openDevice(host);
const path = `${folder}/model.safetensors`;
const file = await openSafetensors(host, path);
const weights = new Weights(device, { file, path, spellings, mayIgnore });
const build = wholeSystem(weights, new ConfigReader(config, path), config);
await weights.load();
await file.close();
const inputs = await CaseTensors.open(host, `${folder}/inputs.safetensors`);
const run = await build(inputs, "outputs", true);
const optimizer = new AdamW(device, weights.parameters, { learningRate: 1e-5, weightDecay: 0.01 });
const begin = performance.now();
const { loss, clip } = scope(device, () => {
  const result = grad(device, optimizer.leaves, () => {
    const { loss, seeds } = run.forward({});
    if (!loss) throw new Error(`Cannot use ${folder}: it has no loss`);
    return { loss, seeds };
  });
  optimizer.accumulate(result.gradients);
  return { loss: result.loss, clip: optimizer.step(1) };
});
const [lossValue] = await loss.read();
const [, norm] = await clip.read();
const seconds = (performance.now() - begin) / 1000;
const parameters = weights.parameters.reduce((n, p) => n + p.value.size, 0);
const compare = (what: string, got: number, want: unknown) => {
  const off = typeof want === "number" ? Math.abs(got - want) / want : Number.NaN;
  console.log(`  ${what} ${got.toPrecision(8)}, PyTorch ${want}, off by ${off.toExponential(1)}`);
  return off <= 1e-3;
};
console.log(`full training step, ${(parameters / 1e6).toFixed(1)} M parameters, ${device.info.name}`);
const agrees = [
  compare("loss", lossValue, info.loss_f32),
  compare("gradient norm", norm, info.grad_norm_f32),
].every(Boolean);
console.log(
  `  ${seconds.toFixed(1)} s, peak GPU bytes ${formatBytes(device.pool.statistics.peak)}, host process ${formatBytes(process.memoryUsage().rss)}`,
);
process.exit(agrees ? 0 : 1);

/**
 * One training step at full size: HuBERT-large, BERT-base and CmGI together, its gradient norm beside PyTorch's.
 *
 *   python tools/reference.py --random e2e-full --grad-norm-only --out CASE
 *   CASE=CASE npm run bench -- full_step
 */
import process from "node:process";
import { currentHost } from "../src/host/current.ts";
import { readJson } from "../src/io/config.ts";
import { openSafetensors } from "../src/io/safetensors.ts";
import { mayIgnore, spellings } from "../src/models/keys.ts";
import { Weights } from "../src/nn/weights.ts";
import { scope } from "../src/tensor/scope.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { AdamW } from "../src/train/optimizer.ts";
import { formatBytes } from "../tools/format.ts";
import { CaseTensors, readCase } from "../src/validate/case.ts";
import { wholeSystem } from "../src/speech/validate/models.ts";
import { openBenchDevice } from "./device.ts";
import { note } from "./measure.ts";

const folder = process.env.CASE;
if (!folder) {
  console.log("  left out: CASE names no case folder; the head of this file says how to make one");
  process.exit(0);
}
const host = await currentHost();
const configPath = `${folder}/config.json`;
const config = await readJson(host, configPath);
const torch = await readCase(host, folder);
const device = await openBenchDevice();
const path = `${folder}/model.safetensors`;
const file = await openSafetensors(host, path);
const weights = new Weights(device, { file, path, spellings, mayIgnore });
const build = wholeSystem(weights, config, configPath);
await weights.initialize();
await file.close();
const inputs = await CaseTensors.open(host, `${folder}/inputs.safetensors`);
const run = await build(inputs, "outputs", true);
const optimizer = new AdamW(device, weights.parameters, { learningRate: 1e-5, weightDecay: 0.01 });
const begin = performance.now();
const { loss, clip } = scope(device, () => {
  const { value, gradients } = valueAndGrad(device, optimizer.parameters, () => run.forward({}).outputs[0]);
  return { loss: value, clip: optimizer.step(gradients) };
});
const [lossValue] = await loss.read();
const [, norm] = await clip.read();
const seconds = (performance.now() - begin) / 1000;
const parameters = weights.parameters.reduce((n, p) => n + p.value.size, 0);
const compare = (what: string, got: number, want = Number.NaN) => {
  const off = Math.abs(got - want) / want;
  console.log(`  ${what} ${got.toPrecision(8)}, PyTorch ${want}, off by ${off.toExponential(1)}`);
  return off <= 1e-3;
};
console.log(`full training step, ${(parameters / 1e6).toFixed(1)} M parameters, ${device.info.name}`);
const agrees = [
  compare("loss", lossValue, torch.loss_f32),
  compare("gradient norm", norm, torch.grad_norm_f32),
].every(Boolean);
console.log(
  `  ${seconds.toFixed(1)} s, peak GPU bytes ${formatBytes(device.pool.statistics.peak)}, host process ${formatBytes(process.memoryUsage().rss)}`,
);
if (agrees) note(device, { name: "full training step, kernels compiled on the way", wall: [1000 * seconds] });
process.exit(agrees ? 0 : 1);

/**
 * HuBERT-large on 3 s of audio and BERT-base on 128 tokens at full size with fresh weights: time, GPU and host memory,
 * dispatches, what a second forward creates, and how much of the wall time the main thread works. First its result is held to
 * that of another path, whose products and attention are other kernels. Agreement with PyTorch at this size is `wavegate validate` on cases of tools/reference.py --random hubert-large, bert-base.
 */
import { existsSync, readFileSync } from "node:fs";
import process from "node:process";
import type { Device } from "../src/gpu/device.ts";
import { BertModel } from "../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../src/models/config.ts";
import { HubertForCTC } from "../src/models/hubert.ts";
import { uniform } from "../src/nn/random.ts";
import { Weights } from "../src/nn/weights.ts";
import { quantile } from "../src/profile/statistics.ts";
import { BERT_BASE, HUBERT_LARGE } from "../src/speech/recipes/presets.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { formatBytes } from "../tools/format.ts";
import { openBenchDevice } from "./device.ts";
import { checked, gpuTimes, note } from "./measure.ts";

/** Runs that are timed. */
const RUNS = 4;
/** Other paths round in another order, and two dozen layers carry that on. */
const TOLERANCE = 1e-4;

/** CPU time of the main thread in milliseconds; the driver's workers are threads of their own. Linux keeps it in /proc. */
function threadCpu(): number {
  const path = `/proc/self/task/${process.pid}/stat`;
  if (!existsSync(path)) return Number.NaN;
  const fields = readFileSync(path, "utf8").split(") ")[1].split(" ");
  return 10 * (Number(fields[11]) + Number(fields[12]));
}

/** A model on a device: fresh weights, the same each time. */
type Build = (device: Device) => { weights: Weights; run: () => Tensor };

/** What the model gives on the path that the device does not take. */
async function otherwise(build: Build, path: Device["info"]["path"]): Promise<Float32Array> {
  const device = await openBenchDevice({ path: path === "cpu" ? "portable" : "cpu" });
  const { weights, run } = build(device);
  await weights.initialize();
  const values = await scope(device, run).read();
  device.dispose();
  return values;
}

async function measure(name: string, build: Build): Promise<void> {
  const device = await openBenchDevice();
  const want = await otherwise(build, device.info.path);
  const { weights, run } = build(device);
  let peak = 0;
  const watch = () => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    peak = Math.max(peak, heapUsed + arrayBuffers);
  };
  const begin = performance.now();
  await weights.initialize(watch);
  const loaded = performance.now();
  const once = async () => {
    const y = scope(device, run);
    const values = await y.read();
    y.release();
    return values;
  };
  const relL2 = checked(name, { got: await once(), want }, TOLERANCE);
  const counted = () => ({
    buffers: device.pool.statistics.created,
    ...device.counters,
    dispatches: device.recorder.dispatches,
  });
  const before = counted();
  const [cpu, start] = [threadCpu(), performance.now()];
  await once();
  const [cpuMs, wallMs] = [threadCpu() - cpu, performance.now() - start];
  const after = counted();
  const created =
    after.buffers -
    before.buffers +
    (after.pipelines - before.pipelines) +
    (after.bindGroups - before.bindGroups);
  const wall = [wallMs];
  while (wall.length < RUNS) {
    const from = performance.now();
    await once();
    wall.push(performance.now() - from);
  }
  const gpu = await gpuTimes(device, () => scope(device, run).release(), RUNS);
  const { peak: gpuPeak } = device.pool.statistics;
  const { info } = device;
  console.log(`${name} on ${info.name}`);
  console.log(
    `  weights made in ${((loaded - begin) / 1000).toFixed(1)} s, forward ${showTimes(wall)}${gpu ? `, GPU ${showTimes(gpu)}` : ""}, ${after.dispatches - before.dispatches} dispatches`,
  );
  console.log(`  a second forward creates ${created} buffers, bind groups and pipelines`);
  const share = Number.isNaN(cpuMs)
    ? "not measured: only Linux tells"
    : `${((100 * cpuMs) / wallMs).toFixed(1)} % of the wall time`;
  console.log(`  main thread at work: ${share}`);
  console.log(
    `  peak GPU bytes ${formatBytes(gpuPeak)}, host process ${formatBytes(process.memoryUsage().rss)}, heap and array buffers at most ${formatBytes(peak)}`,
  );
  if (created > 0)
    throw new Error(`Cannot pass ${name}: a second forward of the same shape created ${created} objects`);
  weights.dispose();
  console.log(`  ${relL2.toExponential(1)} from the other path's result`);
  note(device, { name, wall, gpu, relL2 });
  device.dispose();
}

const showTimes = (times: readonly number[]) =>
  `${(quantile(times, 0.5) / 1000).toFixed(3)} s (median of ${times.length})`;

await measure("HuBERT-large, 3 s", (device) => {
  const weights = new Weights(device, { seed: 1 });
  const model = new HubertForCTC(weights.root, hubertConfig(HUBERT_LARGE, "HuBERT-large"));
  const next = uniform(2);
  const audio = Tensor.from(
    device,
    Float32Array.from({ length: 48000 }, () => 2 * next() - 1),
    [1, 48000],
  );
  return { weights, run: () => model.forward({ audio }).logits };
});
await measure("BERT-base, 128 tokens", (device) => {
  const weights = new Weights(device, { seed: 1 });
  const config = bertConfig({ ...BERT_BASE, vocab_size: 30522 }, "BERT-base");
  const model = new BertModel(weights.root.at("bert"), config);
  const ids = [Array.from({ length: 128 }, (_, i) => 1000 + 7 * i)];
  return { weights, run: () => model.forward({ ids }).hidden };
});
process.exit(0);

/**
 * HuBERT-large on 3 s of audio and BERT-base on 128 tokens at full size with fresh weights: time, GPU and host memory,
 * dispatches, what a second forward creates, and how much of the wall time the main thread works.
 * Agreement with PyTorch at this size is `wavegate validate` on cases of tools/reference.py --random hubert-large, bert-base.
 */
import { existsSync, readFileSync } from "node:fs";
import process from "node:process";
import { type Device, openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { BertModel } from "../src/models/bert.ts";
import { bertConfig, hubertConfig } from "../src/models/config.ts";
import { HubertForCTC } from "../src/models/hubert.ts";
import { uniform } from "../src/nn/random.ts";
import { Weights } from "../src/nn/weights.ts";
import { BERT_BASE, HUBERT_LARGE } from "../src/speech/recipes/presets.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { formatBytes } from "../tools/format.ts";

/** CPU time of the main thread in milliseconds; the driver's workers are threads of their own. Linux keeps it in /proc. */
function threadCpu(): number {
  const path = `/proc/self/task/${process.pid}/stat`;
  if (!existsSync(path)) return Number.NaN;
  const fields = readFileSync(path, "utf8").split(") ")[1].split(" ");
  return 10 * (Number(fields[11]) + Number(fields[12]));
}

async function measure(name: string, device: Device, weights: Weights, run: () => Tensor): Promise<void> {
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
    await y.read();
    y.release();
  };
  await once();
  const counted = () => ({
    buffers: device.pool.statistics.created,
    ...device.counters,
    dispatches: device.recorder.dispatches,
  });
  const before = counted();
  const [cpu, wall] = [threadCpu(), performance.now()];
  await once();
  const [cpuMs, wallMs] = [threadCpu() - cpu, performance.now() - wall];
  const after = counted();
  const created =
    after.buffers -
    before.buffers +
    (after.pipelines - before.pipelines) +
    (after.bindGroups - before.bindGroups);
  console.log(`${name} on ${device.info.name}`);
  console.log(
    `  weights made in ${((loaded - begin) / 1000).toFixed(1)} s, forward ${(wallMs / 1000).toFixed(2)} s, ${after.dispatches - before.dispatches} dispatches`,
  );
  console.log(`  a second forward creates ${created} buffers, bind groups and pipelines`);
  const share = Number.isNaN(cpuMs)
    ? "not measured: only Linux tells"
    : `${((100 * cpuMs) / wallMs).toFixed(1)} % of the wall time`;
  console.log(`  main thread at work: ${share}`);
  console.log(
    `  peak GPU bytes ${formatBytes(device.pool.statistics.peak)}, host process ${formatBytes(process.memoryUsage().rss)}, heap and array buffers at most ${formatBytes(peak)}`,
  );
  if (created > 0)
    throw new Error(`Cannot pass ${name}: a second forward of the same shape created ${created} objects`);
}

const host = await currentHost();
{
  const device = await openDevice(host);
  const weights = new Weights(device, { seed: 1 });
  const model = new HubertForCTC(weights.root, hubertConfig(HUBERT_LARGE, "HuBERT-large"));
  const next = uniform(2);
  const audio = Tensor.from(
    device,
    Float32Array.from({ length: 48000 }, () => 2 * next() - 1),
    [1, 48000],
  );
  await measure("HuBERT-large, 3 s", device, weights, () => model.forward({ audio }).logits);
  device.dispose();
}
{
  const device = await openDevice(host);
  const weights = new Weights(device, { seed: 1 });
  const model = new BertModel(
    weights.root.at("bert"),
    bertConfig({ ...BERT_BASE, vocab_size: 30522 }, "BERT-base"),
  );
  const ids = [Array.from({ length: 128 }, (_, i) => 1000 + 7 * i)];
  await measure("BERT-base, 128 tokens", device, weights, () => model.forward({ ids }).hidden);
  device.dispose();
}
process.exit(0);

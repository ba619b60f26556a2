/**
 * What the CPU spends on a dispatch, in microseconds: a kernel run by its twin, a model's forward pass and training step with
 * all their JavaScript, the same two replayed, and beside them WebGPU's own calls, with nothing of the engine around them.
 * Widths are small, as the GPU's work is not what is measured; all take turns. What is replayed is checked first.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { twin } from "../src/gpu/kernel.ts";
import { launch, overQuads } from "../src/gpu/launch.ts";
import { BertModel } from "../src/models/bert.ts";
import { bertConfig } from "../src/models/config.ts";
import { Weights } from "../src/nn/weights.ts";
import { full } from "../src/ops/elementwise.ts";
import { mse } from "../src/ops/mse.ts";
import { BERT_BASE } from "../src/speech/recipes/presets.ts";
import { valueAndGrad } from "../src/tensor/autograd.ts";
import { capture } from "../src/tensor/capture.ts";
import { scope } from "../src/tensor/scope.ts";
import { elementFlags } from "../src/tensor/tensor.ts";
import { AdamW } from "../src/train/optimizer.ts";
import { openBenchDevice } from "./device.ts";
import { note } from "./measure.ts";

/** Another number of rounds is the first argument. */
const ROUNDS = Number(process.argv[2] ?? 60);
const MANY = 120;

const device = await openBenchDevice();
const { gpu, recorder } = device;

/** Calls of a compute pass. */
type Calls = readonly (
  | readonly ["setPipeline", GPUComputePipeline]
  | readonly ["setBindGroup", number, GPUBindGroup, readonly number[]]
  | readonly ["dispatchWorkgroups", number, number, number]
)[];

/** The calls that `record` makes of WebGPU, without those of the arena of Dims. */
function callsOf(record: () => void): Calls {
  const calls: unknown[][] = [];
  const create = gpu.createCommandEncoder;
  recorder.flush();
  gpu.createCommandEncoder = () => {
    const encoder = create.call(gpu);
    const begin = encoder.beginComputePass;
    encoder.beginComputePass = () => {
      const pass = begin.call(encoder) as unknown as Record<string, (...values: unknown[]) => unknown>;
      for (const name of ["setPipeline", "setBindGroup", "dispatchWorkgroups"]) {
        const call = pass[name];
        pass[name] = (...values) => {
          calls.push([name, ...values.map((value) => (Array.isArray(value) ? [...value] : value))]);
          return call.apply(pass, values);
        };
      }
      return pass as unknown as GPUComputePassEncoder;
    };
    return encoder;
  };
  record();
  recorder.flush();
  gpu.createCommandEncoder = create;
  return calls as unknown as Calls;
}

/** The same calls with nothing of the engine around them. */
function bare(calls: Calls): { record: () => void; submit: () => void } {
  let encoder: GPUCommandEncoder;
  const bytes = new Uint8Array(recorder.arena.size);
  return {
    record() {
      encoder = gpu.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (const call of calls) {
        if (call[0] === "setBindGroup") pass.setBindGroup(call[1], call[2], call[3]);
        else if (call[0] === "dispatchWorkgroups") {
          pass.dispatchWorkgroups(call[1], call[2], call[3]);
          recorder.dispatches++;
        } else pass.setPipeline(call[1]);
      }
      pass.end();
    },
    submit() {
      gpu.queue.writeBuffer(recorder.arena, 0, bytes);
      gpu.queue.submit([encoder.finish()]);
    },
  };
}

const weights = new Weights(device, { seed: 1 });
const narrow = { ...BERT_BASE, hidden_size: 48, intermediate_size: 96, vocab_size: 99 };
const model = new BertModel(weights.root.at("bert"), bertConfig(narrow, "BERT-base, narrow"));
await weights.initialize();
const ids = [[1, 2, 3, 4, 5, 6, 7, 8]];
const target = full(device, [1, 8, 48], 0);
const optimizer = new AdamW(device, weights.parameters, { learningRate: 1e-3, maxGradNorm: 1 });
const forward = () => model.forward({ ids }).hidden;
const step = () => {
  const { value, gradients } = valueAndGrad(device, weights.parameters, () => mse(forward(), target));
  optimizer.step(gradients);
  return value;
};
const replayedForward = capture(device, forward, { constants: true });
const expected = scope(device, forward);
replayedForward.replay();
assert.deepEqual(await replayedForward.value.read(), await expected.read());
const replayedStep = capture(device, step, { constants: true });
const before = await replayedStep.value.item();
replayedStep.replay();
assert.ok((await replayedStep.value.item()) < before, "a replayed step learns");

const k = twin("elementwise", {});
const [x, y] = [full(device, [32], 1), full(device, [32], 1)];
const { grid, variant } = overQuads(8, launch(device, "elementwise", { quads: 8 }), elementFlags(x));
const twinRuns = () => {
  for (let i = 0; i < MANY; i++) k.run("scale", { a: x, y }, { quads: 8, alpha: 1, beta: 1 }, grid, variant);
};
const submit = () => recorder.flush();
const cases = {
  "a kernel run by its twin": { record: twinRuns, submit },
  "  WebGPU's own calls of it": bare(callsOf(twinRuns)),
  "BERT-base forward": { record: () => scope(device, () => void forward()), submit },
  "BERT-base forward, replayed": { record: () => replayedForward.replay(), submit },
  "  WebGPU's own calls of that": bare(callsOf(() => replayedForward.replay())),
  "BERT-base training step": { record: () => scope(device, () => void step()), submit },
  "BERT-base training step, replayed": { record: () => replayedStep.replay(), submit },
};
const times = new Map<string, { count: number; record: number[]; whole: number[] }>();
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, { record, submit }] of Object.entries(cases)) {
    // Once untimed: what ran before has taken the caches.
    record();
    submit();
    await device.idle();
    const dispatches = recorder.dispatches;
    const begin = performance.now();
    record();
    const recorded = performance.now();
    submit();
    const end = performance.now();
    const count = recorder.dispatches - dispatches;
    await device.idle();
    const of = times.get(name) ?? { count, record: [], whole: [] };
    times.set(name, of);
    if (round < ROUNDS / 4) continue; // JavaScript is cold
    of.record.push((1000 * (recorded - begin)) / count);
    of.whole.push((1000 * (end - begin)) / count);
  }
}
const quantile = (values: number[], q: number) =>
  values
    .sort((a, b) => a - b)
    [Math.floor(q * (values.length - 1))].toFixed(2)
    .padStart(6);
console.log(`Microseconds of CPU a dispatch, ${device.host.describe()}, ${device.info.name}`);
console.log(`  ${"".padEnd(34)} dispatches  recorded: least, median   with submits: least, median`);
for (const [name, { count, record, whole }] of times) {
  note(device, { name: `${name.trim()}, recorded, a dispatch`, wall: record.map((us) => us / 1000) });
  note(device, { name: `${name.trim()}, with submits, a dispatch`, wall: whole.map((us) => us / 1000) });
  console.log(
    `  ${name.padEnd(34)} ${String(count).padStart(10)}  ${quantile(record, 0).padStart(15)}  ${quantile(record, 0.5)}   ${quantile(whole, 0).padStart(18)}  ${quantile(whole, 0.5)}`,
  );
}
process.exit(0);

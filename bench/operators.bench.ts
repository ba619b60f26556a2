/**
 * Every operator at the sizes of its record, forward, and forward with backward: checked first, then timed.
 *
 *   npm run bench -- softmax gelu   the operators whose name contains one of the words
 */
import process from "node:process";
import type { OpInfo } from "../src/records/op_info.ts";
import { loadRecords, selectRecords } from "../src/records/mod.ts";
import { float64Of, leavesOf, upload } from "../src/records/run.ts";
import { full } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { openBenchDevice, time } from "./measure.ts";

const records = selectRecords(await loadRecords(), process.argv.slice(2));
const device = await openBenchDevice();
console.log(`operators, ${device.info.name}`);

async function measure(sample: OpInfo["bench"][number]): Promise<void> {
  const { title, flop, trainingFlop } = sample;
  const inputs = sample.inputs();
  const tensors = upload(device, inputs);
  const call = () => sample.run(tensors, device);
  const y = scope(device, call);
  const [{ shape }, got] = [y, await y.read()];
  const bytes = y.bytes + Object.values(tensors).reduce((sum, t) => sum + t.bytes, 0);
  if (!Object.values(tensors).includes(y)) y.release(); // a step of an optimiser returns what it changed
  const { data: want } = sample.reference(float64Of(inputs));
  await time(device, {
    ...{ name: title, run: call, gflop: flop && flop / 1e9, bytes },
    check: async () => ({ got, want }),
  });
  const leaves = leavesOf(inputs).map((name) => tensors[name]);
  if (leaves.length > 0) {
    const dy = full(device, shape, 1);
    const step = () =>
      scope(device, () => {
        vjp(device, leaves, () => ({ outputs: [call()], cotangents: [dy] }));
        return undefined;
      });
    await time(device, {
      ...{ name: "  forward and backward", run: step, gflop: trainingFlop && trainingFlop / 1e9 },
    });
    dy.release();
  }
  for (const t of Object.values(tensors)) t.release();
}

for (const { bench } of records) for (const sample of bench) await measure(sample);
process.exit(0);

/**
 * Every operator at the sizes of its record, forward, and forward with backward: checked first, then timed.
 *
 *   npm run bench -- softmax gelu   the operators whose name contains one of the words
 */
import process from "node:process";
import { slopeAlong } from "../src/records/differences.ts";
import { normal } from "../src/records/float64.ts";
import type { Arrays, OpInfo } from "../src/records/op_info.ts";
import { loadRecords, selectRecords } from "../src/records/mod.ts";
import { float64Of, leavesOf, upload } from "../src/records/run.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { openBenchDevice } from "./device.ts";
import { type Answer, time } from "./measure.ts";

type Sample = OpInfo["bench"][number];

const records = selectRecords(await loadRecords(), process.argv.slice(2));
const device = await openBenchDevice();
console.log(`operators, ${device.info.name}`);

async function measure(sample: Sample): Promise<void> {
  const { title, flop, trainingFlop, tolerance, gradientTolerance } = sample;
  const inputs = sample.inputs();
  const tensors = upload(device, inputs);
  const call = () => sample.run(tensors, device);
  const y = scope(device, call);
  const [{ shape, size }, got] = [y, await y.read()];
  const bytes = y.bytes + Object.values(tensors).reduce((sum, t) => sum + t.bytes, 0);
  if (!Object.values(tensors).includes(y)) y.release(); // a step of an optimiser returns what it changed
  const arrays = float64Of(inputs);
  const { data: want } = sample.reference(arrays);
  await time(device, {
    ...{ name: title, run: call, gflop: flop && flop / 1e9, bytes },
    ...{ check: async () => ({ got, want }), tolerance: Math.max(1e-5, tolerance) },
  });
  const names = leavesOf(inputs);
  if (names.length > 0) {
    const values = normal(size, 991);
    const dy = Tensor.from(device, values, shape);
    const leaves = names.map((name) => tensors[name]);
    const differentiate = () =>
      vjp(device, leaves, () => ({ outputs: [call()], cotangents: [dy] })).gradients;
    await time(device, {
      ...{ name: `${title}, forward and backward`, gflop: trainingFlop && trainingFlop / 1e9 },
      run() {
        scope(device, () => {
          differentiate();
          return undefined;
        });
        return undefined;
      },
      async check() {
        const found = scope(device, () => {
          const of = differentiate();
          return leaves.map((leaf) => of.get(leaf));
        });
        const gradients: Float32Array[] = [];
        for (const [i, gradient] of found.entries()) {
          if (!gradient) throw new Error(`Cannot time ${title}: ${names[i]} has no gradient`);
          gradients.push(await gradient.read());
        }
        // That of a sum is dy itself.
        for (const gradient of new Set(found)) if (gradient !== dy) gradient?.release();
        return compareGradients(sample, arrays, names, Float64Array.from(values), gradients);
      },
      tolerance: Math.max(1e-5, gradientTolerance),
    });
    dy.release();
  }
  for (const t of Object.values(tensors)) t.release();
}

/**
 * Gradients beside those that the record computes in float64. A record without any has its reference differentiated along one
 * random direction in each input, and the gradient's part in that direction must be the same.
 */
function compareGradients(
  sample: Sample,
  arrays: Arrays,
  names: readonly string[],
  dy: Float64Array,
  gradients: readonly Float32Array[],
): Answer {
  const known = sample.gradients?.(arrays, dy);
  const got: number[] = [];
  const want: number[] = [];
  for (const [i, name] of names.entries()) {
    const gradient = gradients[i];
    if (known) {
      for (let at = 0; at < gradient.length; at++) {
        got.push(gradient[at]);
        want.push(known[name][at]);
      }
      continue;
    }
    const { slope, direction } = slopeAlong(sample, arrays, name, dy, i + 1);
    const along = gradient.reduce((sum, g, at) => sum + g * direction[at], 0);
    // An error of the gradient shows in one direction by as much as a random part of the gradient: that is what it is held to.
    const scale = Math.hypot(along, norm(gradient) / Math.sqrt(gradient.length));
    got.push(1 + (along - slope) / scale);
    want.push(1);
  }
  return { got, want };
}

const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));

for (const { bench } of records) for (const sample of bench) await measure(sample);
process.exit(0);

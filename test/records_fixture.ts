/** Samples of the operators' records against their float64 references, and those against finite differences. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import process from "node:process";
import type { Device } from "../src/gpu/device.ts";
import { slopeAlong } from "../src/records/differences.ts";
import { normal } from "../src/records/float64.ts";
import { loadRecords, selectRecords } from "../src/records/mod.ts";
import type { OpInfo, Sample } from "../src/records/op_info.ts";
import { cannotRun, checkSample, describe, float64Of, leavesOf } from "../src/records/run.ts";

/** The records of the operators that WAVEGATE_OPERATORS names, of all without it. */
export async function chosenRecords(): Promise<OpInfo[]> {
  const words = (process.env.WAVEGATE_OPERATORS ?? "").split(",").filter(Boolean);
  return selectRecords(await loadRecords(), words);
}

/** Fails unless forward, recorded forward and gradients of a sample are within its tolerance on this device. */
export async function assertSample(device: Device, sample: Sample): Promise<void> {
  for (const deviation of await checkSample(device, sample))
    assert.ok(deviation.relL2 <= deviation.tolerance, `${sample.title}: ${describe(deviation)}`);
}

/** One test a record: assertSample() of each sample that the device can run. */
export function testRecord(device: Device, { name, samples }: OpInfo, where = ""): void {
  test(`${name}() agrees with float64${where}: ${samples.length} samples`, async (t: TestContext) => {
    for (const sample of samples) {
      const reason = cannotRun(device, sample);
      if (reason) {
        t.diagnostic(`${sample.title} is left out: ${reason}`);
        continue;
      }
      await assertSample(device, sample);
    }
  });
}

/** Random directions in each input. */
const DIRECTIONS = 2;
/** Largest error of a slope relative to the norm of the gradient. */
const LIMIT = 1e-7;

/** Fails unless the gradients that a record gives are those that finite differences of its reference measure. */
export function checkGradients(sample: Sample): void {
  const inputs = sample.inputs();
  const arrays = float64Of(inputs);
  const y = sample.reference(arrays).data;
  const dy = Float64Array.from(normal(y.length, 991));
  const gradients = sample.gradients?.(arrays, dy);
  if (!gradients || !sample.differences) return;
  // What float64 rounds off the terms of Σ y·dy, as a slope.
  const noise = (2 ** -50 * y.reduce((sum, v, i) => sum + Math.abs(v * dy[i]), 0)) / sample.step;
  for (const name of leavesOf(inputs)) {
    const gradient: Float64Array = Float64Array.from(gradients[name]);
    assert.equal(gradient.length, arrays[name].data.length, `${sample.title}: the gradient of ${name}`);
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    for (let n = 0; n < DIRECTIONS; n++) {
      const { slope, direction } = slopeAlong(sample, arrays, name, dy, 31 * n + 5);
      const claimed = gradient.reduce((sum, g, i) => sum + g * direction[i], 0);
      assert.ok(
        Math.abs(claimed - slope) <= LIMIT * norm + noise,
        `${sample.title}: the gradient of ${name} says ${claimed} in direction ${n}, differences say ${slope}; norm ${norm}`,
      );
    }
  }
}

/** Every operator against float64, forward and backward, in f32 and f16, and the stored cases of PyTorch, on this adapter. */
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Device } from "../../src/gpu/device.ts";
import { currentHost } from "../../src/host/current.ts";
import { BertModel } from "../../src/models/bert.ts";
import { HubertForCTC } from "../../src/models/hubert.ts";
import { uniform } from "../../src/nn/random.ts";
import type { Weights } from "../../src/nn/weights.ts";
import { relativeL2 } from "../../src/records/float64.ts";
import { loadRecords } from "../../src/records/mod.ts";
import { cannotRun, checkSample, describe } from "../../src/records/run.ts";
import { validateModel } from "../../src/speech/validate/models.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { findCases, isOperatorCase } from "../../src/validate/case.ts";
import { validateOperators } from "../../src/validate/operators.ts";
import { openBenchDevice } from "../device.ts";
import { attempt, deliver, hasTime, leaveOut, quick } from "./section.ts";

const REFERENCE = fileURLToPath(new URL("../../test/reference", import.meta.url));
/** What f16 weights may change of a model's result: they keep 11 bits. */
const F16_LIMIT = 1e-2;

const host = await currentHost();
const device = await openBenchDevice();
const records = await loadRecords();

async function operators(): Promise<void> {
  for (const { name, samples } of records)
    for (const dtype of ["f32", "f16"] as const) {
      const chosen = samples.filter(({ f16 }) => f16 === (dtype === "f16")).slice(0, quick ? 1 : undefined);
      if (chosen.length === 0) continue;
      const obstacle = cannotRun(device, chosen[0]);
      if (obstacle) {
        deliver({ note: `${name} in ${dtype}: ${obstacle}` });
        continue;
      }
      if (!hasTime(2)) {
        leaveOut(`${name} in ${dtype}`);
        continue;
      }
      await attempt(`${name} in ${dtype}`, async () => {
        let [relL2, faults] = [0, 0];
        let first: string | undefined;
        for (const sample of chosen)
          for (const deviation of await checkSample(device, sample)) {
            relL2 = Math.max(relL2, deviation.relL2);
            if (deviation.relL2 <= deviation.tolerance) continue;
            faults++;
            first ??= `${sample.title}: ${describe(deviation)}`;
          }
        deliver({ kind: "operator", name, dtype, samples: chosen.length, relL2, faults, first });
      });
    }
}

async function stored(): Promise<void> {
  const folders = await findCases(host, REFERENCE);
  const chosen = quick ? folders.filter((folder) => /bert-tiny$|small$/.test(folder)) : folders;
  for (const folder of chosen) {
    // A trajectory alone is for the tests.
    const files = await host.list(folder);
    if (!files.some((file) => /^(outputs|index)/.test(file))) continue;
    const name = folder.slice(REFERENCE.length + 1);
    if (!hasTime(3)) {
      leaveOut(`the stored case ${name}`);
      continue;
    }
    await attempt(name, async () => {
      const stages = (await isOperatorCase(host, folder))
        ? await validateOperators(host, device, folder, records)
        : (await validateModel(host, device, folder)).stages;
      const failed = stages.filter(({ pass }) => !pass);
      const relL2 = Math.max(...stages.filter(({ kind }) => kind === "forward").map((stage) => stage.relL2));
      const first = failed[0] && `${failed[0].name} is ${failed[0].relL2.toExponential(1)} from PyTorch's`;
      deliver({
        kind: "PyTorch",
        name,
        dtype: "f32",
        samples: stages.length,
        relL2,
        faults: failed.length,
        first,
      });
    });
  }
}

/** Models with f16 weights beside the same with f32. */
async function halves(): Promise<void> {
  const { f16, name: adapter } = device.info;
  if (!f16) return deliver({ note: `models in f16: ${adapter} has no f16` });
  const next = uniform(3);
  const audio = Float32Array.from({ length: 8000 }, () => 2 * next() - 1);
  const ids = [[1, 5, 9, 13, 17, 21]];
  const hubert = (on: Device, folder: string, dtype: "f32" | "f16") =>
    HubertForCTC.fromPretrained(on, folder, { dtype }).then(({ model, weights }) => ({
      weights,
      run: () => model.forward({ audio: Tensor.from(on, audio, [1, audio.length]) }).logits,
    }));
  const bert = (on: Device, folder: string, dtype: "f32" | "f16") =>
    BertModel.fromPretrained(on, folder, { dtype }).then(({ model, weights }) => ({
      weights,
      run: () => model.forward({ ids }).hidden,
    }));
  for (const [name, open] of [
    ["hubert-tiny-stable", hubert],
    ["bert-tiny", bert],
  ] as const)
    await attempt(`${name} with f16 weights`, async () => {
      const read = async (dtype: "f32" | "f16") => {
        const { weights, run }: { weights: Weights; run: () => Tensor } = await open(
          device,
          `${REFERENCE}/${name}`,
          dtype,
        );
        const y = scope(device, run);
        const values = await y.read();
        y.release();
        weights.dispose();
        return values;
      };
      const relL2 = relativeL2(await read("f16"), await read("f32"));
      const faults = relL2 <= F16_LIMIT ? 0 : 1;
      const first = faults ? `${relL2.toExponential(1)} from f32, limit ${F16_LIMIT}` : undefined;
      deliver({ kind: "f16 weights", name, dtype: "f16", samples: 1, relL2, faults, first });
    });
}

await stored();
await halves();
await operators();
process.exit(0);

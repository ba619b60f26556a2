/**
 * Runs the single operations of an `ops` folder. Its index.json says for each case which operation, with which
 * attributes, on which tensors; the operators' records say how each is called.
 */
import type { Device } from "../gpu/device.ts";
import type { Host } from "../host/host.ts";
import { full } from "../ops/elementwise.ts";
import type { OpInfo } from "../records/op_info.ts";
import { type Integers, type StoredCall, StoredInputs } from "../records/stored.ts";
import { vjp } from "../tensor/autograd.ts";
import { Tensor } from "../tensor/tensor.ts";
import { CaseTensors, type OpCase, readOpCases } from "./case.ts";
import { type Evidence, compareStages, type Stage } from "./compare.ts";
import { validateOptimizer } from "./optimizers.ts";

const LIMIT = 1e-5;

export async function validateOperators(
  host: Host,
  device: Device,
  folder: string,
  records: readonly OpInfo[],
): Promise<Stage[]> {
  const calls = records.flatMap(({ stored }) => stored);
  const cases = await readOpCases(host, folder);
  const files = new Map<string, CaseTensors>();
  const stages: Stage[] = [];
  try {
    for (const op of cases) {
      const file = files.get(op.file) ?? (await CaseTensors.open(host, `${folder}/${op.file}`));
      files.set(op.file, file);
      if (op.attrs.op === undefined) stages.push(...(await validateOptimizer(device, file, op, LIMIT)));
      else stages.push(...(await runCase(device, file, op, calls)));
    }
  } finally {
    for (const file of files.values()) await file.close();
  }
  return stages;
}

async function runCase(
  device: Device,
  file: CaseTensors,
  op: OpCase,
  calls: readonly StoredCall[],
): Promise<Stage[]> {
  const call = calls.find(({ op: pattern }) => pattern.test(String(op.attrs.op)));
  if (!call) throw new Error(`Cannot validate ${op.case}: operation "${op.attrs.op}" is not known`);
  const at = (name: string) => `${op.case}/${name}`;
  const tensors = new Map<string, Tensor>();
  const integers = new Map<string, Integers>();
  for (const name of op.inputs) {
    const shape = file.shape(at(name));
    if (file.file.tensors.get(at(name))?.dtype === "I64")
      integers.set(name, { values: await file.integers(at(name)), shape });
    else tensors.set(name, Tensor.from(device, await file.read(at(name)), shape));
  }
  const cotangent = new Map<string, Tensor>();
  for (const name of op.outputs) {
    if (file.has(at(`cot.${name}`)))
      cotangent.set(
        name,
        Tensor.from(device, await file.read(at(`cot.${name}`)), file.shape(at(`cot.${name}`))),
      );
  }
  let outputs: Readonly<Record<string, Tensor>> = {};
  // Those that PyTorch gave a gradient: the class weights of a cross-entropy have none.
  const leaves = [...tensors].filter(([name]) => file.has(at(`grad.${name}`))).map(([, t]) => t);
  const { gradients } = vjp(device, leaves, () => {
    outputs = call.run(new StoredInputs(device, op.case, op.attrs, tensors, integers));
    for (const t of Object.values(outputs)) t.keep();
    // L = Σ out·cot.out; a scalar stands for itself.
    const pairs = op.outputs.flatMap((name) => {
      const dy =
        cotangent.get(name) ??
        (outputs[name]?.size === 1 && outputs[name].shape.length === 0 ? full(device, [], 1) : undefined);
      return dy && outputs[name] ? [[outputs[name], dy] as const] : [];
    });
    return { outputs: pairs.map(([y]) => y), cotangents: pairs.map(([, dy]) => dy) };
  });
  const evidence: Evidence[] = [];
  const weigh = async (name: string, kind: Evidence["kind"], t: Tensor | undefined) => {
    if (!file.has(at(name))) return;
    const torch = await file.read(at(name));
    const truth = file.has(at(`${name}64`)) ? await file.read(at(`${name}64`)) : torch;
    evidence.push({
      name: at(name),
      kind,
      got: await t?.read(),
      truth,
      torch: truth === torch ? undefined : torch,
    });
  };
  for (const name of op.outputs) await weigh(name, "forward", outputs[name]);
  for (const [name, t] of tensors) await weigh(`grad.${name}`, "gradient", gradients.get(t));
  for (const t of [
    ...Object.values(outputs),
    ...tensors.values(),
    ...cotangent.values(),
    ...gradients.values(),
  ])
    t.release();
  return compareStages(evidence, LIMIT);
}

/** Optimiser cases of an `ops` folder: three steps on given gradients, and gradient clipping. */
import type { Device } from "../gpu/device.ts";
import { adamStep, clipNorm, clipped, sgdStep } from "../ops/optimizer.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type CaseTensors, type NumberName, numberOf, type OpCase } from "./case.ts";
import { type Evidence, compareStages, type Stage } from "./compare.ts";

export async function validateOptimizer(
  device: Device,
  file: CaseTensors,
  op: OpCase,
  limit: number,
): Promise<Stage[]> {
  const at = (name: string) => `${op.case}/${name}`;
  const number = (name: NumberName) => numberOf(op, name);
  const load = async (name: string) => Tensor.from(device, await file.read(at(name)), file.shape(at(name)));
  const evidence: Evidence[] = [];
  const weigh = async (name: string, t: Tensor) => {
    const torch = await file.read(at(name));
    const truth = file.has(at(`${name}64`)) ? await file.read(at(`${name}64`)) : torch;
    evidence.push({
      name: at(name),
      kind: "forward",
      got: await t.read(),
      truth,
      torch: truth === torch ? undefined : torch,
    });
  };
  const own = file.names.filter((n) => n.startsWith(`${op.case}/`)).map((n) => n.slice(op.case.length + 1));
  if (op.attrs.max_norm !== undefined) {
    const keys = own.filter((n) => n.startsWith("grad.")).map((n) => n.slice("grad.".length));
    const gradients = await Promise.all(keys.map((key) => load(`grad.${key}`)));
    const clip = clipNorm(device, gradients, number("max_norm"));
    const norm = (await clip.read())[1];
    evidence.push({ name: at("norm"), kind: "forward", got: [norm], truth: await file.read(at("norm")) });
    for (const [i, key] of keys.entries()) await weigh(`clipped.${key}`, clipped(gradients[i], clip));
    return compareStages(evidence, limit);
  }
  const keys = own.filter((n) => n.startsWith("grad1.")).map((n) => n.slice("grad1.".length));
  const steps = own.filter((n) => n.startsWith(`${keys[0]}.after`) && !n.endsWith("64")).length;
  // Only the name of the case tells torch's AdamW from its Adam.
  const decoupled = op.case.startsWith("adamw");
  const momentum = op.attrs.momentum === undefined ? undefined : number("momentum");
  for (const key of keys) {
    const p = await load(key);
    const zeros = () => Tensor.from(device, new Float32Array(p.size), p.shape);
    const [m, v] = [zeros(), zeros()];
    const clip = Tensor.from(device, Float32Array.of(1, 0, 1), [3]);
    for (let step = 1; step <= steps; step++) {
      const g = await load(`grad${step}.${key}`);
      if (momentum !== undefined) {
        sgdStep(p, g, m, clip, { rate: number("lr"), momentum, decay: number("weight_decay"), step });
      } else {
        const { betas } = op.attrs;
        if (!betas) throw new Error(`Cannot validate ${op.case}: it lacks the attribute betas, two numbers`);
        const [beta1, beta2] = betas;
        adamStep(p, g, m, v, clip, {
          rate: number("lr"),
          beta1,
          beta2,
          eps: number("eps"),
          decay: number("weight_decay"),
          step,
          decoupled,
        });
      }
      await weigh(`${key}.after${step}`, p);
    }
    if (momentum !== undefined) await weigh(`${key}.momentum_buffer`, m);
    else
      for (const [name, t] of [
        ["exp_avg", m],
        ["exp_avg_sq", v],
      ] as const)
        await weigh(`${key}.${name}`, t);
  }
  return compareStages(evidence, limit);
}

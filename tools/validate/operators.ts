/**
 * Runs the single operations of an `ops` folder. Its index.json says for each case which operation, with which
 * attributes, on which tensors; the strings are those that tools/reference.py writes.
 */
import type { Device } from "../../src/gpu/device.ts";
import type { Host } from "../../src/host/host.ts";
import { crossAttention, crossAttentionWithProbabilities } from "../../src/ops/attention.ts";
import { activation } from "../../src/ops/activation.ts";
import { conv1d } from "../../src/ops/conv1d.ts";
import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import { ctcLoss } from "../../src/ops/ctc.ts";
import { full, reshape } from "../../src/ops/elementwise.ts";
import { embedding } from "../../src/ops/embedding.ts";
import { concat, transpose } from "../../src/ops/frames.ts";
import { groupNorm } from "../../src/ops/group_norm.ts";
import { layerNorm } from "../../src/ops/layer_norm.ts";
import { linear, matmul } from "../../src/ops/matmul.ts";
import { maskedMean } from "../../src/ops/reduce.ts";
import { blend, join } from "../../src/ops/sigmoid_gate.ts";
import { softmax } from "../../src/ops/softmax.ts";
import { weightNorm } from "../../src/ops/weight_norm.ts";
import { vjp } from "../../src/tensor/autograd.ts";
import { noGrad } from "../../src/tensor/tape.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { CaseTensors, type NumberName, numberOf, type OpCase, readOpCases } from "../../src/validate/case.ts";
import { type Evidence, judge, type Stage } from "../../src/validate/compare.ts";
import { validateOptimizer } from "../../src/validate/optimizers.ts";

const LIMIT = 1e-5;

/** Inputs of a case: f32 tensors on the device, integer ones as lists. */
class Inputs {
  readonly #tensors: ReadonlyMap<string, Tensor>;
  readonly #integers: ReadonlyMap<string, { values: number[]; shape: readonly number[] }>;
  readonly #op: OpCase;
  readonly device: Device;

  constructor(
    device: Device,
    op: OpCase,
    tensors: ReadonlyMap<string, Tensor>,
    integers: ReadonlyMap<string, { values: number[]; shape: readonly number[] }>,
  ) {
    this.device = device;
    this.#op = op;
    this.#tensors = tensors;
    this.#integers = integers;
  }
  tensor(name: string): Tensor {
    const t = this.#tensors.get(name);
    if (!t) throw new Error(`Cannot run ${this.#op.case}: it has no input ${name}`);
    return t;
  }
  optional(name: string): Tensor | undefined {
    return this.#tensors.get(name);
  }
  integers(name: string): { values: number[]; shape: readonly number[] } {
    const i = this.#integers.get(name);
    if (!i) throw new Error(`Cannot run ${this.#op.case}: it has no input ${name}`);
    return i;
  }
  flags(name: string): Tensor {
    const { values, shape } = this.integers(name);
    return Tensor.from(this.device, Uint32Array.from(values), shape);
  }
  get attrs(): OpCase["attrs"] {
    return this.#op.attrs;
  }
  number(name: NumberName, fallback?: number): number {
    return numberOf(this.#op, name, fallback);
  }
}

type Operator = (i: Inputs) => Readonly<Record<string, Tensor>>;

const out = (t: Tensor) => ({ out: t });
/** The references are (B, C, T). */
const channelsLast = transpose;

const conv: Operator = (i) =>
  out(
    transpose(
      conv1d(channelsLast(i.tensor("x")), i.tensor("w"), i.optional("b"), {
        stride: i.number("stride", 1),
        padding: i.number("padding", 0),
        dilation: i.number("dilation", 1),
        groups: i.number("groups", 1),
      }),
    ),
  );

/** Every head is a sample of its own with one head. */
const attention: Operator = (i) => {
  const [B, H, Tq, D] = i.tensor("q").shape;
  const Tk = i.tensor("k").shape[2];
  const split = (t: Tensor, T: number) => reshape(t, [B * H, T, D]);
  const { values } = i.integers("key_mask");
  const mask = Tensor.from(
    i.device,
    Uint32Array.from({ length: B * H * Tk }, (_, n) => values[Math.floor(n / (H * Tk)) * Tk + (n % Tk)]),
    [B * H, Tk],
  );
  const q = split(i.tensor("q"), Tq);
  const kv = concat([split(i.tensor("k"), Tk), split(i.tensor("v"), Tk)]);
  const options = { heads: 1, mask, scale: i.number("scale", 1 / Math.sqrt(D)) };
  const y = reshape(crossAttention(q, kv, options), [B, H, Tq, D]);
  const probs = noGrad(i.device, () =>
    crossAttentionWithProbabilities(q, kv, options).probabilities.reshaped([B, H, Tq, Tk]),
  );
  return { out: y, probs };
};

const ctc: Operator = (i) => {
  const { values, shape } = i.integers("targets");
  const lengths = i.integers("target_lengths").values;
  const targets = lengths.map((n, b) => values.slice(b * shape[1], b * shape[1] + n));
  return out(
    ctcLoss(i.tensor("logits"), targets, i.integers("input_lengths").values, {
      blank: i.number("blank", 0),
      reduction: i.attrs.reduction,
      zeroInfinity: i.attrs.zero_infinity === true,
    }),
  );
};

const gate: Operator = (i) => {
  const shaped = (t: Tensor) => (t.shape.length === 3 ? t : reshape(t, [1, ...t.shape]));
  const [s, c] = [shaped(i.tensor("s")), shaped(i.tensor("c"))];
  const y = blend(s, c, linear(join(s, c, true), i.tensor("w"), i.tensor("b")));
  return out(i.tensor("s").shape.length === 3 ? y : reshape(y, y.shape.slice(1)));
};

const operators: readonly (readonly [RegExp, Operator])[] = [
  [/^gelu$/, (i) => out(activation(i.tensor("x"), i.attrs.approximate === "tanh" ? "gelu_tanh" : "gelu"))],
  [/^layer_norm$/, (i) => out(layerNorm(i.tensor("x"), i.tensor("w"), i.tensor("b"), i.number("eps")))],
  [
    /^group_norm$/,
    (i) =>
      out(
        transpose(
          groupNorm(
            channelsLast(i.tensor("x")),
            i.tensor("w"),
            i.tensor("b"),
            i.number("groups"),
            i.number("eps"),
          ),
        ),
      ),
  ],
  [/^softmax$/, (i) => out(softmax(i.tensor("x")))],
  [/^log_softmax$/, (i) => out(softmax(i.tensor("x"), { log: true }))],
  [/^softmax of x with mask==1 set to -inf/, (i) => out(softmax(i.tensor("x"), { mask: i.flags("mask") }))],
  [/^softmax; first row fully -inf/, (i) => out(softmax(i.tensor("x"), { mask: i.flags("mask") }))],
  [
    /^softmax\(x \+ mask\*finfo\.min\)/,
    (i) => out(softmax(i.tensor("x"), { mask: i.flags("mask"), fill: "finfo.min" })),
  ],
  [/^softmax\(q k\^T/, attention],
  [/^conv1d$/, conv],
  [
    /^gelu\(conv1d\(x, w=g\*v/,
    (i) => {
      const x = channelsLast(i.tensor("x"));
      const k = i.tensor("v").shape[2];
      const w = weightNorm(i.tensor("v"), i.tensor("g"));
      const y = conv1d(x, w, i.optional("b"), {
        padding: i.number("padding"),
        groups: i.number("groups"),
        drop: k % 2 === 0 ? 1 : 0,
      });
      return out(transpose(activation(y, "gelu")));
    },
  ],
  [
    /^embedding$/,
    (i) => {
      const { values, shape } = i.integers("ids");
      return out(embedding(i.tensor("w"), values, shape, { paddingIndex: i.number("padding_idx", -1) }));
    },
  ],
  [
    /^cross_entropy$/,
    (i) =>
      out(
        crossEntropy(i.tensor("x"), i.integers("t").values, {
          weight: i.attrs.class_weight === undefined ? undefined : i.tensor(i.attrs.class_weight),
          labelSmoothing: i.number("label_smoothing", 0),
          ignoreIndex: i.number("ignore_index", -100),
          reduction: i.attrs.reduction ?? "mean",
        }),
      ),
  ],
  [/^ctc_loss/, ctc],
  [/^mean over time/, (i) => out(maskedMean(i.tensor("x"), i.flags("mask")))],
  [/^g=linear\(sigmoid\(cat/, gate],
  [/^sigmoid$/, (i) => out(activation(i.tensor("x"), "sigmoid"))],
  [/^tanh$/, (i) => out(activation(i.tensor("x"), "tanh"))],
  [/^x w\^T \+ b$/, (i) => out(linear(i.tensor("x"), i.tensor("w"), i.optional("b")))],
  [/^a b$/, (i) => out(matmul(i.tensor("a"), i.tensor("b")))],
  [
    // Population variance, eps under the root: a layer norm over the whole utterance.
    /^\(x-mean\)\/sqrt\(population var/,
    (i) => {
      const x = i.tensor("x");
      const [w, b] = [full(i.device, [x.size], 1), full(i.device, [x.size], 0)];
      return out(reshape(layerNorm(reshape(x, [1, x.size]), w, b, 1e-7), x.shape));
    },
  ],
];

export async function validateOperators(host: Host, device: Device, folder: string): Promise<Stage[]> {
  const cases = await readOpCases(host, folder);
  const files = new Map<string, CaseTensors>();
  const stages: Stage[] = [];
  try {
    for (const op of cases) {
      const file = files.get(op.file) ?? (await CaseTensors.open(host, `${folder}/${op.file}`));
      files.set(op.file, file);
      if (op.attrs.op === undefined) stages.push(...(await validateOptimizer(device, file, op, LIMIT)));
      else stages.push(...(await runCase(device, file, op)));
    }
  } finally {
    for (const file of files.values()) await file.close();
  }
  return stages;
}

async function runCase(device: Device, file: CaseTensors, op: OpCase): Promise<Stage[]> {
  const run = operators.find(([pattern]) => pattern.test(String(op.attrs.op)))?.[1];
  if (!run) throw new Error(`Cannot validate ${op.case}: operation "${op.attrs.op}" is not known`);
  const at = (name: string) => `${op.case}/${name}`;
  const tensors = new Map<string, Tensor>();
  const integers = new Map<string, { values: number[]; shape: readonly number[] }>();
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
    outputs = run(new Inputs(device, op, tensors, integers));
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
  return judge(evidence, LIMIT);
}

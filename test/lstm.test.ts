/** LSTM layers: PyTorch's cases by its own keys, steps of a cell, what a batch does not change, and what is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  gradcheck,
  Lstm,
  LstmCell,
  ops,
  type Parameter,
  recordAll,
  scope,
  Tensor,
  trainingStream,
  valueAndGrad,
  vjp,
  Weights,
} from "../src/mod.ts";
import { relativeL2 } from "../src/records/float64.ts";
import { testDevice } from "./device.ts";
import { normal, type ReferenceCase, referenceCases } from "./reference.ts";

const device = await testDevice();
const tensor = (shape: number[], seed: number) =>
  Tensor.from(
    device,
    normal(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );

/** Writes the case's weights into parameters, by their keys. */
function load(parameters: readonly Parameter[], of: ReferenceCase): void {
  for (const parameter of parameters) {
    const values = new Float32Array(parameter.value.size);
    for (const { key, offset } of parameter.parts) values.set(of.values(key), offset);
    parameter.write(values);
  }
}

for (const of of await referenceCases("lstm.safetensors"))
  test(`Lstm agrees with torch.nn.LSTM on every tensor and gradient: ${of.case}`, async () => {
    const { layers, bidirectional } = of.attrs as { layers: number; bidirectional: boolean };
    const [B, T, K] = of.shape("x");
    const H = of.shape("h_0")[2];
    const D = bidirectional ? 2 : 1;
    const weights = new Weights(device);
    const lstm = new Lstm(weights.root, K, H, { layers, bidirectional });
    await weights.initialize();
    load(weights.parameters, of);
    const given = (name: string, shape: number[], from = 0, size = Number.POSITIVE_INFINITY) =>
      Tensor.from(device, Float32Array.from(of.values(name).subarray(from, from + size)), shape);
    const state = (name: string) =>
      Array.from({ length: layers }, (_, l) => given(name, [D, B, H], l * D * B * H, D * B * H));
    const [x, h, c] = [given("x", [B, T, K]), state("h_0"), state("c_0")];
    const cotangents = [given("cot.out", [B, T, D * H]), ...state("cot.h_n"), ...state("cot.c_n")];
    const parameters = weights.parameters;
    const { outputs, gradients } = vjp<Tensor | Parameter, Tensor[]>(
      device,
      [x, ...h, ...c, ...parameters],
      () => {
        const lengths = [...of.values("lengths")];
        const { y, states } = lstm.forward(x, { lengths, states: h.map((t, l) => ({ h: t, c: c[l] })) });
        return { outputs: [y, ...states.map((s) => s.h), ...states.map((s) => s.c)], cotangents };
      },
    );
    const near = async (name: string, tensors: readonly (Tensor | undefined)[]) => {
      const got = (await Promise.all(tensors.map((t) => t?.read() ?? []))).flatMap((v) => [...v]);
      const distance = relativeL2(got, of.values(`${name}64`));
      assert.ok(distance < 2e-6, `${name} is ${distance} from PyTorch's`);
    };
    await near("out", outputs.slice(0, 1));
    await near("h_n", outputs.slice(1, 1 + layers));
    await near("c_n", outputs.slice(1 + layers));
    await near("grad.x", [gradients.get(x)]);
    await near(
      "grad.h_0",
      h.map((t) => gradients.get(t)),
    );
    await near(
      "grad.c_0",
      c.map((t) => gradients.get(t)),
    );
    let keys = 0;
    for (const parameter of parameters) {
      const all = (await gradients.get(parameter)?.read()) ?? new Float32Array();
      for (const { key, shape, offset } of parameter.parts) {
        const size = shape.reduce((a, b) => a * b, 1);
        const distance = relativeL2(all.subarray(offset, offset + size), of.values(`grad.${key}64`));
        assert.ok(distance < 2e-6, `the gradient of ${key} is ${distance} from PyTorch's`);
        keys++;
      }
    }
    assert.equal(keys, 4 * layers * D);
    weights.dispose();
  });

test("LstmCell step by step gives what Lstm gives at once, and the same gradients", async () => {
  const [B, T, K, H] = [3, 4, 5, 8];
  const weights = new Weights(device, { seed: 2 });
  const layer = new Lstm(weights.at("layer"), K, H);
  const cell = new LstmCell(weights.at("cell"), K, H);
  await weights.initialize();
  const names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];
  const find = (key: string) => weights.parameters.find((p) => p.key === key) as Parameter;
  for (const name of names) find(`cell.${name}`).write(await find(`layer.${name}_l0`).value.read());
  const frames = Array.from({ length: T }, (_, t) => tensor([B, K], 10 + t));
  const loss = (y: Tensor) => ops.sum(ops.mul(y, y));
  const whole = valueAndGrad(device, weights.parameters, () => {
    const x = ops.reshape(ops.concat(frames), [B, T, K]);
    const { y, states } = layer.forward(x);
    return ops.add(loss(y), loss(states[0].c));
  });
  const steps = valueAndGrad(device, weights.parameters, () => {
    let state = cell.forward(frames[0]);
    let total = loss(state.h);
    for (const x of frames.slice(1)) {
      state = cell.forward(x, state);
      total = ops.add(total, loss(state.h));
    }
    return ops.add(total, loss(state.c));
  });
  assert.ok(Math.abs((await whole.value.item()) / (await steps.value.item()) - 1) < 1e-6);
  for (const name of names) {
    const got = await steps.gradients.get(find(`cell.${name}`))?.read();
    const want = await whole.gradients.get(find(`layer.${name}_l0`))?.read();
    assert.ok(relativeL2(got ?? [], want ?? []) < 2e-6, name);
  }
  weights.dispose();
});

test("lstm() gives a sample the same bits alone and in a batch, in one dispatch and in many, every time", async () => {
  const [T, K] = [5, 6];
  for (const H of [16, 132]) {
    const [x, other] = [normal(T * K, 1), normal(8 * T * K, 2)];
    const weights = {
      weightIh: tensor([8 * H, K], 3),
      weightHh: tensor([8 * H, H], 4),
      biasIh: tensor([8 * H], 5),
    };
    const [dy, batchDy] = [normal(T * 2 * H, 6), normal(8 * T * 2 * H, 7)];
    /** y and the gradient of x of sample `at`. */
    const run = async (values: Float32Array, cotangent: Float32Array, lengths: number[], at: number) => {
      const B = lengths.length;
      const input = Tensor.from(device, values, [B, T, K]);
      const { outputs, gradients } = vjp(device, [input], () => ({
        outputs: [ops.lstm(input, weights, { lengths }).y],
        cotangents: [Tensor.from(device, cotangent, [B, T, 2 * H])],
      }));
      const y = (await outputs[0].read()).slice(at * T * 2 * H, (at + 1) * T * 2 * H);
      const dx = (await gradients.get(input)?.read())?.slice(at * T * K, (at + 1) * T * K);
      return { y, dx };
    };
    const alone = await run(x, dy, [4], 0);
    assert.deepEqual(await run(x, dy, [4], 0), alone);
    other.set(x, 5 * T * K);
    batchDy.set(dy, 5 * T * 2 * H);
    const inBatch = await run(other, batchDy, [5, 1, 2, 3, 4, 4, 1, 5], 5);
    assert.deepEqual(inBatch.y, alone.y);
    assert.ok(alone.y.subarray(4 * 2 * H).every((v) => v === 0));
    assert.ok(relativeL2(inBatch.dx ?? [], alone.dx ?? []) < 1e-6);
  }
});

test("gradients reach an LSTM by its last state alone, and an Lstm with dropout passes gradcheck()", async () => {
  const weights = new Weights(device, { seed: 3 });
  const lstm = new Lstm(weights.root, 3, 4, { layers: 2, bidirectional: true, dropout: 0.4 });
  await weights.initialize();
  const x = tensor([2, 3, 3], 1);
  const by = (of: "h" | "c") =>
    gradcheck(device, weights.parameters, () => {
      const { states } = lstm.forward(x, { lengths: [3, 2] }, { training: trainingStream(5) });
      return ops.sum(ops.mul(states[1][of], states[1][of]));
    });
  await by("h");
  await by("c");
  weights.dispose();
});

test("recordAll() runs a backward once, with the gradients of the outputs that one reaches", async () => {
  const x = Tensor.from(device, Float32Array.of(1, 2), [2]);
  const seen: boolean[][] = [];
  const both = () => {
    const [a, b] = scope(device, () => [ops.scale(x.reshaped([1, 2]), 2), ops.scale(x.reshaped([1, 2]), 3)]);
    return recordAll("both", [x], [a, b], [], (dys) => {
      seen.push(dys.map((dy) => dy !== undefined));
      const parts = dys.flatMap((dy, i) => (dy ? [ops.scale(dy, 2 + i)] : []));
      return [ops.reshape(parts.length === 2 ? ops.add(parts[0], parts[1]) : parts[0], [2])];
    });
  };
  const grad = async (pick: (outputs: readonly Tensor[]) => Tensor) => {
    const { gradients } = valueAndGrad(device, [x], () => ops.sum(pick(both())));
    return [...((await gradients.get(x)?.read()) ?? [])];
  };
  assert.deepEqual(await grad(([a, b]) => ops.add(a, b)), [5, 5]);
  assert.deepEqual(await grad(([, b]) => b), [3, 3]);
  assert.deepEqual(seen, [
    [true, true],
    [false, true],
  ]);
});

test("an f16 x is computed in f32", { skip: !device.info.f16 && "no shader-f16" }, async () => {
  const weights = new Weights(device, { seed: 4 });
  const lstm = new Lstm(weights.root, 6, 8);
  await weights.initialize();
  const x = tensor([2, 3, 6], 1);
  const half = lstm.forward(ops.cast(x, "f16")).y;
  assert.equal(half.dtype, "f16");
  const [got, want] = [await ops.cast(half, "f32").read(), await lstm.forward(x).y.read()];
  assert.ok(relativeL2(got, want) < 1e-3);
  weights.dispose();
});

test("lstm(), Lstm and LstmCell say what does not fit", () => {
  const x = tensor([2, 3, 5], 1);
  const weightIh = tensor([16, 5], 2);
  const weightHh = tensor([16, 4], 3);
  const weights = { weightIh, weightHh };
  const h = tensor([1, 2, 4], 4);
  const cell = new LstmCell(new Weights(device).root, 5, 4);
  const cases: [() => unknown, RegExp][] = [
    [
      () => ops.lstm(x, weights, { lengths: [3] }),
      /^Cannot run lstm: lengths are 1 but should be 2, one for each sample$/,
    ],
    [
      () => ops.lstm(x, weights, { lengths: [3, 0] }),
      /^Cannot run lstm: length 1 is 0 but should be from 1 to 3$/,
    ],
    [() => ops.lstm(x, weights, { lengths: [4, 1] }), /length 0 is 4 but should be from 1 to 3$/],
    [
      () => ops.lstm(x, { weightIh, weightHh: tensor([12, 4], 5) }),
      /weightHh is \(12, 4\) but should be \(16, 4\) or, of two directions, \(32, 4\)$/,
    ],
    [() => ops.lstm(x, { ...weights, weightIh: weightHh }), /weightIh is \(16, 4\) but should be \(16, 5\)$/],
    [() => ops.lstm(x, { ...weights, biasIh: h }), /biasIh is \(1, 2, 4\) but should be \(16\)$/],
    [
      () => ops.lstm(x, weights, { state: { h, c: tensor([1, 3, 4], 6) } }),
      /c is \(1, 3, 4\) but should be \(1, 2, 4\)$/,
    ],
    [
      () => ops.lstm(x, weights, { reversed: true } as object),
      /options has no reversed; did you mean reverse\?$/,
    ],
    [
      () => ops.lstm(x, { weightIh: tensor([32, 5], 7), weightHh: tensor([32, 4], 8) }, { reverse: true }),
      /reverse is for one direction; the weights have two$/,
    ],
    [() => ops.lstm(tensor([2, 0, 5], 9), weights), /x is \(2, 0, 5\), which has no frame$/],
    [
      () => new Lstm(new Weights(device).root, 5, 4, { layers: 0 }),
      /layers is 0 but should be a whole number from 1$/,
    ],
    [
      () => new Lstm(new Weights(device).root, 5, 4, { bidirection: true } as object),
      /did you mean bidirectional\?$/,
    ],
    [
      () => new Lstm(new Weights(device).root, 5, 4).forward(x, { states: [] }),
      /^Cannot run Lstm: there are 0 states, expected 1, one for each layer$/,
    ],
    [() => cell.forward(x), /^Cannot run LstmCell: x is \(2, 3, 5\) but should be \(any, any\)$/],
    [
      () => cell.forward(tensor([2, 5], 1), { h, c: h }),
      /LstmCell: h is \(1, 2, 4\) but should be \(2, 4\)$/,
    ],
  ];
  for (const [run, message] of cases) assert.throws(run, { message });
});

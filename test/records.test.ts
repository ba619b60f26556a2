/** Every operator's record on this device, and what goes by the records. */
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import { activation } from "../src/ops/activation.ts";
import * as ops from "../src/ops/mod.ts";
import { activations, map } from "../src/records/float64.ts";
import { loadRecords, selectRecords } from "../src/records/mod.ts";
import { defineOp, type OpSpec } from "../src/records/op_info.ts";
import { checkSample } from "../src/records/run.ts";
import { StoredInputs } from "../src/records/stored.ts";
import { record } from "../src/tensor/tape.ts";
import { testDevice } from "./device.ts";
import { checkGradients, chosenRecords, testRecord } from "./records_fixture.ts";

const records = await chosenRecords();
const device = await testDevice();

for (const each of records) testRecord(device, each);

// No GPU takes part: once is enough, on the first adapter under Node.
for (const { name, samples } of "Deno" in globalThis || process.env.WAVEGATE_ADAPTER ? [] : records)
  test(`the reference of ${name}() has the gradients that finite differences measure`, () => {
    for (const sample of samples) checkGradients(sample);
  });

test("every operator that src/ops/mod.ts exports has one record", async () => {
  const names = (await loadRecords()).map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const [name, op] of Object.entries(ops))
    if (typeof op === "function") assert.ok(names.includes(name), `${name}() has no record in src/records/`);
});

test("every record has samples and a bench", async () => {
  for (const { name, samples, bench } of await loadRecords())
    assert.ok(samples.length > 0 && bench.length > 0, name);
});

test("selectRecords() finds operators by a part of their name, whatever its case", async () => {
  const all = await loadRecords();
  const found = (...words: string[]) => selectRecords(all, words).map(({ name }) => name);
  assert.deepEqual(found("layer_norm", "gelu"), ["gelu", "layerNorm"]);
  assert.deepEqual(found("LogSoft"), ["logSoftmax"]);
  assert.equal(found().length, all.length);
});

const tanh: OpSpec<object> = {
  name: "tanh",
  run: ({ x }) => activation(x, "tanh"),
  reference: ({ x }) => map(x, activations.tanh.f),
  samples: [{ inputs: { x: [3, 7] } }],
  bench: [],
};
const gap = async (spec: OpSpec<object>) =>
  (await checkSample(device, defineOp(spec).samples[0])).map(({ what, relL2 }) => [what, relL2 < 2e-6]);

test("checkSample() measures gradients by finite differences where a record gives none", async () => {
  assert.deepEqual(await gap(tanh), [
    ["y", true],
    ["the recorded y", true],
    ["the gradient of x", true],
  ]);
});

test("checkSample() finds a wrong result, a wrong backward and one that is not there", async () => {
  const wrong = await gap({ ...tanh, reference: ({ x }) => map(x, activations.gelu.f) });
  assert.deepEqual(
    wrong.map(([, right]) => right),
    [false, false, false],
  );
  const doubled = await gap({
    ...tanh,
    run: ({ x }) =>
      record("doubled", [x], ops.scale(x.reshaped([3, 7]), 2), [], (dy) => [ops.scale(dy, 2.001)]),
    reference: ({ x }) => map(x, (v) => 2 * v),
  });
  assert.deepEqual(
    doubled.map(([, right]) => right),
    [true, true, false],
  );
  const frozen = () => ops.full(device, [3, 7], 0);
  await assert.rejects(gap({ ...tanh, run: frozen, reference: ({ x }) => map(x, () => 0) }), {
    message: "Cannot trust tanh() of x (3, 7): x has no gradient",
  });
});

test("checkSample() refuses a result of another shape, and bytes that stay alive", async () => {
  await assert.rejects(gap({ ...tanh, run: ({ x }) => ops.reshape(x, [21]) }), {
    message: "Cannot trust tanh() of x (3, 7): its shape is (21), not (3, 7)",
  });
  await assert.rejects(gap({ ...tanh, run: ({ x }) => ops.tanh(x.keep()) }), {
    message: /^Cannot trust tanh\(\) of x \(3, 7\): \d+ bytes are left alive in the pool$/,
  });
});

test("checkGradients() finds a record's gradients wrong that are not those of its reference", () => {
  const slopes: OpSpec<object> = {
    ...tanh,
    gradients: ({ x }, _, dy) => ({ x: x.data.map((v, i) => activations.tanh.slope(v) * dy[i]) }),
  };
  checkGradients(defineOp(slopes).samples[0]);
  const wrong: OpSpec<object> = { ...tanh, gradients: ({ x }) => ({ x: x.data }) };
  assert.throws(() => checkGradients(defineOp(wrong).samples[0]), {
    message: /^tanh\(\) of x \(3, 7\): the gradient of x says .* in direction 0, differences say /,
  });
});

test("a sample too large for finite differences asks for gradients", async () => {
  await assert.rejects(gap({ ...tanh, samples: [{ inputs: { x: [4097] } }] }), {
    message:
      "Cannot differentiate tanh() of x (4097) numerically: it has 4097 elements, at most 4096 are possible; give its record gradients",
  });
});

test("a sample's inputs keep clear of the record's kinks, and are the same each time", () => {
  const [{ inputs }] = defineOp({
    ...tanh,
    kinks: { x: [0, 1] },
    samples: [{ inputs: { x: { shape: [1000], fill: (v) => 0.1 * v } } }],
  }).samples;
  const data = [...(inputs().get("x")?.data ?? [])];
  assert.equal(data.length, 1000);
  assert.ok(data.every((v) => Math.abs(v) > 0.0199 && Math.abs(v - 1) > 0.0199));
  assert.ok(data.some((v) => v < 0) && data.some((v) => v > 0));
  assert.deepEqual([...(inputs().get("x")?.data ?? [])], data);
});

test("StoredInputs refuses attributes and inputs that a case should have and has not", () => {
  const x = ops.full(device, [2], 1);
  const attributes = { eps: "small", groups: 2, reduction: "total", class_weight: "w", zero_infinity: 1 };
  const stored = new StoredInputs(device, "a_case", attributes, new Map([["x", x]]), new Map());
  assert.equal(stored.tensor("x"), x);
  assert.deepEqual([stored.number("groups"), stored.number("dilation", 3)], [2, 3]);
  assert.deepEqual(
    [stored.optional("y"), stored.named("none"), stored.flag("none")],
    [undefined, undefined, false],
  );
  assert.equal(stored.choice("approximate", ["none", "tanh"], "none"), "none");
  const a = "Cannot use the attributes of a_case";
  for (const [read, message] of [
    [() => stored.number("stride"), `${a}: it lacks the key stride, a finite number`],
    [() => stored.number("eps", 1), `${a}: eps is "small" but should be a finite number`],
    [
      () => stored.choice("reduction", ["mean", "sum"], "mean"),
      `${a}: reduction is "total" but should be one of mean, sum`,
    ],
    [() => stored.flag("zero_infinity"), `${a}: zero_infinity is 1 but should be true or false`],
    [() => stored.named("class_weight"), "Cannot run a_case: it has no input w"],
    [() => stored.integers("ids"), "Cannot run a_case: it has no input ids"],
  ] as const)
    assert.throws(read, { message });
  x.release();
});

test("a sample's title says what it is", () => {
  const [{ title }] = defineOp<{ rate: number; deep: boolean; list: number[] }>({
    ...{ name: "tanh", reference: tanh.reference, bench: [] },
    run: ({ x }) => x,
    samples: [
      { inputs: { x: [2], mask: undefined }, args: { rate: 0.5, deep: true, list: [1] }, name: "a case" },
    ],
  }).samples;
  assert.equal(title, "tanh() of x (2); rate 0.5, deep; a case");
});

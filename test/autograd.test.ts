/** vjp() and valueAndGrad(): the gradients that they give, and what they refuse. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { add, full, mul, reshape, scale } from "../src/ops/elementwise.ts";
import { sum } from "../src/ops/reduce.ts";
import { valueAndGrad, vjp } from "../src/tensor/autograd.ts";
import { scope } from "../src/tensor/scope.ts";
import { isRecording, record } from "../src/tensor/tape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { bare, cutBy, gradients } from "./tape_fixture.ts";

const device = await testDevice();
const live = () => device.pool.statistics.live;
const filled = (value: number, on = device) => full(on, [3], value);

test("vjp() adds up the gradients of a tensor that is used more than once", async () => {
  const before = live();
  const [x, w] = [filled(5), filled(7)];
  // 2x·w + x + x·x:  d/dx = 2w + 1 + 2x,  d/dw = 2x
  const got = await gradients([x, w], () => add(add(mul(scale(x, 2), w), x), mul(x, x)));
  assert.deepEqual(got, [25, 10]);
  for (const t of [x, w]) t.release();
  assert.equal(live(), before);
});

test("vjp() gives the cotangent itself where the output is an input or a plain sum, and leaks neither", async () => {
  const before = live();
  const [x, w] = [filled(5), filled(7)];
  assert.deepEqual(await gradients([x], () => x), [1]);
  assert.deepEqual(await gradients([x, w], () => add(x, w)), [1, 1]);
  for (const t of [x, w]) t.release();
  assert.equal(live(), before);
});

test("vjp() leaves out an input that no output depends on", async () => {
  const [x, w] = [filled(5), filled(7)];
  assert.deepEqual(await gradients([x, w], () => scale(x, 4)), [4, undefined]);
  for (const t of [x, w]) t.release();
});

test("vjp() sums over several outputs", async () => {
  const x = filled(5);
  const { gradients: found } = scope(device, () =>
    vjp(device, [x], () => ({
      outputs: [scale(x, 2), scale(x, 3)],
      cotangents: [filled(1), filled(10)],
    })),
  );
  assert.equal((await found.get(x)?.read())?.[0], 32);
});

test("vjp() refuses a backward that gives no gradient, or one of another shape", async () => {
  const x = filled(1);
  const before = live();
  const op = (given: () => Tensor | undefined) => record("odd", [x], scale(x, 1), [], () => [given()]);
  await assert.rejects(
    gradients([x], () => op(() => undefined)),
    {
      message: "Cannot differentiate odd: it gave no gradient for input 0 of shape (3)",
    },
  );
  await assert.rejects(
    gradients([x], () => op(() => full(device, [4], 1))),
    {
      message: "Cannot differentiate odd: the gradient of input 0 is (4) but should be (3)",
    },
  );
  assert.equal(live(), before);
  x.release();
});

test("vjp() refuses a cotangent of another shape or one too few, a Promise, and a tape inside a tape", () => {
  const before = live();
  scope(device, () => {
    const x = filled(1);
    const none = { outputs: [], cotangents: [] };
    assert.throws(() => vjp(device, [x], () => ({ outputs: [x], cotangents: [full(device, [4], 1)] })), {
      name: "TypeError",
      message: "Cannot run vjp: cotangent 0 is (4) but should be (3)",
    });
    assert.throws(() => vjp(device, [x], () => ({ outputs: [x, x], cotangents: [filled(1)] })), {
      name: "TypeError",
      message: "Cannot run vjp: the outputs are 2 and the cotangents 1, expected one for each",
    });
    assert.throws(() => vjp(device, [x], (async () => none) as never), {
      name: "TypeError",
      message: "Cannot run vjp: its body returned a Promise, but must be synchronous",
    });
    const nested = () => vjp(device, [x], () => vjp(device, [x], () => none) as never);
    assert.throws(nested, { message: "Cannot run vjp: a tape is running on this device already" });
    assert.ok(!isRecording(device));
  });
  assert.equal(live(), before);
});

test("vjp() on two devices at once keeps their tapes apart", async () => {
  const other = await testDevice();
  const [x, w] = [filled(2), filled(3, other)];
  const inner: { found?: Promise<(number | undefined)[]> } = {};
  const outer = await gradients([x], () => {
    inner.found = gradients([w], () => mul(w, w));
    return scale(x, 4);
  });
  assert.deepEqual([outer, await inner.found], [[4], [6]]);
  assert.throws(() => add(x, w), { message: "Cannot run elementwise.add: b lives on another device" });
  other.dispose();
  assert.deepEqual(await gradients([x], () => scale(x, 5)), [5], "one device outlives the other");
  x.release();
});

test("valueAndGrad() gives a scalar loss and its gradients by tensor and by parameter, and what is beside the loss", async () => {
  const before = live();
  const [x, w, unused] = [filled(5), filled(7), filled(1)];
  const parameter = { value: w };
  const plain = scope(device, () =>
    valueAndGrad(device, [x, parameter, unused], () => sum(mul(mul(x, x), w))),
  );
  assert.deepEqual(await plain.value.read(), Float32Array.of(3 * 25 * 7));
  assert.deepEqual([...plain.gradients.keys()], [x, parameter]);
  assert.deepEqual(await plain.gradients.get(x)?.read(), new Float32Array(3).fill(70));
  assert.deepEqual(await plain.gradients.get(parameter)?.read(), new Float32Array(3).fill(25));
  assert.equal(plain.gradients.get(unused), undefined);
  const scaled = scope(device, () =>
    valueAndGrad(
      device,
      [parameter],
      () => {
        const product = mul(x, w);
        return { loss: sum(product), parts: { product, all: [scale(product, 2)] } };
      },
      { lossScale: 0.5 },
    ),
  );
  const { product, all } = scaled.aux.parts;
  assert.deepEqual(await scaled.value.read(), Float32Array.of(105), "the loss is not scaled");
  assert.deepEqual(await scaled.gradients.get(parameter)?.read(), new Float32Array(3).fill(2.5));
  assert.deepEqual(await product.read(), new Float32Array(3).fill(35));
  assert.deepEqual(await all[0].read(), new Float32Array(3).fill(70));
  for (const t of [plain.value, ...plain.gradients.values(), scaled.value, ...scaled.gradients.values()])
    t.release();
  for (const t of [product, ...all, x, w, unused]) t.release();
  assert.equal(live(), before);
});

test("valueAndGrad() gives the same gradient to a parameter and to its tensor", async () => {
  const before = live();
  const w = full(device, [], 3);
  const parameter = { value: w };
  const { value, gradients: found } = scope(device, () =>
    valueAndGrad(device, [w, parameter], () => mul(w, w)),
  );
  assert.equal(found.get(w), found.get(parameter));
  assert.deepEqual(await found.get(w)?.read(), Float32Array.of(6));
  for (const t of [value, w, ...new Set(found.values())]) t.release();
  assert.equal(live(), before);
});

test("valueAndGrad() refuses what is no scalar loss of its parameters", () => {
  const before = live();
  scope(device, () => {
    const [x, y] = [filled(1), filled(2)];
    const refused = (body: () => Tensor | { loss: Tensor }, name: string, message: string) =>
      assert.throws(() => valueAndGrad(device, [x], body as () => Tensor), { name, message });
    refused(
      () => scale(x, 2),
      "TypeError",
      "Cannot run valueAndGrad: the loss is (3) but should be (), a scalar; take its mean() or sum(), or use vjp()",
    );
    refused(
      () => ({ loss: reshape(sum(x), [1]) }),
      "TypeError",
      "Cannot run valueAndGrad: the loss is (1) but should be (), a scalar; take its mean() or sum(), or use vjp()",
    );
    refused(
      () => Tensor.from(device, Int32Array.of(1), []),
      "TypeError",
      "Cannot run valueAndGrad: the loss is i32 but should be f32",
    );
    refused(
      () => ({ value: sum(x) }) as never,
      "TypeError",
      "Cannot run valueAndGrad: its body returned no loss, expected a tensor of shape ()",
    );
    refused(
      () => undefined as never,
      "TypeError",
      "Cannot run valueAndGrad: its body returned no loss, expected a tensor of shape ()",
    );
    refused(
      (async () => sum(x)) as never,
      "TypeError",
      "Cannot run valueAndGrad: its body returned a Promise, but must be synchronous",
    );
    refused(() => sum(y), "Error", "Cannot run valueAndGrad: the loss depends on none of the parameters");
    refused(() => bare(sum(x)), "Error", cutBy("elementwise.scale", "()").message);
    assert.throws(() => valueAndGrad(device, [x], () => sum(x), { lossScale: Number.NaN }), {
      name: "RangeError",
      message: "Cannot run valueAndGrad: lossScale is NaN but should be finite",
    });
    assert.ok(!isRecording(device));
  });
  assert.equal(live(), before);
});

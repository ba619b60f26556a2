import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { attentionProbabilities, logSoftmax, type SoftmaxOptions, softmax } from "../src/ops/softmax.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Shape } from "../src/tensor/shape.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { checkGradients } from "./gradcheck.ts";
import {
  normal,
  logSoftmax as plainLogSoftmax,
  softmax as plainSoftmax,
  referenceCases,
  relativeL2,
} from "./reference.ts";

const device = await openDevice(await currentHost());
after(() => device.dispose());

/** Output of `op`, and the gradient of Σ out·cotangent. */
async function run(op: (x: Tensor) => Tensor, data: Float32Array, shape: Shape, cotangent: Float32Array) {
  const { out, gradient } = scope(device, () => {
    const x = Tensor.from(device, data, shape);
    const {
      outputs: [loss],
      gradients,
    } = vjp(device, [x], () => {
      const out = op(x);
      return { outputs: [out], cotangents: [Tensor.from(device, cotangent, out.shape)] };
    });
    return { out: loss, gradient: gradients.get(x) as Tensor };
  });
  const result = { out: await out.read(), gradient: await gradient.read() };
  out.release();
  gradient.release();
  return result;
}

for (const c of await referenceCases("softmax.safetensors")) {
  test(`softmax() agrees with PyTorch in float64: ${c.case}`, async () => {
    const shape = c.shape("x");
    const options: SoftmaxOptions = {
      fill: c.case.includes("finfo_min") ? "finfo.min" : "-inf",
      log: c.case.startsWith("log_"),
    };
    const mask = c.has("mask") ? Tensor.from(device, Uint32Array.from(c.values("mask")), shape) : undefined;
    const { out, gradient } = await run(
      (x) => softmax(x, { ...options, mask }),
      Float32Array.from(c.values("x")),
      shape,
      Float32Array.from(c.values("cot.out")),
    );
    mask?.release();
    const distance = {
      out: relativeL2(out, c.values("out64")),
      gradient: relativeL2(gradient, c.values("grad.x64")),
    };
    assert.ok(distance.out <= 1e-6, `the output is ${distance.out} off`);
    assert.ok(distance.gradient <= 2e-6, `the gradient is ${distance.gradient} off`);
  });
}

for (const C of [1, 7, 8, 65, 1023]) {
  test(`softmax() of rows of ${C} agrees with float64 loops, and so does its log`, async () => {
    const N = 5;
    const data = normal(N * C, C, 4);
    const rows = Array.from({ length: N }, (_, n) => data.subarray(n * C, (n + 1) * C));
    const x = Tensor.from(device, data, [N, C]);
    const [p, logP] = scope(device, () => [softmax(x), logSoftmax(x)]);
    assert.ok(relativeL2(await p.read(), rows.flatMap(plainSoftmax)) < 1e-6);
    assert.ok(relativeL2(await logP.read(), rows.flatMap(plainLogSoftmax)) < 1e-6);
    for (const t of [x, p, logP]) t.release();
  });
}

test("softmax() gradient agrees with finite differences, plain, in logs and masked", async () => {
  const mask = Tensor.from(
    device,
    Uint32Array.from({ length: 4 * 19 }, (_, i) => (i % 3 === 1 ? 1 : 0)),
    [4, 19],
  );
  await checkGradients(device, (x) => softmax(x), [[3, 4, 19]]);
  await checkGradients(device, logSoftmax, [[3, 4, 19]]);
  await checkGradients(device, (x) => softmax(x, { mask }), [[3, 4, 19]]);
  await checkGradients(device, (x) => softmax(x, { mask, fill: "finfo.min" }), [[3, 4, 19]]);
  mask.release();
});

test("softmax() of a row masked wholly is NaN without a gradient for -inf, uniform for finfo.min", async () => {
  const mask = Tensor.from(device, Uint32Array.of(1, 1, 1, 0, 1, 0), [2, 3]);
  const data = Float32Array.of(1, 2, 3, 0, 5, 0);
  const cotangent = Float32Array.of(1, 2, 4, 1, 1, 3);
  const blocked = await run((x) => softmax(x, { mask }), data, [2, 3], cotangent);
  assert.deepEqual([...blocked.out], [Number.NaN, Number.NaN, Number.NaN, 0.5, 0, 0.5]);
  assert.ok(relativeL2(blocked.gradient, [0, 0, 0, -0.5, 0, 0.5]) < 1e-7);
  const added = await run((x) => softmax(x, { mask, fill: "finfo.min" }), data, [2, 3], cotangent);
  assert.ok(relativeL2(added.out, [1 / 3, 1 / 3, 1 / 3, 0.5, 0, 0.5]) < 1e-7);
  mask.release();
});

test("softmax() in logs gives -inf where the mask does, and lets no gradient through there", async () => {
  const mask = Tensor.from(device, Uint32Array.of(0, 1, 0), [3]);
  const { out, gradient } = await run(
    (x) => softmax(x, { mask, log: true }),
    Float32Array.of(1, 9, 1),
    [1, 3],
    Float32Array.of(1, 0, 3),
  );
  assert.equal(out[1], Number.NEGATIVE_INFINITY);
  assert.ok(relativeL2([out[0], out[2]], [Math.log(0.5), Math.log(0.5)]) < 1e-6);
  assert.ok(relativeL2(gradient, [-1, 0, 1]) < 1e-6);
  mask.release();
});

test("attentionProbabilities() excludes masked keys and is uniform where none is kept", async () => {
  const [B, H, Tq, Tk] = [3, 2, 5, 11];
  const keep = Uint32Array.from({ length: B * Tk }, (_, i) => (i < Tk || (i < 2 * Tk && i % Tk < 4) ? 1 : 0));
  const keyMask = Tensor.from(device, keep, [B, Tk]);
  const data = normal(B * H * Tq * Tk, 3, 2);
  const want = Array.from({ length: B * H * Tq }, (_, n) => {
    const b = Math.floor(n / (H * Tq));
    // After adding the lowest f32 every score of the third sample is the same.
    return plainSoftmax(
      Array.from({ length: Tk }, (_, c) =>
        b === 2 ? 0 : keep[b * Tk + c] ? 0.3 * data[n * Tk + c] : -Infinity,
      ),
    );
  }).flat();
  const scores = Tensor.from(device, data, [B, H, Tq, Tk]);
  const got = scope(device, () => attentionProbabilities(scores, keyMask, 0.3));
  assert.ok(relativeL2(await got.read(), want) < 1e-6);
  for (const t of [scores, got]) t.release();
  const two = Tensor.from(device, keep.slice(0, 2 * Tk), [2, Tk]);
  await checkGradients(device, (x) => attentionProbabilities(x, two, 0.3), [[2, H, Tq, Tk]]);
  await checkGradients(device, (x) => attentionProbabilities(x, undefined, 0.3), [[2, H, Tq, Tk]]);
  for (const t of [keyMask, two]) t.release();
});

test("softmax() refuses a mask of another shape or type", () => {
  scope(device, () => {
    const x = Tensor.empty(device, [2, 3, 4]);
    const message = /^Cannot run softmax: mask is \(2, 4\) but should have the last axes of x \(2, 3, 4\)$/;
    assert.throws(() => softmax(x, { mask: Tensor.empty(device, [2, 4], "u32") }), {
      name: "TypeError",
      message,
    });
    assert.throws(() => softmax(x, { mask: Tensor.empty(device, [3, 4]) }), {
      name: "TypeError",
      message: /the mask is f32, expected u32$/,
    });
  });
});

test("softmax() holds nothing once its results are released", () => {
  assert.equal(device.pool.statistics.live, 0);
});

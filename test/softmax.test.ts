import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { cast } from "../src/ops/convert.ts";
import { type SoftmaxOptions, softmax } from "../src/ops/softmax.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Shape } from "../src/tensor/shape.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { referenceCases, relativeL2 } from "./reference.ts";

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

for (const path of ["portable", "cpu"] as const)
  for (const dtype of ["f32", "f16"] as const)
    test(`softmax() of rows masked wholly or in part, ${dtype} by path ${path}`, async (t) => {
      const other = await openDevice(await currentHost(), { path });
      after(() => other.dispose());
      if (dtype === "f16" && !other.info.f16) return t.skip(`${other.info.name} has no f16`);
      for (const C of [4, 5]) {
        const rows = [Array(C).fill(1), Array.from({ length: C }, (_, c) => (c === 1 ? 1 : 0))];
        const open = 1 / (C - 1);
        const got = async (options: SoftmaxOptions) => {
          const { out, gradient } = scope(other, () => {
            const x = cast(Tensor.from(other, new Float32Array(2 * C).fill(3), [2, C]), dtype);
            const mask = Tensor.from(other, Uint32Array.from(rows.flat()), [2, C]);
            const dy = cast(
              Tensor.from(
                other,
                Float32Array.from({ length: 2 * C }, (_, i) => i),
                [2, C],
              ),
              dtype,
            );
            const { outputs, gradients } = vjp(other, [x], () => ({
              outputs: [softmax(x, { ...options, mask })],
              cotangents: [dy],
            }));
            return { out: cast(outputs[0], "f32"), gradient: cast(gradients.get(x) as Tensor, "f32") };
          });
          const read = { out: [...(await out.read())], gradient: [...(await gradient.read())] };
          out.release();
          gradient.release();
          return read;
        };
        const blocked = await got({});
        assert.ok(blocked.out.slice(0, C).every(Number.isNaN));
        assert.deepEqual(blocked.gradient.slice(0, C), Array(C).fill(0));
        assert.ok(
          relativeL2(
            blocked.out.slice(C),
            rows[1].map((gone) => (gone ? 0 : open)),
          ) < 1e-3,
        );
        const logs = await got({ log: true });
        assert.ok(logs.out.slice(0, C).every(Number.isNaN));
        assert.equal(logs.out[C + 1], Number.NEGATIVE_INFINITY);
        assert.equal(logs.gradient[C + 1], 0);
        const added = await got({ fill: "finfo.min" });
        assert.ok(relativeL2(added.out.slice(0, C), Array(C).fill(1 / C)) < 1e-3);
        const lowest = dtype === "f16" ? -65504 : -3.4028234663852886e38;
        assert.equal((await got({ fill: "finfo.min", log: true })).out[C + 1], lowest);
      }
      assert.equal(other.pool.statistics.live, 0);
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
      message: /mask is f32 but should be u32$/,
    });
  });
});

test("softmax() holds nothing once its results are released", () => {
  assert.equal(device.pool.statistics.live, 0);
});

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { openDevice } from "../src/gpu/device.ts";
import { currentHost } from "../src/host/current.ts";
import { type CrossEntropyOptions, crossEntropy } from "../src/ops/cross_entropy.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { normal, referenceCases, relativeL2 } from "./reference.ts";

const device = await openDevice(await currentHost());
after(() => device.dispose());

/** Loss and gradient on the GPU; `cotangent` weighs the losses of reduction "none". */
async function run(
  logits: Float32Array,
  targets: readonly number[],
  options: CrossEntropyOptions,
  cotangent = Float32Array.of(1),
) {
  const { loss, gradient } = scope(device, () => {
    const x = Tensor.from(device, logits, [targets.length, logits.length / targets.length]);
    const {
      outputs: [loss],
      gradients,
    } = vjp(device, [x], () => {
      const loss = crossEntropy(x, targets, options);
      return { outputs: [loss], cotangents: [Tensor.from(device, cotangent, loss.shape)] };
    });
    return { loss, gradient: gradients.get(x) as Tensor };
  });
  const result = { loss: await loss.read(), gradient: await gradient.read() };
  loss.release();
  gradient.release();
  return result;
}

for (const c of await referenceCases("cross_entropy.safetensors")) {
  test(`crossEntropy() agrees with PyTorch in float64: ${c.case}`, async () => {
    const weight = c.has("w")
      ? Tensor.from(device, Float32Array.from(c.values("w")), c.shape("w"))
      : undefined;
    const reduction = (c.attrs.reduction ?? "mean") as "mean";
    const options = {
      weight,
      reduction,
      labelSmoothing: c.attrs.label_smoothing as number | undefined,
      ignoreIndex: c.attrs.ignore_index as number | undefined,
    };
    const cotangent = c.has("cot.out") ? Float32Array.from(c.values("cot.out")) : undefined;
    const { loss, gradient } = await run(
      Float32Array.from(c.values("x")),
      [...c.values("t")],
      options,
      cotangent,
    );
    weight?.release();
    const distance = {
      loss: relativeL2(loss, c.values("out64")),
      gradient: relativeL2(gradient, c.values("grad.x64")),
    };
    assert.ok(distance.loss <= 1e-6, `the loss is ${distance.loss} off`);
    assert.ok(distance.gradient <= 1e-6, `the gradient is ${distance.gradient} off`);
  });
}

test("crossEntropy() takes targets from the GPU, and gives NaN where one is out of range", async () => {
  const x = Tensor.from(device, normal(8, 1), [2, 4]);
  const good = Tensor.from(device, Int32Array.of(3, 1), [2]);
  const bad = Tensor.from(device, Int32Array.of(3, 4), [2]);
  const losses = scope(device, () => [
    crossEntropy(x, good),
    crossEntropy(x, [3, 1]),
    crossEntropy(x, bad),
    crossEntropy(x, bad, { reduction: "none" }),
  ]);
  const [fromGpu, fromCpu, broken, each] = await Promise.all(losses.map((t) => t.read()));
  assert.deepEqual(fromGpu, fromCpu);
  assert.ok(Number.isNaN(broken[0]) && Number.isNaN(each[1]) && Number.isFinite(each[0]));
  for (const t of [x, good, bad, ...losses]) t.release();
});

test("crossEntropy() is infinite where a finite row's loss is, and its gradient is not", async () => {
  const logits = Float32Array.of(0, 3.4e38, -3.4e38, 1, 2, 3);
  for (const reduction of ["mean", "sum"] as const) {
    const { loss, gradient } = await run(logits, [2, 0], { reduction }, Float32Array.of(1));
    assert.equal(loss[0], Number.POSITIVE_INFINITY);
    const share = reduction === "mean" ? 0.5 : 1;
    assert.deepEqual([...gradient.subarray(0, 3)], [0, share, -share]);
  }
});

test("crossEntropy() refuses targets out of range and shapes that do not fit", () => {
  scope(device, () => {
    const x = Tensor.empty(device, [2, 4]);
    assert.throws(() => crossEntropy(x, [0, 4]), {
      name: "RangeError",
      message: "Cannot run crossEntropy: target 1 is 4, expected a class from 0 to 3 or -100",
    });
    assert.throws(() => crossEntropy(x, [0]), {
      name: "TypeError",
      message: "Cannot run crossEntropy: targets is (1) but should be (2)",
    });
    assert.throws(() => crossEntropy(x, [0, 1], { weight: Tensor.empty(device, [3]) }), {
      name: "TypeError",
      message: /weight is \(3\) but should be \(4\)$/,
    });
    assert.throws(() => crossEntropy(x, [0, 1], { labelSmoothing: 2 }), {
      name: "RangeError",
      message: /labelSmoothing is 2, expected 0 to 1$/,
    });
  });
});

test("crossEntropy() holds nothing once its results are released", () => {
  assert.equal(device.pool.statistics.live, 0);
});

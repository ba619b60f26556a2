import assert from "node:assert/strict";
import { test } from "node:test";
import { full } from "../src/ops/elementwise.ts";
import { gemm } from "../src/ops/matmul.ts";
import { linear, matmul } from "../src/ops/matmul.ts";
import { product } from "../src/records/float64.ts";
import { scope } from "../src/tensor/scope.ts";
import { vjp } from "../src/tensor/autograd.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

test("linear() refuses a residual after an activation where a gradient must pass", async () => {
  const inputs = [given([7, 20], 1), given([24, 20], 2), given([24], 3), given([7, 24], 4)];
  await assert.rejects(
    run(device, inputs, (x, w, b, residual) => linear(x, w, b, { activation: "gelu", residual })),
    { message: "Cannot run linear: a residual after an activation has no backward; add it apart" },
  );
});

test("gemm() adds no rows beyond K, whose places belong to the next product", async () => {
  const [M, N, K] = [8, 12, 5];
  const a = given([2, K, M], 1);
  const b = given([2, K, N], 2);
  b.data.fill(Number.NaN, K * N);
  const y = await forward(device, [a, b], (x, w) => {
    const out = Tensor.empty(device, [2, M, N]);
    gemm(out, x, w, {
      ...{ M, N, K, batch: 2, transA: true },
      a: { rowStride: M, batchStride: K * M },
      b: { rowStride: N, batchStride: K * N },
      y: { rowStride: N, batchStride: M * N },
    });
    return out;
  });
  const first = product(a.data.slice(0, K * M), b.data.slice(0, K * N), { M, N, K, transA: true });
  near(y.slice(0, M * N), first, 1e-6, "the first");
  assert.ok(y.slice(M * N).every(Number.isNaN));
});

test("gemm() adds to what the output holds if told to accumulate", async () => {
  const [a, b] = [given([3, 5], 1), given([7, 5], 2)];
  const y = await forward(device, [a, b], (x, w) => {
    const sum = full(device, [3, 7], 10);
    gemm(sum, x, w, {
      ...{ M: 3, N: 7, K: 5, transB: true, accumulate: true },
      ...{ a: { rowStride: 5 }, b: { rowStride: 5 }, y: { rowStride: 7 } },
    });
    return sum;
  });
  const plain = product(a.data, b.data, { M: 3, N: 7, K: 5, transB: true });
  near(
    y,
    plain.map((v) => v + 10),
    1e-6,
    "y",
  );
});

test("linear() gives the same bits every time", async () => {
  const inputs = [given([19, 101], 1), given([37, 101], 2)];
  const first = await run(device, inputs, (x, w) => linear(x, w));
  const second = await run(device, inputs, (x, w) => linear(x, w));
  assert.deepEqual(second, first);
});

test("linear() computes no gradient that nobody asked for", () => {
  scope(device, () => {
    const [x, w] = [given([2, 8], 1), given([4, 8], 2)].map((g) => Tensor.from(device, g.data, g.shape));
    const before = device.recorder.dispatches;
    const { gradients } = vjp(device, [w], () => {
      const y = linear(x, w);
      return { outputs: [y], cotangents: [full(device, y.shape, 1)] };
    });
    const turned = device.info.path === "subgroups" ? 1 : 0;
    assert.equal(device.recorder.dispatches - before, 3 + turned, "forward, cotangent, dw");
    assert.deepEqual([...gradients.keys()], [w]);
  });
});

test("linear() and matmul() say which shapes do not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => linear(of(2, 5), of(3, 4)), {
      name: "TypeError",
      message: "Cannot run linear: w is (3, 4) but the last axis of x (2, 5) is 5",
    });
    assert.throws(() => linear(of(2, 4), of(3, 4), of(4)), {
      message: "Cannot run linear: b is (4) but should be (3)",
    });
    assert.throws(() => linear(of(2, 4), of(3, 4), undefined, { residual: of(3, 2) }), {
      message: "Cannot run linear: residual is (3, 2) but should be (2, 3)",
    });
    assert.throws(() => matmul(of(2, 4), of(3, 4)), {
      message: "Cannot run matmul: a is (2, 4) and b is (3, 4), expected (…, M, K) and (…, K, N)",
    });
    assert.throws(() => matmul(of(4), of(4, 3)), {
      name: "TypeError",
      message: "Cannot run matmul: a is (4) and b is (4, 3), expected (…, M, K) and (…, K, N)",
    });
    assert.throws(() => matmul(of(2, 4), of(3, 4, 5)), {
      name: "TypeError",
      message: "Cannot run matmul: a is (2, 4) and b is (3, 4, 5), expected (…, M, K) and (…, K, N)",
    });
    assert.throws(() => matmul(of(2, 2, 4), of(3, 3, 4), { transB: true }), {
      message:
        "Cannot run matmul: a is (2, 2, 4) and b is (3, 3, 4) (transposed), expected (…, M, K) and (…, N, K)",
    });
  });
});

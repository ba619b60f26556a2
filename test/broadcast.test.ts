import assert from "node:assert/strict";
import { test } from "node:test";
import { broadcast, reduceTo } from "../src/ops/broadcast.ts";
import { add, div, mul, sub } from "../src/ops/elementwise.ts";
import { columnSums } from "../src/records/float64.ts";
import { scope } from "../src/tensor/scope.ts";
import type { Shape } from "../src/tensor/shape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { forward, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

type Binary = (a: Tensor, b: Tensor) => Tensor;
test("add(), sub(), mul() and div() refuse two numbers", () => {
  for (const op of [add, sub, mul, div])
    assert.throws(() => (op as (a: unknown, b: unknown) => Tensor)(1, 2), {
      name: "TypeError",
      message: `Cannot run ${op.name}: both operands are numbers, expected a tensor`,
    });
});

test("add() of a wide second operand repeats it over rows, where one dimension of workgroups is too short", async () => {
  const n = 65536 * 8 + 1;
  const data = Float32Array.from({ length: 2 * n }, (_, i) => i % 251);
  const [a, b] = [
    { shape: [2, n], data },
    { shape: [n], data: data.subarray(0, n) },
  ];
  const ran = await run(device, [a, b], (x, y) => add(x, y));
  const wrong = ran.y.findIndex((v, i) => v !== (i % 251) + ((i % n) % 251));
  assert.equal(wrong, -1, `at ${wrong}`);
  near(ran.gradients[1], columnSums(ran.dy, n), 1e-6, "the gradient of b");
});

test("the gradient of what is repeated has the same bits every time", async () => {
  const inputs = [given([5001, 7], 1), given([7], 2)];
  assert.deepEqual(await run(device, inputs, mul), await run(device, inputs, mul));
  const scalar = [given([50_001], 1), given([], 2)];
  assert.deepEqual(await run(device, scalar, mul), await run(device, scalar, mul));
});

test("broadcast() and reduceTo() are each other's transpose", async () => {
  const [x, g] = [given([3, 5], 1), given([4, 3, 5], 2)];
  const repeated = await forward(device, [x], (t) => {
    const zeros = Tensor.from(device, new Float32Array(60), [4, 3, 5]);
    return broadcast("add", "repeat", zeros, t);
  });
  const summed = await forward(device, [g], (t) => reduceTo(t, [3, 5]));
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((sum, v, i) => sum + v * b[i], 0);
  near([dot(repeated, g.data)], [dot(x.data, summed)], 1e-6, "the inner product");
});

test("add(), sub(), mul() and div() say which shapes and types do not fit", () => {
  scope(device, () => {
    const of = (shape: Shape, dtype: "f32" | "i32" = "f32") => Tensor.empty(device, shape, dtype);
    for (const op of [add, sub, mul, div] as Binary[]) {
      for (const [a, b] of [
        [[2, 3], [2]],
        [
          [2, 3],
          [1, 3],
        ],
        [[2, 3], [1]],
      ])
        assert.throws(() => op(of(a), of(b)), {
          name: "TypeError",
          message: `Cannot run ${op.name}: a is (${a.join(", ")}) but b is (${b.join(", ")}), expected one shape or the last axes of the other`,
        });
      assert.throws(() => op(of([2]), of([2], "i32")), {
        name: "TypeError",
        message: `Cannot run ${op.name}: b is i32 but should be f32`,
      });
    }
  });
});

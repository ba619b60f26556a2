import assert from "node:assert/strict";
import { test } from "node:test";
import { broadcast, reduceTo } from "../src/ops/broadcast.ts";
import { add, div, mul, sub } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { columnSums } from "./float64.ts";
import { checkGradients } from "./gradcheck.ts";
import { agree, forward, type Given, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

type Binary = (a: Tensor, b: Tensor) => Tensor;
/** Each with its value and its two slopes. */
const binaries: Record<string, [op: Binary, f: Slope, da: Slope, db: Slope]> = {
  add: [(a, b) => add(a, b, 0.5, -3), (a, b) => 0.5 * a - 3 * b, () => 0.5, () => -3],
  sub: [sub, (a, b) => a - b, () => 1, () => -1],
  mul: [mul, (a, b) => a * b, (_a, b) => b, (a) => a],
  div: [div, (a, b) => a / b, (_a, b) => 1 / b, (a, b) => -a / b ** 2],
};
type Slope = (a: number, b: number) => number;

/** Numbers far enough from 0 to be divided by. */
function away(shape: Shape, seed: number): Given {
  const { data } = given(shape, seed);
  return { shape, data: data.map((v) => v + Math.sign(v)) };
}

/** Sums over the repetitions of what has n elements. */
const folded = (x: ArrayLike<number>, n: number) => (n === 0 ? new Float64Array(0) : columnSums(x, n));

for (const [shapeA, shapeB] of [
  [[4, 8], [8]],
  [[3, 2, 5], [5]],
  [
    [3, 2, 5],
    [2, 5],
  ],
  [[1023], []],
  [[3, 1], [1]],
  [[701, 3], [3]],
  [[5, 6, 2], [2]],
  [[], [7]],
  [[3], [341, 3]],
  [[0, 4], [4]],
  [[2, 0], [0]],
  [[0], []],
] as [Shape, Shape][])
  for (const [name, [op, f, da, db]] of Object.entries(binaries))
    test(`${name}() of (${shapeA}) and (${shapeB}) agrees with float64`, async () => {
      const [a, b] = [away(shapeA, 1), away(shapeB, 2)];
      const ran = await run(device, [a, b], op);
      const shape = shapeA.length > shapeB.length ? shapeA : shapeB;
      assert.deepEqual(ran.shape, shape);
      const [nA, nB] = [sizeOf(shapeA), sizeOf(shapeB)];
      const at = (g: Slope, weights?: Float32Array) =>
        Float64Array.from(
          { length: sizeOf(shape) },
          (_, i) => g(a.data[i % nA], b.data[i % nB]) * (weights?.[i] ?? 1),
        );
      const gradients = [folded(at(da, ran.dy), nA), folded(at(db, ran.dy), nB)];
      agree(ran, { y: at(f), gradients }, 1e-6, 3e-6);
    });

for (const [name, [op]] of Object.entries(binaries))
  test(`${name}() of two shapes has the gradient that finite differences measure`, async () => {
    await checkGradients(device, op, [away([2, 3, 5], 3), away([3, 5], 4)], { step: 0.003 });
    await checkGradients(device, op, [away([], 5), away([7], 6)], { step: 0.003 });
  });

test("add(), sub(), mul() and div() take a number on either side", async () => {
  const x = away([1023], 1);
  for (const [op, f, slope] of [
    [(t: Tensor) => add(t, 2.5), (v: number) => v + 2.5, () => 1],
    [(t: Tensor) => add(2.5, t, 2, 3), (v: number) => 5 + 3 * v, () => 3],
    [(t: Tensor) => add(t, 2.5, 2, 3), (v: number) => 2 * v + 7.5, () => 2],
    [(t: Tensor) => sub(t, 2.5), (v: number) => v - 2.5, () => 1],
    [(t: Tensor) => sub(2.5, t), (v: number) => 2.5 - v, () => -1],
    [(t: Tensor) => mul(t, -3), (v: number) => -3 * v, () => -3],
    [(t: Tensor) => mul(-3, t), (v: number) => -3 * v, () => -3],
    [(t: Tensor) => div(t, -3), (v: number) => v / -3, () => 1 / -3],
    [(t: Tensor) => div(2, t), (v: number) => 2 / v, (v: number) => -2 / v ** 2],
  ] as [(t: Tensor) => Tensor, (v: number) => number, (v: number) => number][]) {
    const ran = await run(device, [x], op);
    const gradient = Float64Array.from(x.data, (v, i) => slope(v) * ran.dy[i]);
    agree(ran, { y: Float64Array.from(x.data, f), gradients: [gradient] }, 1e-6);
  }
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

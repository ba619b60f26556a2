import assert from "node:assert/strict";
import { test } from "node:test";
import { columnSum, dot, maskedMean, mean, rowSums, sum } from "../src/ops/reduce.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { columnSums } from "./float64.ts";
import { checkGradients } from "./gradcheck.ts";
import { agree, forward, given, near, run } from "./ops_fixture.ts";

const device = await testDevice();

for (const [rows, C] of [
  [1, 1],
  [7, 1023],
  [256, 9],
  [257, 9],
  [5001, 7],
]) {
  test(`columnSum() agrees with float64: ${rows} rows of ${C}`, async () => {
    const x = given([rows, C], 1);
    near(await forward(device, [x], columnSum), columnSums(x.data, C), 1e-6, "y");
  });
}

test("dot() agrees with float64, and has no gradient of its own", async () => {
  const [a, b] = [given([50_001], 1), given([50_001], 2)];
  const want = a.data.reduce((sum, v, i) => sum + v * b.data[i], 0);
  near(await forward(device, [a, b], dot), [want], 2e-6, "y");
  const message = "Cannot differentiate dot: its gradient is its other factor; start from that";
  await assert.rejects(run(device, [a, b], dot), { message });
});

for (const [op, average] of [
  [sum, false],
  [mean, true],
] as const)
  for (const shape of [[], [1], [7], [3, 5], [2, 3, 4097], [1, 4096], [300, 2], [4096 * 3 + 1]]) {
    const size = shape.reduce((n, side) => n * side, 1);
    const C = shape.at(-1) ?? 1;
    const total = (values: Float32Array) => values.reduce((s, v) => s + v, 0) / (average ? values.length : 1);

    test(`${op.name}() of (${shape}) agrees with float64`, async () => {
      const x = given(shape, 1);
      const ran = await run(device, [x], (t) => op(t));
      assert.deepEqual(ran.shape, []);
      const slope = ran.dy[0] / (average ? size : 1);
      const gradients = [new Float64Array(size).fill(slope)];
      agree(ran, { y: [total(x.data)], gradients }, 3e-6, 1e-7);
    });

    if (shape.length > 0)
      test(`${op.name}() of (${shape}) over the last axis agrees with float64`, async () => {
        const x = given(shape, 1);
        const ran = await run(device, [x], (t) => op(t, { axis: -1 }));
        assert.deepEqual(ran.shape, shape.slice(0, -1));
        const y = Float64Array.from(ran.dy, (_, n) => total(x.data.subarray(n * C, (n + 1) * C)));
        const gradient = Float64Array.from(x.data, (_, i) => ran.dy[Math.floor(i / C)] / (average ? C : 1));
        agree(ran, { y, gradients: [gradient] }, 3e-6, 1e-7);
      });
  }

test("sum() and mean() have the gradients that finite differences measure", async () => {
  for (const op of [sum, mean]) {
    await checkGradients(device, (x) => op(x), [[3, 5]]);
    await checkGradients(device, (x) => op(x, { axis: -1 }), [[2, 3, 5]]);
  }
});

test("sum() of 20 million values is as exact as that of few, and gives the same bits every time", async () => {
  const data = new Float32Array(20_000_003).fill(0.1);
  const x = Tensor.from(device, data, [data.length]);
  const bits = async (average: boolean) => {
    const y = average ? mean(x) : sum(x);
    const values = await y.read();
    y.release();
    return values;
  };
  near(await bits(false), [data[0] * data.length], 1e-6, "the sum");
  near(await bits(true), [data[0]], 1e-6, "the mean");
  assert.deepEqual(await bits(false), await bits(false));
  x.release();
});

test("sum() and mean() over more rows than one dimension has workgroups", async () => {
  const rows = 65536 + 7;
  const x = { shape: [rows, 2], data: Float32Array.from({ length: 2 * rows }, (_, i) => i % 1000) };
  const ran = await run(device, [x], (t) => sum(t, { axis: -1 }));
  const y = Float64Array.from({ length: rows }, (_, n) => x.data[2 * n] + x.data[2 * n + 1]);
  agree(ran, { y, gradients: [Float64Array.from(x.data, (_, i) => ran.dy[i >> 1])] }, 1e-7);
});

test("sum() of nothing is 0; mean() of nothing is refused", async () => {
  const empty = given([0, 3], 1);
  assert.deepEqual(await forward(device, [empty], (t) => sum(t)), Float32Array.of(0));
  assert.deepEqual(
    await forward(device, [given([2, 0], 1)], (t) => sum(t, { axis: -1 })),
    new Float32Array(2),
  );
  assert.equal((await forward(device, [empty], (t) => mean(t, { axis: -1 }))).length, 0);
  const ran = await run(device, [empty], (t) => sum(t));
  assert.equal(ran.gradients[0].length, 0);
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => mean(of(0, 3)), {
      name: "RangeError",
      message: "Cannot run mean: x is (0, 3), which leaves nothing to average",
    });
    assert.throws(() => mean(of(3, 0), { axis: -1 }), {
      name: "RangeError",
      message: "Cannot run mean: x is (3, 0), which leaves nothing to average",
    });
  });
});

test("sum() and mean() refuse an axis that is not the last, and integers", () => {
  scope(device, () => {
    const x = Tensor.empty(device, [2, 3]);
    assert.throws(() => sum(x, { axis: 0 as -1 }), {
      name: "RangeError",
      message: "Cannot run sum: axis is 0 but should be -1 or absent, for all",
    });
    assert.throws(() => mean(Tensor.empty(device, []), { axis: -1 }), {
      name: "TypeError",
      message: "Cannot run mean: x is (), which has no last axis",
    });
    assert.throws(() => mean(Tensor.empty(device, [2], "u32")), {
      name: "TypeError",
      message: "Cannot run mean: x is u32 but should be f32",
    });
  });
});

test("rowSums() divides once, however many passes it takes", async () => {
  const x = { shape: [2, 5000], data: new Float32Array(10_000).fill(3) };
  const y = await forward(device, [x], (t) => rowSums(t, 2, 5000, 5000));
  assert.deepEqual(y, Float32Array.of(3, 3));
});

/** As many frames count as `lengths` says, but every fifth is left out. */
const maskOf = (lengths: readonly number[], T: number) =>
  Uint32Array.from({ length: lengths.length * T }, (_, i) =>
    i % T < lengths[Math.floor(i / T)] && i % 5 !== 4 ? 1 : 0,
  );

for (const [T, C, lengths] of [
  [1, 1, [1]],
  [7, 5, [7, 3, 0]],
  [1023, 3, [1023, 17]],
  [149, 64, [149, 148, 1]],
] as const) {
  test(`maskedMean() agrees with float64: ${lengths.join(", ")} of ${T} frames, width ${C}`, async () => {
    const B = lengths.length;
    const mask = maskOf(lengths, T);
    const x = given([B, T, C], 1);
    const ran = await run(device, [x], (t) => maskedMean(t, Tensor.from(device, mask, [B, T])));
    assert.deepEqual(ran.shape, [B, C]);
    const y = new Float64Array(B * C);
    const dx = new Float64Array(x.data.length);
    for (let b = 0; b < B; b++) {
      const count = mask.subarray(b * T, (b + 1) * T).reduce((n, m) => n + m, 0);
      for (let i = 0; i < T * C; i++) {
        if (!mask[b * T + Math.floor(i / C)]) continue;
        y[b * C + (i % C)] += x.data[b * T * C + i] / count;
        dx[b * T * C + i] = ran.dy[b * C + (i % C)] / count;
      }
    }
    agree(ran, { y, gradients: [dx] });
  });
}

test("maskedMean() never looks at a padded frame, whatever stands there", async () => {
  const x = { shape: [1, 3, 2], data: Float32Array.of(1, 2, Number.NaN, Infinity, 3, 6) };
  const y = await forward(device, [x], (t) =>
    maskedMean(t, Tensor.from(device, Uint32Array.of(1, 0, 1), [1, 3])),
  );
  assert.deepEqual([...y], [2, 4]);
});

test("maskedMean() says which mask does not fit", () => {
  scope(device, () => {
    assert.throws(() => maskedMean(Tensor.empty(device, [2, 3, 4]), Tensor.empty(device, [2, 4], "u32")), {
      name: "TypeError",
      message: "Cannot run maskedMean: mask is (2, 4) but should be (2, 3)",
    });
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, maskRows, slice, transpose } from "../src/ops/frames.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { columnSums } from "./float64.ts";
import { agree, given, run } from "./ops_fixture.ts";

const device = await testDevice();

for (const [N, C] of [
  [1, 1],
  [7, 3],
  [1023, 5],
]) {
  const keep = Uint32Array.from({ length: N }, (_, n) => (n % 3 === 1 ? 0 : 1));
  const kept = (i: number) => keep[Math.floor(i / C)] === 1;

  test(`maskRows() zeroes or fills the other rows: ${N} of ${C}`, async () => {
    const [x, fill] = [given([N, C], 1), given([C], 2)];
    const mask = () => Tensor.from(device, keep, [N]);
    const zeroed = await run(device, [x], (t) => maskRows(t, mask()));
    agree(
      zeroed,
      {
        y: x.data.map((v, i) => (kept(i) ? v : 0)),
        gradients: [zeroed.dy.map((v, i) => (kept(i) ? v : 0))],
      },
      0,
    );
    const filled = await run(device, [x, fill], (t, f) => maskRows(t, mask(), f));
    const rejected = filled.dy.map((v, i) => (kept(i) ? 0 : v));
    agree(
      filled,
      {
        y: x.data.map((v, i) => (kept(i) ? v : fill.data[i % C])),
        gradients: [filled.dy.map((v, i) => (kept(i) ? v : 0)), columnSums(rejected, C)],
      },
      0,
      1e-6,
    );
  });

  test(`concat() sets parts side by side, slice() takes them out: ${N} rows`, async () => {
    const widths = [C, 1, 2 * C];
    const parts = widths.map((w, i) => given([N, w], i));
    const W = 3 * C + 1;
    const starts = [0, C, C + 1];
    const columns = (x: Float32Array, i: number) =>
      x.filter((_, at) => at % W >= starts[i] && at % W < starts[i] + widths[i]);
    const ran = await run(device, parts, (...t) => concat(t));
    assert.deepEqual(ran.shape, [N, W]);
    for (const [i, part] of parts.entries()) {
      assert.deepEqual(columns(ran.y, i), part.data);
      assert.deepEqual(ran.gradients[i], columns(ran.dy, i));
      const cut = await run(device, [{ shape: [N, W], data: ran.y }], (t) => slice(t, starts[i], widths[i]));
      assert.deepEqual(cut.y, part.data);
      const dx = ran.y.map((_, at) => {
        const c = (at % W) - starts[i];
        return c >= 0 && c < widths[i] ? cut.dy[Math.floor(at / W) * widths[i] + c] : 0;
      });
      assert.deepEqual(cut.gradients[0], dx);
    }
  });
}

for (const [B, R, C] of [
  [1, 1, 1],
  [3, 7, 5],
  [2, 1023, 3],
]) {
  test(`transpose() exchanges the last two axes: (${B}, ${R}, ${C})`, async () => {
    const x = given([B, R, C], 1);
    const ran = await run(device, [x], transpose);
    assert.deepEqual(ran.shape, [B, C, R]);
    const turned = (from: Float32Array, rows: number, width: number) =>
      from.map((_, i) => {
        const [b, c, r] = [Math.floor(i / (rows * width)), Math.floor(i / rows) % width, i % rows];
        return from[(b * rows + r) * width + c];
      });
    agree(ran, { y: turned(x.data, R, C), gradients: [turned(ran.dy, C, R)] }, 0);
  });
}

test("slice() of all columns is the tensor, with its gradient", async () => {
  const ran = await run(device, [given([3, 4], 1)], (t) => slice(t, 0, 4));
  assert.deepEqual(ran.gradients[0], ran.dy);
});

test("maskRows() drops what is no number", async () => {
  const x = { shape: [2, 2], data: Float32Array.of(Number.NaN, Infinity, 1, 2) };
  const ran = await run(device, [x], (t) => maskRows(t, Tensor.from(device, Uint32Array.of(0, 1), [2])));
  assert.deepEqual([...ran.y], [0, 0, 1, 2]);
});

test("maskRows(), concat() and slice() say what does not fit", () => {
  scope(device, () => {
    const of = (...shape: number[]) => Tensor.empty(device, shape);
    assert.throws(() => maskRows(of(2, 3), of(3)), {
      name: "TypeError",
      message: "Cannot run maskRows: keep is (3) but should be (2)",
    });
    assert.throws(() => concat([of(2, 3), of(3, 3)]), {
      message: "Cannot run concat: (3, 3) stands beside (2, 3)",
    });
    assert.throws(() => slice(of(2, 3), 1, 3), {
      name: "RangeError",
      message: "Cannot run slice: columns 1 to 4 of (2, 3)",
    });
  });
});

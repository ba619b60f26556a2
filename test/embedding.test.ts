import assert from "node:assert/strict";
import { test } from "node:test";
import { f16ToF32, f32ToF16 } from "../src/io/dtype.ts";
import { convert } from "../src/ops/convert.ts";
import { embedding } from "../src/ops/embedding.ts";
import { scope } from "../src/tensor/scope.ts";
import { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";
import { agree, forward, given, run } from "./ops_fixture.ts";
import { uniform } from "./reference.ts";

const device = await testDevice();

/** Rows of w by id, plus `plus`; the gradient adds up where an id repeats, and leaves out `skip`. */
function reference(
  w: Float32Array,
  ids: readonly number[],
  C: number,
  dy: Float32Array,
  plus?: Float32Array,
  skip = -1,
) {
  const y = new Float64Array(ids.length * C);
  const dw = new Float64Array(w.length);
  ids.forEach((id, n) => {
    for (let c = 0; c < C; c++) {
      y[n * C + c] = w[id * C + c] + (plus?.[n * C + c] ?? 0);
      if (id !== skip) dw[id * C + c] += dy[n * C + c];
    }
  });
  return { y, gradients: [dw, ...(plus ? [dy] : [])] };
}

for (const [V, C, N] of [
  [1, 1, 1],
  [7, 7, 17],
  [1023, 20, 5],
  [5, 33, 1023],
]) {
  const next = uniform(V);
  const ids = Array.from({ length: N }, () => Math.floor(next() * V));

  test(`embedding() agrees with float64: ${N} ids of ${V}, width ${C}`, async () => {
    const w = given([V, C], 1);
    const ran = await run(device, [w], (t) => embedding(t, ids, [N]));
    assert.deepEqual(ran.shape, [N, C]);
    agree(ran, reference(w.data, ids, C, ran.dy));
  });

  test(`embedding() plus a tensor, with a padding row, agrees with float64: ${N} ids of ${V}, width ${C}`, async () => {
    const [w, plus] = [given([V, C], 1), given([1, N, C], 2)];
    const ran = await run(device, [w, plus], (t, p) =>
      embedding(t, ids, [1, N], { plus: p, paddingIndex: 0 }),
    );
    assert.deepEqual(ran.shape, [1, N, C]);
    agree(ran, reference(w.data, ids, C, ran.dy, plus.data, 0));
  });
}

test("embedding() reads an f16 table", async (t) => {
  if (!device.info.f16) {
    t.diagnostic(`${device.info.name} has no f16: nothing to run`);
    return;
  }
  const halves = f32ToF16(given([6, 5], 1).data);
  const table = () =>
    convert(Tensor.from(device, new Uint32Array(halves.buffer), [15]), "F16", [6, 5], "f16");
  const y = await forward(device, [], () => embedding(table(), [5, 0], [2]));
  const w = f16ToF32(halves);
  assert.deepEqual(y, Float32Array.of(...w.slice(25), ...w.slice(0, 5)));
});

test("embedding() refuses ids outside the table, and as many as do not fill the shape", () => {
  scope(device, () => {
    const w = Tensor.empty(device, [4, 2]);
    assert.throws(() => embedding(w, [0, 4], [2]), {
      name: "RangeError",
      message: "Cannot run embedding: id 4 at position 1 is outside the vocabulary of 4",
    });
    for (const id of [-1, 1.5, Number.NaN]) assert.throws(() => embedding(w, [id], [1]), RangeError);
    assert.throws(() => embedding(w, [0, 1, 2], [2, 2]), {
      name: "TypeError",
      message: "Cannot run embedding: 3 ids do not fill the shape (2, 2)",
    });
  });
});

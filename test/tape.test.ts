import assert from "node:assert/strict";
import { test } from "node:test";
import { add, full, multiply, scale } from "../src/ops/elementwise.ts";
import { scope } from "../src/tensor/scope.ts";
import { grad, isRecording, isTracked, noGradient, record, untracked } from "../src/tensor/tape.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { testDevice } from "./device.ts";

const device = await testDevice();
const live = () => device.pool.statistics.live;
const filled = (value: number, on = device) => full(on, [3], value);

/** grad() with a seed of ones; the values of the gradients, undefined where there is none. */
async function gradients(leaves: readonly Tensor[], body: () => Tensor): Promise<(number | undefined)[]> {
  const { device: on } = leaves[0];
  const result = scope(on, () =>
    grad(on, leaves, () => {
      const loss = body();
      return { loss, seeds: [[loss, filled(1, on)]] };
    }),
  );
  const found = await Promise.all(
    leaves.map(async (leaf) => (await result.gradients.get(leaf)?.read())?.[0]),
  );
  if (!leaves.includes(result.loss)) result.loss.release();
  for (const g of new Set(result.gradients.values())) g.release();
  return found;
}

test("grad() adds up the gradients of a tensor that is used more than once", async () => {
  const before = live();
  const [x, w] = [filled(5), filled(7)];
  // 2x·w + x + x·x:  d/dx = 2w + 1 + 2x,  d/dw = 2x
  const got = await gradients([x, w], () => add(add(multiply(scale(x, 2), w), x), multiply(x, x)));
  assert.deepEqual(got, [25, 10]);
  for (const t of [x, w]) t.release();
  assert.equal(live(), before);
});

test("grad() gives the seed itself where the loss is a leaf or a plain sum, and leaks neither", async () => {
  const before = live();
  const [x, w] = [filled(5), filled(7)];
  assert.deepEqual(await gradients([x], () => x), [1]);
  assert.deepEqual(await gradients([x, w], () => add(x, w)), [1, 1]);
  for (const t of [x, w]) t.release();
  assert.equal(live(), before);
});

test("grad() leaves out a leaf that the loss does not depend on", async () => {
  const [x, w] = [filled(5), filled(7)];
  assert.deepEqual(await gradients([x, w], () => scale(x, 4)), [4, undefined]);
  for (const t of [x, w]) t.release();
});

test("grad() sums several seeds", async () => {
  const x = filled(5);
  const { gradients: found } = scope(device, () =>
    grad(device, [x], () => {
      const [a, b] = [scale(x, 2), scale(x, 3)];
      return {
        loss: a,
        seeds: [
          [a, filled(1)],
          [b, filled(10)],
        ],
      };
    }),
  );
  assert.equal((await found.get(x)?.read())?.[0], 32);
});

test("record() keeps nothing of an op whose inputs are all untracked", () => {
  scope(device, () => {
    const [x, frozen] = [filled(1), filled(2)];
    grad(device, [x], () => {
      assert.ok(isRecording(device));
      const before = live();
      scope(device, () => {
        const y = multiply(frozen, frozen);
        assert.ok(!isTracked(y));
      });
      assert.equal(live(), before, "the tape held an untracked result");
      scope(device, () => assert.ok(isTracked(multiply(x, frozen))));
      assert.ok(live() > before, "the tape let a tracked result go");
      return { loss: x, seeds: [] };
    });
    assert.ok(!isRecording(device));
  });
});

test("untracked() records nothing", async () => {
  const x = filled(3);
  const got = await gradients([x], () =>
    multiply(
      x,
      untracked(device, () => multiply(x, x)),
    ),
  );
  assert.deepEqual(got, [9]);
  x.release();
});

test("noGradient() throws where a gradient arrives, and nothing stays alive", async () => {
  const x = filled(1);
  const before = live();
  const argmax = (t: Tensor) => record("argmax", [t], scale(t, 1), [], noGradient("argmax", "it is a step"));
  await assert.rejects(
    gradients([x], () => scale(argmax(scale(x, 2)), 3)),
    { message: "Cannot differentiate argmax: it is a step" },
  );
  assert.equal(live(), before);
  assert.deepEqual(
    await gradients([x], () => {
      argmax(x);
      return scale(x, 2);
    }),
    [2],
    "an op that no gradient reaches may stand on the tape",
  );
  assert.equal(live(), before);
  x.release();
});

test("grad() refuses a backward that gives no gradient, or one of another shape", async () => {
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

test("grad() refuses a seed of another shape, and a tape inside a tape", () => {
  const before = live();
  scope(device, () => {
    const x = filled(1);
    assert.throws(() => grad(device, [x], () => ({ loss: x, seeds: [[x, full(device, [4], 1)]] })), {
      name: "TypeError",
      message: "Cannot run grad: a seed is (4) but should be (3)",
    });
    const nested = () => grad(device, [x], () => grad(device, [x], () => ({ loss: x, seeds: [] })) as never);
    assert.throws(nested, { message: "Cannot start a tape: one is running on this device" });
    assert.ok(!isRecording(device));
  });
  assert.equal(live(), before);
});

test("grad() on two devices at once keeps their tapes apart", async () => {
  const other = await testDevice();
  const [x, w] = [filled(2), filled(3, other)];
  const inner: { found?: Promise<(number | undefined)[]> } = {};
  const outer = await gradients([x], () => {
    inner.found = gradients([w], () => multiply(w, w));
    return scale(x, 4);
  });
  assert.deepEqual([outer, await inner.found], [[4], [6]]);
  assert.throws(() => add(x, w), { message: "Cannot run elementwise.add: b lives on another device" });
  other.dispose();
  assert.deepEqual(await gradients([x], () => scale(x, 5)), [5], "one device outlives the other");
  x.release();
});

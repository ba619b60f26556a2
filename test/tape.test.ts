import assert from "node:assert/strict";
import { test } from "node:test";
import { twin } from "../src/gpu/kernel.ts";
import { selfAttentionWithProbabilities } from "../src/ops/attention.ts";
import { conv1d, packWeight } from "../src/ops/conv1d.ts";
import { convert, halved } from "../src/ops/convert.ts";
import { crossEntropy } from "../src/ops/cross_entropy.ts";
import { add, full, multiply, reshape, scale } from "../src/ops/elementwise.ts";
import { embedding } from "../src/ops/embedding.ts";
import { matmul } from "../src/ops/matmul.ts";
import { scope } from "../src/tensor/scope.ts";
import {
  grad,
  isRecording,
  isTracked,
  noGradient,
  record,
  recomputed,
  untracked,
} from "../src/tensor/tape.ts";
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

/** 2·t by a kernel, and no record. */
function bare(t: Tensor): Tensor {
  const y = t.like();
  twin("elementwise").run("scale", { a: t, y }, { quads: Math.ceil(t.size / 4), alpha: 2, beta: 1 }, [1]);
  return y;
}
const cutBy = (kernel: string, shape = "(3)") => ({
  message: `Cannot differentiate ${kernel}: it made a tensor of shape ${shape} from a tracked one without a record; record() its backward, or noGradient()`,
});

test("grad() names the kernel whose result was not recorded, wherever its gradient would be lost", async () => {
  const [x, w] = [filled(5), filled(7)];
  const before = live();
  const bodies: Record<string, () => Tensor> = {
    "the loss itself": () => bare(x),
    "the only input": () => scale(bare(x), 3),
    "beside a tracked input": () => multiply(bare(x), w),
    "beside another way for the gradient": () => add(x, bare(x)),
    "after recorded ops": () => multiply(bare(scale(x, 2)), w),
    "two unrecorded kernels in a row": () => add(bare(bare(x)), w),
    "under another shape": () => reshape(scale(bare(x).reshaped([3, 1]), 2), [3]),
    "inside a recomputed part": () => recomputed(device, [], () => multiply(bare(x), w)),
    "as all of a recomputed part": () => recomputed(device, [], () => bare(x)),
    "in a recomputed part in another": () =>
      recomputed(device, [], () =>
        scale(
          recomputed(device, [], () => scale(bare(x), 2)),
          2,
        ),
      ),
  };
  for (const [where, body] of Object.entries(bodies)) {
    const shape = where === "under another shape" ? "(3, 1)" : "(3)";
    await assert.rejects(gradients([x, w], body), cutBy("elementwise.scale", shape), where);
    assert.equal(live(), before, where);
  }
  for (const t of [x, w]) t.release();
});

test("grad() names a view without a record, made on the tape or before it", async () => {
  const x = filled(5);
  const early = x.reshaped([3, 1]);
  const message =
    "Cannot differentiate Tensor.reshaped: its view of shape (3, 1) of a tracked tensor has no record; use reshape() while the tape runs";
  await assert.rejects(
    gradients([x], () => reshape(scale(x.reshaped([3, 1]), 2), [3])),
    { message },
  );
  await assert.rejects(
    gradients([x], () => reshape(scale(early, 2), [3])),
    { message },
  );
  await assert.rejects(
    gradients([x], () => multiply(x, bare(x.reshaped([3, 1])).reshaped([3]))),
    cutBy("elementwise.scale"),
  );
  assert.deepEqual(await gradients([x], () => reshape(scale(reshape(x, [3, 1]), 2), [3])), [2]);
  for (const t of [x, early]) t.release();
});

test("grad() finds nothing wrong with an unrecorded tensor that no gradient would pass", async () => {
  const [x, w] = [filled(5), filled(7)];
  const before = live();
  const shown: Tensor[] = [];
  const got = await gradients([x], () => {
    shown.push(scale(bare(x), 3).keep()); // for show
    const constant = multiply(bare(w), w); // from what is not tracked
    const [still, view] = untracked(device, () => [bare(x), x.reshaped([3, 1])]);
    const stopped = add(still, reshape(bare(view), [3]));
    return multiply(scale(x, 2), add(constant, stopped));
  });
  assert.deepEqual(got, [2 * (98 + 20)]);
  for (const t of shown) t.release();
  assert.equal(live(), before);
  // A buffer that is handed on takes no history with it.
  const reused = await gradients([x], () => {
    scope(device, () => bare(x));
    return multiply(x, filled(3));
  });
  assert.deepEqual(reused, [3]);
  for (const t of [x, w]) t.release();
});

test("grad() names what a recomputed part let out", async () => {
  const x = filled(5);
  await assert.rejects(
    gradients([x], () => {
      let inside = x;
      const y = recomputed(device, [], () => {
        inside = scale(x, 2).keep();
        return scale(inside, 3);
      });
      return add(y, inside);
    }),
    {
      message:
        "Cannot differentiate recomputed: a tensor of shape (3) that was made inside it is used outside",
    },
  );
});

test("record() lets no kernel read a tracked tensor that is none of its inputs", async () => {
  const [logits, weight] = [full(device, [2, 3], 1), filled(2)];
  const loss = () => crossEntropy(logits, [0, 2], { weight });
  const own = () => reshape(loss(), [1]);
  const run = (leaves: Tensor[]) =>
    scope(device, () =>
      grad(device, leaves, () => ({ loss: own(), seeds: [[own(), full(device, [1], 1)]] })),
    );
  assert.throws(() => run([logits, weight]), {
    message:
      "Cannot differentiate crossEntropy: it reads a tracked tensor of shape (3) that it has no gradient for",
  });
  assert.throws(() => run([weight]), {
    message: /^Cannot differentiate cross_entropy\.rows: it made a tensor/,
  });
  const { gradients: found, loss: kept } = run([logits]);
  assert.ok(found.get(logits));
  for (const t of [...found.values(), kept, logits, weight]) t.release();
});

test("ops without a gradient say so where one arrives", async () => {
  const seeded = (leaf: Tensor, body: () => Tensor) =>
    scope(device, () =>
      grad(device, [leaf], () => {
        const loss = body();
        return { loss, seeds: [[loss, full(device, loss.shape, 1)]] };
      }),
    );
  const [table, qkv] = [full(device, [4, 4], 1), full(device, [1, 2, 12], 1)];
  assert.throws(() => seeded(table, () => matmul(table, convert(table, "F32", [4, 4], "f32"))), {
    message: "Cannot differentiate convert: it reads stored bytes; halved() has a gradient",
  });
  const shown = () => selfAttentionWithProbabilities(qkv, { heads: 1 });
  assert.throws(() => seeded(qkv, () => scale(shown().probabilities, 2)), {
    message: /^Cannot differentiate attention\.probabilities: /,
  });
  assert.throws(
    () => seeded(table, () => embedding(bare(table), [0, 1], [2])),
    cutBy("elementwise.scale", "(4, 4)"),
  );
  const [frames, kernel] = [full(device, [1, 5, 4], 1), full(device, [4, 4, 3], 1)];
  const packed = packWeight(kernel);
  assert.throws(() => seeded(kernel, () => conv1d(frames, kernel, undefined, {}, packed)), {
    message: "Cannot run conv1d: w is tracked but packed is not; call packWeight(w) while the tape runs",
  });
  for (const { loss, gradients: found } of [seeded(qkv, () => shown().y), seeded(table, () => halved(table))])
    for (const t of new Set([loss, ...found.values()])) t.release();
  for (const t of [table, qkv, frames, kernel, packed]) t.release();
});
